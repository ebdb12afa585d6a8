internal import FoundationEssentials
internal import ReloadProtocol

/// Which requests were seen, by `message_id`: a redelivered request is not applied twice, and a request that is answered
/// already is only acknowledged. Bounded: the oldest answered ids are forgotten first.
struct AnswerTable {
    typealias Acknowledge = @Sendable () -> Void

    enum Arrival {
        /// Not seen before: do it.
        case new
        /// Under way: its acknowledgement was added to those that wait for the answer.
        case underWay
        /// Answered: acknowledge.
        case answered
    }

    /// An id in 16 bytes: what a UUID has, or else the beginning of a digest. Ten thousand strings take megabytes.
    private struct Key: Hashable {
        let high, low: UInt64

        init(_ id: String) {
            guard let uuid = UUID(uuidString: id) else {
                let hex = Digest.of(Array(id.utf8)).suffix(32)
                (high, low) = (UInt64(hex.prefix(16), radix: 16) ?? 0, UInt64(hex.suffix(16), radix: 16) ?? 0)
                return
            }
            let bytes = unsafe withUnsafeBytes(of: uuid.uuid) { unsafe Array($0) }
            (high, low) = (Self.number(bytes[..<8]), Self.number(bytes[8...]))
        }

        private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
            bytes.reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    private let capacity: Int
    /// Messages that are not answered.
    private(set) var underWay = 0
    private var waiting: [String: [Acknowledge]] = [:]
    private var answered: Set<Key> = []
    /// The same as a ring, oldest at `oldest`.
    private var ring: [Key] = []
    private var oldest = 0

    init(capacity: Int) {
        self.capacity = max(1, capacity)
    }

    /// Whether it was seen.
    func knows(_ id: String) -> Bool { waiting[id] != nil || answered.contains(Key(id)) }

    mutating func arrive(_ id: String, acknowledge: @escaping Acknowledge) -> Arrival {
        if waiting[id]?.append(acknowledge) != nil {
            underWay += 1
            return .underWay
        }
        guard !answered.contains(Key(id)) else { return .answered }
        waiting[id] = [acknowledge]
        underWay += 1
        return .new
    }

    /// The answer is with the broker; returns the acknowledgements that waited for it.
    mutating func answer(_ id: String) -> [Acknowledge] {
        guard let acknowledgements = waiting.removeValue(forKey: id) else { return [] }
        underWay -= acknowledgements.count
        let key = Key(id)
        guard answered.insert(key).inserted else { return acknowledgements }
        if ring.count < capacity {
            ring.append(key)
        } else {
            answered.remove(ring[oldest])
            ring[oldest] = key
            oldest = (oldest + 1) % capacity
        }
        return acknowledgements
    }
}
