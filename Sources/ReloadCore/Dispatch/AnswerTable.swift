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

    private enum Entry {
        case underWay([Acknowledge])
        case answered
    }

    private let capacity: Int
    /// Messages that are not answered.
    private(set) var underWay = 0
    private var entries: [String: Entry] = [:]
    /// Ring of answered ids, oldest at `oldest`.
    private var answered: [String] = []
    private var oldest = 0

    init(capacity: Int) {
        self.capacity = max(1, capacity)
    }

    mutating func arrive(_ id: String, acknowledge: @escaping Acknowledge) -> Arrival {
        switch entries[id] {
        case nil:
            entries[id] = .underWay([acknowledge])
            underWay += 1
            return .new
        case .underWay(var waiting):
            // Taken out, so that the list is not copied.
            entries[id] = nil
            waiting.append(acknowledge)
            entries[id] = .underWay(waiting)
            underWay += 1
            return .underWay
        case .answered:
            return .answered
        }
    }

    /// The answer is with the broker; returns the acknowledgements that waited for it.
    mutating func answer(_ id: String) -> [Acknowledge] {
        guard case .underWay(let waiting) = entries[id] else { return [] }
        entries[id] = .answered
        underWay -= waiting.count
        if answered.count < capacity {
            answered.append(id)
        } else {
            entries[answered[oldest]] = nil
            answered[oldest] = id
            oldest = (oldest + 1) % capacity
        }
        return waiting
    }
}
