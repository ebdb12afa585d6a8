internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

extension Answers {
    /// `plugin.abi_mismatch: the text`, or as much of it as there is.
    static func reason(_ answer: Answer) -> String {
        [answer.code == .ok ? "" : answer.code.rawValue, answer.message].filter { !$0.isEmpty }.joined(separator: ": ")
    }

    /// The end for people: a line for each instance, then the counts.
    var text: [String] {
        var lines: [String] = []
        let all = Outcome.allCases.flatMap { outcome in members(of: outcome).map { (outcome, $0) } }
        let table = Table(
            header: ["", "", ""],
            rows: all.map { outcome, instance in
                guard let answer = given[instance] else { return ["no response", "\(instance)", ""] }
                let state = answer.state.rawValue.replacing("_", with: " ")
                return [
                    outcome == .unexpected ? "\(state), unexpected" : state, "\(instance)",
                    Self.reason(answer),
                ]
            })
        lines += table.lines.dropFirst().map { "  " + $0 }
        let counts = Outcome.allCases.flatMap { outcome -> [(count: Int, name: String)] in
            let members = members(of: outcome)
            switch outcome {
            case .noResponse:
                return [(missing, "no response")]
            case .applied:
                // By name: who asked to validate should not read that something was applied.
                return [ReportState.applied, .unchanged, .validated].map { state in
                    (members.count { given[$0]?.state == state }, state.rawValue)
                }
            case .failed, .refused, .superseded, .unexpected:
                return [(members.count, outcome.rawValue)]
            }
        }.filter { $0.count > 0 }
        if !counts.isEmpty { lines.append(counts.map { "\($0.count) \($0.name)" }.joined(separator: ", ")) }
        return lines
    }
}

/// One answer as `--json` shows it, the moment it comes, and in the lists of the end.
struct AnswerLine: Encodable {
    /// The request it answers; left out in the lists, which name it once.
    var request: String?
    let service: String
    let instance: String
    /// Left out of `no_response`, like the four below; `user` also when the sender did not say.
    var state: ReportState?
    var code: ReloadCode?
    var message: String?
    var at: String?
    var user: String?

    init(_ instance: Instance, _ answer: Answers.Answer?, request: String? = nil) {
        self.request = request
        service = instance.service
        self.instance = instance.name
        state = answer?.state
        code = answer?.code
        message = answer?.message
        at = answer?.at
        user = answer?.user
    }
}

/// The last line of `--json`: the request, whether the broker confirmed it, and everyone in one of six lists. The number
/// of answers awaited is there because `--wait N` knows no names for those that are missing.
struct SummaryLine: Encodable {
    let request: String
    let published: RequestRun.Fate
    let confirmed: Bool
    /// What kept the command from its end; absent otherwise.
    let problem: String?
    let awaited: Int
    let applied, failed, refused, superseded, noResponse, unexpected: [AnswerLine]

    init(_ answers: Answers, published: RequestRun.Fate, problem: String) {
        func list(_ outcome: Answers.Outcome) -> [AnswerLine] {
            answers.members(of: outcome).map { AnswerLine($0, answers.given[$0]) }
        }
        request = answers.request
        self.published = published
        confirmed = published == .yes
        self.problem = problem.isEmpty ? nil : problem
        awaited = answers.awaited
        applied = list(.applied)
        failed = list(.failed)
        refused = list(.refused)
        superseded = list(.superseded)
        noResponse = list(.noResponse)
        unexpected = list(.unexpected)
    }

    enum CodingKeys: String, CodingKey {
        case request, published, confirmed, problem, awaited, applied, failed, refused, superseded, unexpected
        case noResponse = "no_response"
    }
}

extension Encodable {
    /// The value on one line, as `--json` prints it, which may be to a terminal. JSON leaves alone what terminals also take
    /// for commands (U+007F to U+009F), or for an order to write backwards.
    func jsonLine() throws -> String {
        let text = String(decoding: try ReloadJSON.encoder().encode(self), as: UTF8.self)
        return text.unicodeScalars.reduce(into: "") { line, scalar in
            if 0x7f...0x9f ~= scalar.value || scalar.properties.isBidiControl {
                let digits = String(scalar.value, radix: 16)
                line += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            } else {
                line.unicodeScalars.append(scalar)
            }
        }
    }
}
