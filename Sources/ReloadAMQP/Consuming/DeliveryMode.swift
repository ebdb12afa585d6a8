/// How an agent gets its messages.
package enum DeliveryMode: Sendable, Equatable {
    /// From the journal, with what was published while it was away.
    case stream
    /// From a queue of its own that the broker keeps while it is away, at most for `expiry` milliseconds.
    case queue(name: String, expiry: Int64)
    /// From a queue that lives as long as the connection; what is published while it is away is lost.
    case ephemeral
}

/// Says which message an acknowledgement is for.
package struct Receipt: Sendable, Hashable {
    /// The connection's number.
    let epoch: UInt64
    let tag: UInt64
}
