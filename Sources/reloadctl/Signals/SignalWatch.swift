internal import Glibc
internal import ReloadFleet
internal import ReloadProtocol
internal import Synchronization

/// Ctrl-C, SIGTERM and the command's deadline, all seen by one thread.
///
/// The signals are blocked everywhere and fetched with `sigtimedwait`, so no code runs inside a signal handler. They cancel the
/// talk with the fleet. What not even that ends, name resolution, is ended with the process half a second later.
final class SignalWatch: Sendable {
    private struct State {
        var signal: Int32?
        var lastWords: (@Sendable () -> ExitStatus)?
    }

    private let state = Mutex(State())
    /// What is cancelled.
    let limit: Limit

    /// Blocks the signals for the whole process; make it before any other thread.
    init(timeout: Duration?) throws(ReloadError) {
        var signals = Self.signals
        unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)
        limit = try Limit(timeout: timeout)
        let status = DetachedThread.start("signals") { [self] in watch() }
        guard status == 0 else { throw ReloadError(.brokerResources, "no thread: \(systemText(status))") }
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

    private func watch() {
        let patience = Duration.milliseconds(500)
        var signals = Self.signals
        var next = limit.deadline.map { $0 + patience }
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
                limit.cancel()
                next = .now + patience
            } else if errno == EAGAIN {
                if limit.abandonStuck() { _exit((state.withLock { $0.lastWords } ?? saidNothing)().rawValue) }
                next = .now + patience
            }
        }
    }

    private func saidNothing() -> ExitStatus {
        if let signal { return .signal(signal) }
        StandardError.line("reloadctl: \(ReloadError.unending)")
        return .broker
    }
}
