internal import CBench
internal import Dispatch
internal import Glibc
internal import Logging
internal import Reloading

extension HotPath {
    /// Times each of many calls on one thread, in turn while nothing happens, while the driver has candidates validated, and
    /// while it reloads.
    ///
    /// - Parameter consumes: signalled when the agent gets requests.
    static func latency(
        _ agent: ReloadAgent, consumes: DispatchSemaphore, _ file: String, _ rounds: Int, _ seconds: Double
    ) throws {
        let plugin = try agent.plugin("empty", file: file)
        try agent.start()
        consumes.wait()
        var calls = Histogram()
        for _ in 0..<rounds {
            for kind in ["quiet", "validates", "swaps"] {
                Line(begin: kind).say()
                calls.clear()
                let end = cbench_now() + Int64(seconds * 1e9)
                var before = cbench_now()
                while before < end {
                    cbench_keep(Int64((try? plugin.call([]))?.count ?? -1))
                    let after = cbench_now()
                    calls.add(after - before)
                    before = after
                }
                Line(
                    variant: kind, p50: calls.quantile(0.5), p99: calls.quantile(0.99),
                    p9999: calls.quantile(0.9999), max: calls.quantile(1), count: calls.count
                ).say()
            }
        }
        // The driver waits for the answer to its last request, and ends this process then.
        while true { pause() }
    }
}

/// Hears in the log when the consumer has its connection.
struct ConsumerLog: LogHandler {
    let consumes = DispatchSemaphore(value: 0)
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.notice

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        // The thread that publishes says the same.
        if "\(event.message)" == "connected to the broker", unsafe cbench_thread_is("reload-consumer") {
            consumes.signal()
        }
    }
}

/// Counts of durations in buckets that are at most 1/64 wide.
private struct Histogram {
    private var buckets = [Int](repeating: 0, count: 58 * 128)
    private(set) var count = 0
    private var longest: Int64 = 0

    mutating func clear() { self = Histogram() }

    mutating func add(_ nanoseconds: Int64) {
        let value = UInt64(max(nanoseconds, 0))
        let shift = max(0, 57 - value.leadingZeroBitCount)
        buckets[shift * 128 + Int(value >> UInt64(shift))] += 1
        count += 1
        longest = max(longest, nanoseconds)
    }

    /// Nanoseconds that this part of the durations does not exceed; of 1, the longest.
    func quantile(_ part: Double) -> Double {
        guard part < 1 else { return Double(longest) }
        var left = Int((Double(count) * part).rounded(.up))
        for (index, bucket) in buckets.enumerated() {
            left -= bucket
            if left <= 0 {
                let shift = index / 128
                return Double((index % 128 + 1) << shift) - 1
            }
        }
        return Double(longest)
    }
}
