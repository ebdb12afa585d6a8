internal import Synchronization

/// One activation of a version in this process.
///
/// A generation counts the calls that are inside it. It is retired when a newer one takes its place, and drained when the
/// last call has returned; only then is its value closed.
package final class Generation<Value: Sendable>: Sendable {
    /// Local counter for each module, never reused.
    package let number: UInt64
    /// What was activated.
    package let version: VersionReport
    /// The copy it was made from; kept as long as it may be rolled back to or still runs.
    package let artifact: StagedArtifact?
    package let value: Value
    private let calls = Atomic<Int>(0)

    init(number: UInt64, version: VersionReport, artifact: StagedArtifact?, value: Value) {
        self.number = number
        self.version = version
        self.artifact = artifact
        self.value = value
    }

    /// Calls that have not returned.
    package var inFlight: Int { calls.load(ordering: .sequentiallyConsistent) }

    fileprivate func enter() {
        calls.add(1, ordering: .acquiring)
    }

    /// Whether this was the last call inside.
    fileprivate func leave() -> Bool {
        calls.subtract(1, ordering: .sequentiallyConsistent).newValue == 0
    }
}

/// The live handle of one module: the generation that new calls enter, and those that old calls have not left.
///
/// Entering and replacing take the same lock, so no call enters a generation after it was retired; leaving takes the lock
/// only when a generation is waiting to be drained.
package final class Slot<Value: Sendable>: Sendable {
    private struct Lingering {
        var generation: Generation<Value>
        var since: ContinuousClock.Instant
    }

    private struct State {
        var current: Generation<Value>
        var lingering: [Lingering] = []
        var nextNumber: UInt64
    }

    private let state: Mutex<State>
    private let hasLingering = Atomic<Bool>(false)
    /// Called once for each drained generation, on the thread of the last call or of the swap.
    private let onDrained: @Sendable (Generation<Value>) -> Void

    /// A slot that serves its first generation, number 1.
    package init(
        version: VersionReport, artifact: StagedArtifact?, value: Value,
        onDrained: @escaping @Sendable (Generation<Value>) -> Void = { _ in }
    ) {
        let first = Generation(number: 1, version: version, artifact: artifact, value: value)
        state = Mutex(State(current: first, nextNumber: 2))
        self.onDrained = onDrained
    }

    /// The generation that new calls enter.
    package var current: Generation<Value> { state.withLock { $0.current } }

    /// Runs `body` inside the current generation: whatever happens meanwhile, it is not closed before `body` returns.
    package func withCurrent<Result, Failure: Error>(
        _ body: (Generation<Value>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let generation = state.withLock { state in
            state.current.enter()
            return state.current
        }
        defer {
            // This thread lowers the count, then looks at the flag; `retire` sets the flag, then looks at the count. All
            // four are sequentially consistent, so at least one of the two sees the other and drains.
            if generation.leave(), hasLingering.load(ordering: .sequentiallyConsistent) { drain() }
        }
        return try body(generation)
    }

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
            return (old: old, new: new)
        }
    }

    /// Puts a replaced generation back under its old number and retires the one that was current.
    package func restore(_ old: Generation<Value>) {
        let failed = state.withLock { state in
            let failed = state.current
            state.current = old
            return failed
        }
        retire(failed)
    }

    /// Closes a replaced generation as soon as it has no calls.
    package func retire(_ generation: Generation<Value>) {
        state.withLock { state in
            state.lingering.append(Lingering(generation: generation, since: .now))
            hasLingering.store(true, ordering: .sequentiallyConsistent)
        }
        drain()
    }

    /// Hands every retired generation without calls to `onDrained`.
    private func drain() {
        let drained = state.withLock { state in
            let drained = state.lingering.filter { $0.generation.inFlight == 0 }
            state.lingering.removeAll { entry in drained.contains { $0.generation === entry.generation } }
            hasLingering.store(!state.lingering.isEmpty, ordering: .sequentiallyConsistent)
            return drained
        }
        for entry in drained { onDrained(entry.generation) }
    }

    /// The retired generations that still have calls.
    package var lingering: [LingeringReport] {
        let now = ContinuousClock.now
        return state.withLock { state in
            state.lingering.filter { $0.generation.inFlight > 0 }.map { entry in
                let age = entry.since.duration(to: now)
                return LingeringReport(
                    generation: entry.generation.number, inFlight: entry.generation.inFlight,
                    ageMilliseconds: Int(age / .milliseconds(1)))
            }
        }
    }

    /// Retired generations that are not closed yet.
    package var heldGenerations: Int { state.withLock { $0.lingering.count } }
}
