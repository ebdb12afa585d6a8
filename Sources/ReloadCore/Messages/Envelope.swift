/// One message as it crossed the broker: owned bytes and the AMQP basic properties the protocol uses.
public struct Envelope: Sendable, Equatable {
    /// A header value. Values of other AMQP kinds (tables, arrays, floats) arrive as ``other``.
    public enum HeaderValue: Sendable, Equatable {
        case string(String)
        case integer(Int64)
        case bool(Bool)
        case other
    }

    /// The body's bytes; empty when the body was over the limit (see ``bodySize``).
    public var body: [UInt8]
    /// Size of the body on the wire, in bytes; larger than `body.count` only when the body was over the limit and not kept.
    public var bodySize: UInt64
    /// MIME type, `application/json` for requests and reports.
    public var contentType: String?
    /// `reload.request.v1`, `reload.status.v1`.
    public var type: String?
    /// Identifies the message; a UUID for requests.
    public var messageID: String?
    /// The operation a request belongs to; for a report the request it answers.
    public var correlationID: String?
    /// Queue that wants a copy of the report.
    public var replyTo: String?
    /// Application that published it.
    public var appID: String?
    /// User the broker checked, if the publisher gave one.
    public var userID: String?
    /// Time to live in the broker, in milliseconds as decimal digits.
    public var expiration: String?
    /// Seconds since 1970.
    public var timestamp: UInt64?
    /// Headers by name.
    public var headers: [String: HeaderValue]

    /// Makes an envelope with the given body and no properties.
    public init(body: [UInt8]) {
        self.body = body
        self.bodySize = UInt64(body.count)
        self.headers = [:]
    }
}
