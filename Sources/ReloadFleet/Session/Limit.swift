internal import Glibc
internal import ReloadAMQP
public import ReloadProtocol
internal import Synchronization

/// When a talk with a fleet has to end: at a time, or when somebody cancels it, from any thread.
///
/// Whatever waits for the broker looks at it. A call that cannot look (connecting, declaring, sending) has its socket shut
/// down. What not even that ends is name resolution: see ``abandonStuck()``.
public final class Limit: Sendable {
    private struct State {
        var isCancelled = false
        var isOver = false
        /// Somebody else goes on in the place of the call that hangs: it never returns.
        var isAbandoned = false
        /// One for each thread that is inside a call which only this can end.
        var blocked: [ObjectIdentifier: Interrupter] = [:]
    }

    /// What the thread that waits for the deadline shares with it.
    private final class Shared: Sendable {
        let state = Mutex(State())
        /// Readable once it was cancelled, or nobody needs it any more.
        let wake: WakeDescriptor

        init() throws(ReloadError) { wake = try WakeDescriptor() }

        func interrupt() {
            state.withLock { state in
                state.isOver = true
                for interrupter in state.blocked.values { interrupter.interrupt() }
            }
        }
    }

    private let shared: Shared
    /// When everything has to be over; nil for a talk without an end.
    public let deadline: ContinuousClock.Instant?

    /// Begins now.
    ///
    /// - Parameter timeout: nil: only ``cancel()`` ends it.
    /// - Throws: `broker.resources` when the process has no descriptor or no thread for it.
    public init(timeout: Duration? = nil) throws(ReloadError) {
        deadline = timeout.map { .now + $0 }
        let shared = try Shared()
        self.shared = shared
        guard let deadline else { return }
        let status = DetachedThread.start("reload-limit", stackSize: 64 << 10) {
            if !shared.wake.wait(ContinuousClock.now.duration(to: deadline)) { shared.interrupt() }
        }
        guard status == 0 else { throw ReloadError(.brokerResources, systemText(status), operation: "pthread_create") }
    }

    deinit { shared.wake.signal() }

    /// Ends the talk: what it waits in throws `broker.cancelled`.
    public func cancel() {
        shared.state.withLock { $0.isCancelled = true }
        shared.wake.signal()
        shared.interrupt()
    }

    /// Whether ``cancel()`` was called.
    public var isCancelled: Bool { shared.state.withLock { $0.isCancelled } }

    /// Whether the deadline has passed.
    public var isOver: Bool { deadline.map { $0 <= .now } ?? false }

    /// Whether it is time to end and a thread still hangs where nothing ends it. From the first `true` on that thread never
    /// returns: whoever asked has to end the process.
    public func abandonStuck() -> Bool {
        shared.state.withLock { state in
            if state.isOver && !state.blocked.isEmpty { state.isAbandoned = true }
            return state.isAbandoned
        }
    }

    /// Throws when it is time to end: `broker.cancelled`, or `broker.timeout` after the deadline.
    ///
    /// - Parameter reason: what to say of the deadline.
    func check(_ reason: @autoclosure () -> String) throws(ReloadError) {
        if isCancelled { throw .cancelled }
        if isOver { throw .tooSlow(reason()) }
    }

    /// What is left until the deadline, at most `most`.
    func left(_ most: Duration) -> Duration {
        max(.zero, min(most, deadline.map { ContinuousClock.now.duration(to: $0) } ?? most))
    }

    /// Readable once it was cancelled.
    var descriptor: Int32 { shared.wake.descriptor }

    /// Runs a call that may hang, and has it ended when the time comes.
    func guarding<Result: ~Copyable>(
        _ interrupter: Interrupter, _ call: () throws(ReloadError) -> Result
    ) throws(ReloadError) -> Result {
        shared.state.withLock { state in
            state.blocked[ObjectIdentifier(interrupter)] = interrupter
            if state.isOver { interrupter.interrupt() }
        }
        defer {
            let isAbandoned = shared.state.withLock { state in
                state.blocked[ObjectIdentifier(interrupter)] = nil
                return state.isAbandoned
            }
            while isAbandoned { pause() }
        }
        return try call()
    }

    /// Sleeps; the end comes early when it was cancelled, or with the deadline.
    func sleep(_ duration: Duration) { _ = shared.wake.wait(left(duration)) }
}

extension ReloadError {
    private static let limit = "limit"

    /// Somebody cancelled the talk.
    static let cancelled = ReloadError(.brokerCancelled, "cancelled", underlying: BrokerFailure(operation: limit))

    /// The talk's own limit was reached.
    static func tooSlow(_ message: String) -> ReloadError {
        ReloadError(.brokerTimeout, message, underlying: BrokerFailure(operation: limit))
    }

    /// Neither cancelling nor a socket that is shut down ends these.
    package static let unending = tooSlow("name resolution or connecting does not end")

    /// Whether it was the talk's own limit.
    var isDeadline: Bool { code == .brokerTimeout && operation == Self.limit }
}
