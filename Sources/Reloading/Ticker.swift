internal import Dispatch
internal import ReloadProtocol

/// Calls back at an interval, on a queue of its own.
final class Ticker: Sendable {
    // Dispatch sources may be used from any thread; only their Swift protocol does not say so.
    nonisolated(unsafe) private let timer: any DispatchSourceTimer

    init(every interval: Duration, _ tick: @escaping @Sendable () -> Void) {
        let timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "reload-agent.ticker"))
        let interval = DispatchTimeInterval.milliseconds(max(1, Int(interval.wholeMilliseconds)))
        timer.schedule(deadline: .now() + interval, repeating: interval, leeway: .milliseconds(500))
        timer.setEventHandler(handler: tick)
        timer.activate()
        unsafe self.timer = timer
    }

    func stop() {
        unsafe timer.cancel()
    }
}
