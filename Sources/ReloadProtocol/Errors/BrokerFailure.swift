/// What the broker, or the library that talks to it, said: the error behind one whose code begins with `broker.`.
public struct BrokerFailure: Error, Sendable, Equatable {
    /// The AMQP method or step, such as `queue.declare`.
    public var operation: String
    /// librabbitmq's `amqp_status_enum`, if the library failed.
    public var libraryCode: Int?
    /// The AMQP reply code, if the broker refused.
    public var replyCode: Int?
    /// The broker's own words, if the broker refused.
    public var replyText: String?
    /// Whether the broker closed only the channel, and the connection goes on.
    public var isChannelOnly = false
    /// Consumer tag of a message that was acknowledged unread.
    package var consumerTag: String?

    package init(operation: String) { self.operation = operation }
}

extension ReloadError {
    /// What broker and library said, of an error whose code begins with `broker.` and that came from there.
    public package(set) var broker: BrokerFailure? {
        get { underlying as? BrokerFailure }
        set { underlying = newValue }
    }
}
