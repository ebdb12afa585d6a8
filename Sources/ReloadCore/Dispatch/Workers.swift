internal import Dispatch
internal import Glibc
internal import ReloadProtocol
internal import Synchronization

/// The threads that reload and answer. A reload may block for minutes, so each gets a thread of its own and none of Swift's
/// cooperative ones; there are not many more than modules, since each has one reload at a time. One idle thread is kept, the
/// others end. Requests for modules that are not there, or that have expired, need one for a moment too: so their number has a
/// limit.
package final class Workers: Sendable {
    package typealias Work = @Sendable () -> Void

    private struct State {
        var pending: [Work] = []
        var idle = 0
        var threads = 0
        var running = 0
        var isStopping = false
    }

    /// Threads at a time.
    static let limit = 128

    private let state = Mutex(State())
    private let wake = DispatchSemaphore(value: 0)

    package init() {}

    /// Runs `work` on a thread that is idle or new, or when there are too many on the first that has time.
    package func run(_ work: @escaping Work) {
        let (isIdle, needsThread) = state.withLock { state in
            state.pending.append(work)
            let isIdle = state.idle > 0
            let needsThread = !isIdle && state.threads < Self.limit
            state.idle -= isIdle ? 1 : 0
            state.threads += needsThread ? 1 : 0
            return (isIdle, needsThread)
        }
        if isIdle { wake.signal() }
        guard needsThread, DetachedThread.start("reload-worker", { [self] in serve() }) != 0 else { return }
        // No thread is to be had: rather here than never.
        state.withLock { $0.threads -= 1 }
        runPending()
    }

    /// Waits until nothing runs, at most for `grace`. Idle threads end.
    package func stop(grace: Duration) {
        let idle = state.withLock { state in
            state.isStopping = true
            let idle = state.idle
            state.idle = 0
            return idle
        }
        for _ in 0..<idle { wake.signal() }
        let deadline = ContinuousClock.now + grace
        while state.withLock({ $0.running > 0 || !$0.pending.isEmpty }), ContinuousClock.now < deadline {
            usleep(2_000)
        }
    }

    private func runPending() {
        while true {
            let work = state.withLock { state -> Work? in
                guard !state.pending.isEmpty else { return nil }
                state.running += 1
                return state.pending.removeFirst()
            }
            guard let work else { return }
            work()
            state.withLock { $0.running -= 1 }
        }
    }

    private func serve() {
        while true {
            runPending()
            let mayWait = state.withLock { state in
                guard state.pending.isEmpty, state.idle == 0, !state.isStopping else { return false }
                state.idle += 1
                return true
            }
            if mayWait {
                wake.wait()
            } else {
                let isOver = state.withLock { state in
                    guard state.pending.isEmpty else { return false }
                    state.threads -= 1
                    return true
                }
                if isOver { return }
            }
        }
    }
}
