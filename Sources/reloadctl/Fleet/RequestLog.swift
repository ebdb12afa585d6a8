internal import Foundation
internal import ReloadCore

/// What was published, and how each instance answered: the journal joined with the reports.
struct RequestLog {
    /// One message of the journal, without its artifact.
    struct Entry {
        /// `message_id`; the article's message has none, and its answers cannot be told apart.
        var id: String?
        /// When it was published.
        var at: Date?
        /// nil when nobody can read it.
        var request: Request?
        /// Why nobody can.
        var problem: String?
        var answers: [Instance: Answers.Answer] = [:]
    }

    /// In the order of the journal.
    private(set) var entries: [Entry] = []
    private var places: [String: Int] = [:]

    /// Takes the next message of the journal.
    mutating func add(_ envelope: Envelope, isOversized: Bool = false) {
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
    mutating func add(_ report: Report) {
        guard let sender = report.sender else { return }
        for id in [report.request].compactMap({ $0 }) + (report.superseded ?? []) {
            guard let place = places[id] else { continue }
            var answers = Answers(request: id, goal: .count(0))
            guard answers.fold(report) != nil, entries[place].answers[sender] == nil else { continue }
            entries[place].answers[sender] = answers.given[sender]
        }
    }
}

extension RequestLog.Entry {
    /// A line for the request and one for each answer.
    var text: [String] {
        var what = "unreadable: \(problem ?? "")"
        var who = "-"
        if let request {
            who = request.origin ?? "-"
            what = request.operation.rawValue
            for module in request.modules {
                what += " \(module.name)" + (module.revision.map { " revision \($0)" } ?? "")
                what += module.version.map { " (\($0))" } ?? ""
            }
            if let destination = request.destination { what += " to \(destination)" }
        }
        let counts = Dictionary(grouping: answers.values, by: \.state.rawValue).mapValues(\.count)
            .sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
        let line = "\(at.map(ReloadJSON.text) ?? "-")  \(who)  \(what)  [\(counts.isEmpty ? "no answer" : counts)]"
        let table = Table(
            header: ["", "", ""],
            rows: answers.sorted { $0.key < $1.key }.map { instance, answer in
                ["\(instance)", answer.state.rawValue, answer.state.isSuccess ? "" : Answers.reason(answer)]
            })
        return [line.printable] + table.lines.dropFirst().map { "    " + $0 }
    }
}

/// One request as `history --json` shows it.
struct HistoryLine: Encodable {
    struct Module: Encodable {
        let name: String
        let kind: ModuleKind?
        let revision: Int64?
        let version: String?
        let sha256: String?
    }

    let request: String?
    let at: String?
    let origin: String?
    let operation: ReloadCore.Operation?
    let destination: String?
    let modules: [Module]
    /// Why nobody can read it; absent otherwise.
    let problem: String?
    let answers: [AnswerLine]

    init(_ entry: RequestLog.Entry) {
        request = entry.id
        at = entry.at.map(ReloadJSON.text)
        origin = entry.request?.origin
        operation = entry.request?.operation
        destination = entry.request?.destination?.pattern
        modules = (entry.request?.modules ?? []).map {
            Module(name: $0.name, kind: $0.kind, revision: $0.revision, version: $0.version, sha256: $0.digest)
        }
        problem = entry.problem
        answers = entry.answers.sorted { $0.key < $1.key }.map { AnswerLine($0.key, $0.value) }
    }
}
