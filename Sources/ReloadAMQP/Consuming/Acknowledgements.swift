/// The deliveries of one connection: which are open, and which are settled and to be acknowledged. A run of settled ones is
/// acknowledged in one frame, and none that is open ever is: the broker would forget it, or close the channel over a tag that
/// it does not know.
struct Acknowledgements {
    /// Handed out, and settled by nobody.
    private var open: Set<UInt64> = []
    /// Settled, and not acknowledged.
    private var settled: [UInt64] = []
    /// How many may collect before they are sent in the middle of a batch.
    private let limit: Int

    /// - Parameter prefetch: how many deliveries the broker leaves unacknowledged.
    init(prefetch: Int) {
        limit = max(1, prefetch / 4)
        settled.reserveCapacity(limit)
    }

    /// How many are open.
    var openCount: Int { open.count }

    /// Whether something is to be acknowledged.
    var areWaiting: Bool { !settled.isEmpty }

    /// Whether the broker should not wait for them any longer.
    var isDue: Bool { settled.count >= limit }

    /// A delivery is handed out.
    mutating func handedOut(_ tag: UInt64) { open.insert(tag) }

    /// A delivery is settled that was not handed out.
    mutating func passed(_ tag: UInt64) { settled.append(tag) }

    /// A delivery that was handed out is settled; false when it is not open.
    mutating func settle(_ tag: UInt64) -> Bool {
        guard open.remove(tag) != nil else { return false }
        settled.append(tag)
        return true
    }

    /// Counts everything as settled.
    mutating func settleAll() {
        settled += open
        open = []
    }

    /// Sends what is settled: one acknowledgement for all before the oldest that is open, and one for each of the others.
    mutating func send<Failure>(
        _ acknowledge: (_ tag: UInt64, _ multiple: Bool) throws(Failure) -> Void
    ) throws(Failure) {
        guard !settled.isEmpty else { return }
        let oldest = open.min() ?? .max
        var last: UInt64?
        var count = 0
        for tag in settled where tag < oldest {
            last = max(last ?? tag, tag)
            count += 1
        }
        if let last { try acknowledge(last, count > 1) }
        for tag in settled where tag > oldest { try acknowledge(tag, false) }
        settled.removeAll(keepingCapacity: true)
    }
}
