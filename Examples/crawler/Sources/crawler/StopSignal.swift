import Dispatch
import Glibc

/// Set once and for all, by SIGINT, SIGTERM or the end of the given time; everything that pauses waits for it instead of
/// sleeping.
final class StopSignal: Sendable {
    private let isSet = DispatchSemaphore(value: 0)
    // Dispatch sources may be used from any thread; only their Swift protocol does not say so.
    nonisolated(unsafe) private let sources: [any DispatchSourceSignal]

    init() {
        unsafe sources = [SIGINT, SIGTERM].map { number in
            _ = signal(number, SIG_IGN)
            return DispatchSource.makeSignalSource(signal: number, queue: .global())
        }
        for source in unsafe sources {
            source.setEventHandler { [weak self] in self?.set() }
            source.resume()
        }
    }

    func set() {
        isSet.signal()
    }

    /// Returns true as soon as the signal is set, false when the time has come first.
    func wait(until time: DispatchTime) -> Bool {
        guard isSet.wait(timeout: time) == .success else { return false }
        // For the next one that waits.
        isSet.signal()
        return true
    }
}
