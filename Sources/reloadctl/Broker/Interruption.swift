internal import Foundation
internal import ReloadAMQP
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Ends what would hang: Ctrl-C, SIGTERM and the command's deadline, all seen by one thread.
///
/// The signals are blocked everywhere and fetched with `sigtimedwait`, so no code runs inside a signal handler. While the
/// main thread is inside a call that cannot look at ``descriptor`` (connecting, declaring, sending), its socket is shut
/// down instead; what not even that ends, name resolution, is ended with the process half a second later.
final class Interruption: Sendable {
    private struct State {
        var signal: Int32?
        var lastWords: (@Sendable () -> ExitStatus)?
        var isOver = false
        /// The watching thread says the last words: the main one says nothing any more.
        var isEnding = false
        /// Set while the main thread is inside a call that only this can end.
        var blocked: Interrupter?
    }

    private let state = Mutex(State())
    /// When everything has to be over; nil for a command without an end.
    let deadline: ContinuousClock.Instant?
    /// Readable once a signal has arrived.
    let descriptor: Int32
    private let wakeDescriptor: Int32

    /// Blocks the signals for the whole process; make it before any other thread.
    init(timeout: Duration?) throws(BrokerError) {
        deadline = timeout.map { .now + $0 }
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else {
            throw BrokerError(.resources, "no pipe: error \(errno)", operation: "pipe")
        }
        (descriptor, wakeDescriptor) = (ends[0], ends[1])
        var signals = Self.signals
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        Thread { [self] in watch() }.start()
    }

    private static var signals: sigset_t {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, SIGINT)
        unsafe sigaddset(&signals, SIGTERM)
        return signals
    }

    /// The signal that asked for the end.
    var signal: Int32? { state.withLock { $0.signal } }

    /// What the process says and ends with when it is over and the main thread still hangs where nothing ends it. Without
    /// any, the broker counts as unreachable.
    func setLastWords(_ words: (@Sendable () -> ExitStatus)?) {
        state.withLock { $0.lastWords = words }
    }

    /// Whether the deadline has passed.
    var isOver: Bool { deadline.map { $0 <= .now } ?? false }

    /// What is left until the deadline, at most `most`.
    func left(_ most: Duration) -> Duration {
        max(.zero, min(most, deadline.map { ContinuousClock.now.duration(to: $0) } ?? most))
    }

    /// Runs a call that may hang, and has it ended when the time comes.
    func guarding<Failure: Error, Result: ~Copyable>(
        _ interrupter: Interrupter, _ call: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        state.withLock { state in
            state.blocked = interrupter
            if state.isOver { interrupter.interrupt() }
        }
        defer {
            let isEnding = state.withLock { state in
                state.blocked = nil
                return state.isEnding
            }
            while isEnding { pause() }
        }
        return try call()
    }

    /// Sleeps; a signal or the deadline ends it early.
    func sleep(_ duration: Duration) {
        var wake = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = unsafe poll(&wake, 1, Int32(clamping: left(duration).wholeMilliseconds))
    }

    private func watch() {
        var signals = Self.signals
        var next = deadline
        while true {
            var number: Int32
            if let end = next {
                let left = max(.zero, ContinuousClock.now.duration(to: end)).components
                var time = timespec(tv_sec: Int(left.seconds), tv_nsec: Int(left.attoseconds / 1_000_000_000))
                number = unsafe sigtimedwait(&signals, nil, &time)
            } else {
                number = unsafe sigwaitinfo(&signals, nil)
            }
            if number > 0 {
                // The second one of an impatient person.
                if let signal { _exit(ExitStatus.signal(signal).rawValue) }
                state.withLock { $0.signal = number }
                _ = unsafe write(wakeDescriptor, [1], 1)
            } else if errno != EAGAIN {
                continue
            } else if mustEnd() {
                _exit((state.withLock { $0.lastWords } ?? saidNothing)().rawValue)
            }
            let wasOver = state.withLock { state in
                defer { state.isOver = true }
                state.blocked?.interrupt()
                return state.isOver
            }
            next = wasOver ? nil : .now + .milliseconds(500)
        }
    }

    /// Whether the main thread still hangs; it does from now on.
    private func mustEnd() -> Bool {
        state.withLock { state in
            state.isEnding = state.isOver && state.blocked != nil
            return state.isEnding
        }
    }

    private func saidNothing() -> ExitStatus {
        if let signal { return .signal(signal) }
        StandardError.line("reloadctl: \(BrokerError.unending)")
        return .broker
    }
}

extension BrokerError {
    private static let limit = "--timeout"

    /// The command's own limit was reached.
    static func tooSlow(_ message: String) -> BrokerError { BrokerError(.timeout, message, operation: limit) }

    /// Neither a signal nor a socket that is shut down ends these.
    static let unending = tooSlow("name resolution or connecting does not end")

    /// Whether it was the command's own limit.
    var isDeadline: Bool { code == .timeout && operation == Self.limit }
}
