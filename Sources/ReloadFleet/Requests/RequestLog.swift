public import FoundationEssentials
public import ReloadProtocol

/// What was published, and how each instance answered: the journal joined with the reports.
public struct RequestLog: Sendable {
    /// One message of the journal, without its artifact.
    public struct Entry: Sendable {
        /// `message_id`; the article's message has none, and its answers cannot be told apart.
        public var id: String?
        /// When it was published.
        public var at: Date?
        /// nil when nobody can read it.
        public var request: Request?
        /// Why nobody can.
        public var problem: String?
        /// The last word of each instance that answered.
        public var answers: [Instance: Answers.Answer] = [:]
    }

    /// In the order of the journal.
    public private(set) var entries: [Entry] = []
    private var places: [String: Int] = [:]

    /// Nothing was published yet.
    public init() {}

    /// Takes the next message of the journal.
    package mutating func add(_ envelope: Envelope, isOversized: Bool = false) {
        var entry = Entry(id: envelope.messageID)
        entry.at = envelope.timestamp.map { Date(timeIntervalSince1970: Double($0)) }
        do throws(ReloadError) {
            guard !isOversized else {
                throw ReloadError(.messageTooLarge, "\(envelope.bodySize) bytes")
            }
            var request = try Request.decode(envelope.body)
            for index in request.modules.indices {
                if case .inline = request.modules[index].artifact { request.modules[index].artifact = .inline("") }
            }
            entry.request = request
            entry.at = request.issuedAt ?? entry.at
        } catch {
            entry.problem = "\(error)"
        }
        if let id = entry.id {
            // Published again after a lost connection: the same request.
            guard places[id] == nil else { return }
            places[id] = entries.count
        }
        entries.append(entry)
    }

    /// Takes the next report.
    public mutating func add(_ report: Report) {
        guard let sender = report.sender else { return }
        for id in [report.request].compactMap({ $0 }) + (report.superseded ?? []) {
            guard let place = places[id] else { continue }
            var answers = Answers(request: id, goal: .count(0))
            guard answers.fold(report) != nil, entries[place].answers[sender] == nil else { continue }
            entries[place].answers[sender] = answers.given[sender]
        }
    }
}
