public import CReloadGuard
package import ReloadProtocol
internal import Synchronization

/// The live handle of one module: the generation that new calls use, and those that old calls have not left.
///
/// Calls take no lock and count nothing that another thread writes: see `CReloadGuard.h` for how a replaced generation is
/// known to be free. Whoever lets go of it last drains it.
@safe @usableFromInline
package final class Slot<Value: Sendable>: Sendable {
    private struct Lingering {
        var generation: Generation<Value>
        var since: ContinuousClock.Instant
        /// The heavy fence has been executed since it was replaced.
        var isFenced: Bool
    }

    private struct State {
        var current: Generation<Value>
        var lingering: [Lingering] = []
        var nextNumber: UInt64
    }

    // Allocated and freed with this object; in between only the guard's atomic operations touch it.
    @usableFromInline nonisolated(unsafe) let live: UnsafeMutablePointer<creload_guard_live>
    private let state: Mutex<State>
    private let close: @Sendable (Generation<Value>) -> Void
    private let elsewhere: Elsewhere

    /// Runs its argument on another thread, which may be blocked.
    package typealias Elsewhere = @Sendable (_ work: @escaping @Sendable () -> Void) -> Void

    /// A slot that serves its first generation, number 1.
    ///
    /// - Parameters:
    ///   - close: called once for each drained generation. It may take its time, so no call that happens to be the last one
    ///     waits for it.
    ///   - elsewhere: where it runs then.
    package init(
        version: VersionReport, artifact: StagedArtifact?, value: Value, elsewhere: @escaping Elsewhere,
        close: @escaping @Sendable (Generation<Value>) -> Void = { $0.close() }
    ) {
        let first = Generation(number: 1, version: version, artifact: artifact, value: value)
        unsafe live = UnsafeMutableRawPointer.allocate(
            byteCount: Int(CRELOAD_GUARD_CACHE_LINE), alignment: Int(CRELOAD_GUARD_CACHE_LINE)
        ).bindMemory(to: creload_guard_live.self, capacity: 1)
        unsafe live.initialize(to: creload_guard_live(current: first.block))
        state = Mutex(State(current: first, nextNumber: 2))
        self.close = close
        self.elsewhere = elsewhere
    }

    deinit { unsafe UnsafeMutableRawPointer(live).deallocate() }

    /// The generation that new calls use.
    package var current: Generation<Value> { state.withLock { $0.current } }

    // MARK: Calling

    /// Runs `body` with the current value: whatever happens meanwhile, it is not closed before `body` returns. Inside a
    /// snapshot it is the value of the snapshot.
    @inlinable
    package func withCurrent<Result, Failure: Error>(
        _ body: (borrowing Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try unsafe withPointer { (value) throws(Failure) in try body(unsafe value.pointee) }
    }

    /// The same with the value where it is: to look at one field of it loads that field and nothing else.
    @inlinable
    package func withPointer<Result, Failure: Error>(
        _ body: (UnsafePointer<Value>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let hold = unsafe creload_guard_enter(live)
        guard let block = unsafe hold.block else { return try unsafe withPointerSlowly(body) }
        defer { if unsafe creload_guard_leave(live, hold) { drainElsewhere() } }
        return try unsafe body(Self.value(in: block))
    }

    /// The same for a thread's first call, inside a snapshot, and for calls that are nested deeply.
    @usableFromInline
    func withPointerSlowly<Result, Failure: Error>(
        _ body: (UnsafePointer<Value>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        if let pin = Snapshot.current?.pin(of: self) { return try unsafe pin.withPointer(in: self, body) }
        let hold = unsafe enterSlowly()
        guard let block = unsafe hold.block else { return try unsafe pin().withPointer(in: self, body) }
        defer { if unsafe creload_guard_leave_slowly(live, hold) { drainElsewhere() } }
        return try unsafe body(Self.value(in: block))
    }

    private func enterSlowly() -> creload_guard_hold {
        let hold = unsafe creload_guard_enter_slowly(live)
        if unsafe hold.is_late { drainElsewhere() }
        return unsafe hold
    }

    @inlinable
    static func value(in block: UnsafeMutablePointer<creload_guard_block>) -> UnsafePointer<Value> {
        unsafe UnsafePointer(creload_guard_value(block).assumingMemoryBound(to: Value.self))
    }

    /// Whether a call that begins now would use this generation.
    package func serves(_ generation: Generation<Value>) -> Bool {
        let hold = unsafe enterSlowly()
        guard let block = unsafe hold.block else { return current === generation }
        defer { if unsafe creload_guard_leave_slowly(live, hold) { drainElsewhere() } }
        return unsafe block == generation.block
    }

    /// Holds the generation that a call would use until the pin is gone.
    package func pin() -> Pin {
        if let pin = Snapshot.current?.pin(of: self) { return pin }
        // Nothing is replaced while the lock is held.
        return state.withLock { Pin($0.current, in: self) }
    }

    /// The generation that a call would use.
    var seen: Generation<Value> {
        Snapshot.current?.pin(of: self)?.generation as? Generation<Value> ?? current
    }

    // MARK: Replacing

    /// Makes a new generation current. The old one keeps its value until it is given to ``retire(_:)``, so that it can be
    /// put back with ``restore(_:)`` as long as the new one is not proven.
    package func replace(
        version: VersionReport, artifact: StagedArtifact?, value: Value
    ) -> (old: Generation<Value>, new: Generation<Value>) {
        state.withLock { state in
            let old = state.current
            let new = Generation(number: state.nextNumber, version: version, artifact: artifact, value: value)
            state.nextNumber += 1
            state.current = new
            unsafe creload_guard_replace(live, new.block)
            return (old: old, new: new)
        }
    }

    /// Puts a replaced generation back under its old number; the one that was current is to be retired.
    package func restore(_ old: Generation<Value>) {
        state.withLock { state in
            state.current = old
            unsafe creload_guard_replace(live, old.block)
        }
    }

    /// A replaced generation is not needed any more: whoever lets go of it last has it closed, or the next ``drain()``.
    package func retire(_ generation: Generation<Value>) {
        state.withLock { state in
            state.lingering.append(Lingering(generation: generation, since: .now, isFenced: creload_guard_fence()))
        }
    }

    /// Closes every retired generation that nothing holds.
    package func drain() {
        for generation in takeDrained() { close(generation) }
    }

    /// The same for a thread that has other things to do.
    @usableFromInline
    func drainElsewhere() {
        let drained = takeDrained()
        guard !drained.isEmpty else { return }
        elsewhere { [close] in for generation in drained { close(generation) } }
    }

    private func takeDrained() -> [Generation<Value>] {
        state.withLock { state in
            // Without the fence nothing is known; the next one to look tries again.
            if state.lingering.contains(where: { !$0.isFenced }), creload_guard_fence() {
                for index in state.lingering.indices { state.lingering[index].isFenced = true }
            }
            let drained = state.lingering.filter { $0.isFenced && $0.generation.inFlight == 0 }.map(\.generation)
            state.lingering.removeAll { entry in drained.contains { $0 === entry.generation } }
            return drained
        }
    }

    /// The current generation, and retired ones that are not about to be closed.
    package var generations: [Generation<Value>] {
        state.withLock { state in [state.current] + state.lingering.map(\.generation) }
    }

    /// The retired generations that something holds.
    package var lingering: [LingeringReport] {
        let now = ContinuousClock.now
        return state.withLock { state in
            state.lingering.compactMap { entry in
                let inFlight = entry.generation.inFlight
                guard inFlight > 0 else { return nil }
                return LingeringReport(
                    generation: entry.generation.number, inFlight: inFlight,
                    ageMilliseconds: Int(entry.since.duration(to: now).wholeMilliseconds))
            }
        }
    }
}

/// Frees retired generations that nobody uses.
protocol Draining: AnyObject, Sendable {
    func drainElsewhere()
}

extension Slot: Draining {}

/// Holds one generation for as long as it exists, on any thread and across suspensions.
@safe package final class Pin: Sendable {
    // They belong to the generation and to the slot.
    nonisolated(unsafe) private let block: UnsafeMutablePointer<creload_guard_block>
    nonisolated(unsafe) let live: UnsafeMutablePointer<creload_guard_live>
    let generation: any AnyObject & Sendable
    private let slot: any Draining

    /// - Parameter generation: the current one, and it stays that meanwhile.
    fileprivate init<Value>(_ generation: Generation<Value>, in slot: Slot<Value>) {
        unsafe block = generation.block
        unsafe live = slot.live
        self.generation = generation
        self.slot = slot
        unsafe creload_guard_pin(block)
    }

    deinit { if unsafe creload_guard_unpin(live, block) { slot.drainElsewhere() } }

    /// Runs `body` with the value of the generation, which must be one of this slot.
    package func withValue<Value, Result, Failure: Error>(
        of slot: Slot<Value>, _ body: (borrowing Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try unsafe withPointer(in: slot) { (value) throws(Failure) in try body(unsafe value.pointee) }
    }

    func withPointer<Value, Result, Failure: Error>(
        in slot: Slot<Value>, _ body: (UnsafePointer<Value>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(self.slot === slot, "a pin of another module")
        return try withExtendedLifetime(self) { () throws(Failure) in
            try unsafe body(Slot<Value>.value(in: block))
        }
    }
}
