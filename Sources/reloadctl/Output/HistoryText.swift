internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

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
    let operation: Request.Operation?
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
