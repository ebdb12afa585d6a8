internal import FoundationEssentials

/// A report with where it goes.
package struct OutgoingReport: Codable, Sendable, Equatable {
    /// AMQP `message_id`; a report that is sent again keeps it.
    package var id: String
    package var report: Report
    /// Queue that wants a copy.
    package var replyTo: String?
    package var correlationID: String?

    package init(
        id: String = UUID().uuidString, report: Report, replyTo: String? = nil, correlationID: String? = nil
    ) {
        self.id = id
        self.report = report
        self.replyTo = replyTo
        self.correlationID = correlationID
    }

    enum CodingKeys: String, CodingKey {
        case id, report
        case replyTo = "reply_to"
        case correlationID = "correlation_id"
    }
}

extension OutgoingReport {
    package func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("correlation_id", ifPresent: correlationID)
            writer.member("id", id)
            writer.member("reply_to", ifPresent: replyTo)
            writer.member("report") { report.write(to: &$0) }
        }
    }
}
