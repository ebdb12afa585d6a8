import Dispatch
import Foundation

/// Set once, by SIGINT, SIGTERM or the end of the given time; everything that pauses waits for it instead of sleeping.
final class StopSignal: @unchecked Sendable {  // `isSet` is touched only while `condition` is locked
    private let condition = NSCondition()
    private var isSet = false
    private let sources: [any DispatchSourceSignal]

    init() {
        sources = [SIGINT, SIGTERM].map { number in
            _ = signal(number, SIG_IGN)
            return DispatchSource.makeSignalSource(signal: number, queue: .global())
        }
        for source in sources {
            source.setEventHandler { [weak self] in self?.set() }
            source.resume()
        }
    }

    func set() {
        condition.lock()
        isSet = true
        condition.broadcast()
        condition.unlock()
    }

    /// Returns true as soon as the signal is set, false when the time has come first.
    func wait(until time: Date) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        while !isSet {
            guard condition.wait(until: time) else { break }
        }
        return isSet
    }
}
