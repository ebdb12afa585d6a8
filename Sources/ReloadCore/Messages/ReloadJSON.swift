package import Foundation

/// How the protocol writes JSON: keys sorted, slashes as they are, times as RFC 3339 in UTC with milliseconds.
package enum ReloadJSON {
    /// An encoder for bodies and for `--json` output; one line.
    package static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }

    /// `2026-11-21T03:00:00.120Z`
    package static func text(_ date: Date) -> String {
        date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    /// A time with or without fractions of a second.
    package static func date(_ text: String) -> Date? {
        (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
            ?? (try? Date(text, strategy: .iso8601))
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
