internal import FoundationEssentials

/// One message as it crossed the broker: owned bytes and the AMQP basic properties the protocol uses.
package struct Envelope: Sendable, Equatable {
    /// A header value. Values of other AMQP kinds (tables, arrays, floats) arrive as ``other``.
    package enum HeaderValue: Sendable, Equatable {
        case string(String)
        case integer(Int64)
        case bool(Bool)
        case other
    }

    /// The body's bytes; empty when the body was over the limit (see ``bodySize``).
    package var body: [UInt8]
    /// Size of the body on the wire, in bytes; larger than `body.count` only when the body was over the limit and not kept.
    package var bodySize: UInt64
    /// MIME type, `application/json` for requests and reports.
    package var contentType: String?
    /// `reload.request.v1`, `reload.status.v1`.
    package var type: String?
    /// Identifies the message; a UUID for requests.
    package var messageID: String?
    /// The operation a request belongs to; for a report the request it answers.
    package var correlationID: String?
    /// Queue that wants a copy of the report.
    package var replyTo: String?
    /// Application that published it.
    package var appID: String?
    /// User the broker checked, if the publisher gave one.
    package var userID: String?
    /// Time to live in the broker, in milliseconds as decimal digits.
    package var expiration: String?
    /// Seconds since 1970.
    package var timestamp: UInt64?
    /// Headers by name.
    package var headers: [String: HeaderValue]

    /// Makes an envelope with the given body and no properties.
    package init(body: [UInt8]) {
        self.body = body
        self.bodySize = UInt64(body.count)
        self.headers = [:]
    }
}

extension Envelope {
    /// A message of the protocol, published now: `body` is JSON, `type` the value of its `protocol`.
    package init(
        body: [UInt8], type: String, id: String = UUID().uuidString, correlationID: String?, appID: String
    ) {
        self.init(body: body)
        contentType = "application/json"
        self.type = type
        messageID = id
        self.correlationID = correlationID
        self.appID = appID
        timestamp = UInt64(Date().timeIntervalSince1970)
    }
}
