package import ReloadProtocol

/// One thing the broker said.
package enum BrokerEvent: Sendable, Equatable {
    /// A message for a consumer of this connection.
    case delivery(Delivery)
    /// A mandatory message that no queue took; its confirm follows.
    case returned(Returned)
    /// The broker has the message with this sequence number, and with `multiple` all before it.
    case confirmed(sequence: UInt64, multiple: Bool)
    /// The broker did not take the message with this sequence number, and with `multiple` all before it.
    case refused(sequence: UInt64, multiple: Bool)
    /// The broker ended the consumer, for example because its queue was deleted.
    case cancelled(consumerTag: String)
    /// The broker is short of something and no longer reads from connections that publish.
    case blocked(reason: String)
    /// The broker reads again.
    case unblocked
}

/// A message on its way to a consumer.
package struct Delivery: Sendable, Equatable {
    /// The message; its body is empty when it is over the limit.
    package var envelope: Envelope
    /// The delivery tag to acknowledge on the same connection.
    package var tag: UInt64
    /// Whether the broker has handed it out before.
    package var isRedelivered: Bool
    /// The position in the stream, from the header `x-stream-offset`; `nil` when the queue is no stream.
    package var streamOffset: Int64?
    /// The exchange it was published to.
    package var exchange: String
    /// The routing key it was published with.
    package var routingKey: String
    /// Whether the body was over the limit and not kept.
    package var isOversized: Bool
    /// The consumer it is for.
    package var consumerTag: String
}

/// A message that came back.
package struct Returned: Sendable, Equatable {
    /// The message as the broker had it.
    package var envelope: Envelope
    /// The exchange it was published to.
    package var exchange: String
    /// The routing key it was published with.
    package var routingKey: String
    /// The AMQP reply code, 312 for no route.
    package var replyCode: Int
    /// The broker's words.
    package var replyText: String
}
