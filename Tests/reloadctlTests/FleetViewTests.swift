internal import Foundation
internal import ReloadProtocol
internal import Testing

@testable internal import ReloadFleet
@testable internal import reloadctl

struct FleetViewTests {
    @Test func newestReportDecidesPresence() {
        var view = FleetView()
        view.fold(report("web-1", .online))
        view.fold(report("web-2", .online))
        view.fold(report("web-2", .offline))
        view.fold(report("web-3", .offline))
        view.fold(report("web-3", .applied, request: "r"))
        #expect(view.present(matching: nil).keys.map(\.name).sorted() == ["web-1", "web-3"])
    }

    /// Three of its own intervals; where what is younger than that begins, the broker says.
    @Test func presenceGoesByTheOwnInterval() {
        var view = FleetView()
        func fold(_ name: String, _ interval: Int64?, at offset: Int64?) {
            var report = report(name, .online)
            report.intervalMilliseconds = interval.map { $0 * 1000 }
            view.fold(report, at: offset)
        }
        fold("second", 1, at: 7)
        fold("minutes", 120, at: 1)
        fold("hour", 3600, at: 2)
        fold("usual", 30, at: 3)
        fold("silent about it", nil, at: 3)
        // No more than readers look back.
        #expect(view.unusualIntervals(matching: nil) == [.seconds(300), .seconds(120), .seconds(1)])
        #expect(view.unusualIntervals(matching: Destination("mailer")).isEmpty)
        view.oldest = [.seconds(1): 8, .seconds(120): 1, .seconds(300): 0]
        #expect(view.present().keys.map(\.name).sorted() == ["hour", "minutes", "silent about it", "usual"])
        fold("second", 1, at: nil)
        view.oldest[.seconds(120)] = .max
        #expect(view.present().keys.map(\.name).sorted() == ["hour", "second", "silent about it", "usual"])
    }

    @Test func earlierReportsFillInWhatAnAnswerDoesNotSay() {
        var earlier = FleetView()
        earlier.fold(report("web-1", .online, modules: [module("a", 1), module("b", 1)]))
        earlier.fold(report("web-2", .online, modules: [module("a", 1)]))
        earlier.fold(report("web-3", .offline))
        var view = FleetView()
        view.fold(report("web-1", .failed, request: "r", modules: [module("a", 2)]))
        view.fold(report("web-2", .online, modules: []))
        view.fold(earlier: earlier)
        let present = view.present()
        #expect(present.keys.map(\.name).sorted() == ["web-1", "web-2"])
        let modules = present.mapValues { $0.modules.mapValues { $0.running?.revision } }
        #expect(modules[instance("web-1")] == ["a": 2, "b": 1])
        #expect(modules[instance("web-2")]?.isEmpty == true)
    }

    @Test func anIntervalThatMakesNoSenseIsNone() throws {
        for text in ["0", "-1", "null"] {
            let body = String(decoding: report("web-1", .online).encode(), as: UTF8.self)
                .replacing(#""request":"#, with: #""report_interval_ms":\#(text),"request":"#)
            #expect(try Report.decode(Array(body.utf8)).interval == nil)
        }
        #expect(throws: ReloadError.self) {
            let body = String(decoding: report("web-1", .online).encode(), as: UTF8.self)
                .replacing(#""request":"#, with: #""report_interval_ms":"30","request":"#)
            _ = try Report.decode(Array(body.utf8))
        }
    }

    @Test func ownReportsAreNobody() {
        var view = FleetView()
        view.fold(Report(request: nil, service: "reloadctl", instance: "a/1", sequence: 1, state: .online, at: Date()))
        #expect(view.present(matching: nil).isEmpty)
    }

    @Test func destinationIsMatched() {
        var view = FleetView()
        view.fold(report("web-1", .online))
        view.fold(Report(request: nil, service: "mailer", instance: "m", sequence: 1, state: .online, at: Date()))
        #expect(view.present(matching: Destination("crawler:*")).keys.map(\.description) == ["crawler:web-1"])
        #expect(view.present(matching: Destination("mailer")).keys.map(\.description) == ["mailer:m"])
    }

    @Test func answersUpdateTheInventoryAndOnlineReplacesIt() throws {
        var view = FleetView()
        let key = Instance(service: "crawler", name: "web-1")
        view.fold(report("web-1", .online, modules: [module("a", 1), module("b", 1)]))
        view.fold(report("web-1", .applied, request: "r", modules: [module("a", 2), module("unknown", nil)]))
        let merged = try #require(view.present(matching: nil)[key]).modules
        #expect(merged.mapValues { $0.running?.revision } == ["a": 2, "b": 1])
        view.fold(report("web-1", .online, modules: [module("a", 3)]))
        #expect(view.present(matching: nil)[key]?.modules.mapValues { $0.running?.revision } == ["a": 3])
    }
}

struct AnswersTests {
    private let all = Answers.Goal.all([instance("web-1"), instance("web-2")])

    @Test func isCompleteWhenEveryoneAnswered() {
        var answers = Answers(request: "r", goal: all)
        let first = [
            report("web-1", .applying, request: "r"), report("web-1", .applied, request: "other"),
        ].compactMap { answers.fold($0) }
        #expect(first.isEmpty)
        #expect(answers.applying == [instance("web-1")])
        let second = answers.fold(report("web-1", .applied, request: "r"))
        #expect(second == instance("web-1"))
        #expect(answers.applying.isEmpty)
        #expect(!answers.isComplete)
        #expect(answers.silent == [instance("web-2")])
        let third = answers.fold(report("web-2", .unchanged, request: "r"))
        #expect(third == instance("web-2"))
        #expect(answers.isComplete)
        #expect(ExitStatus(answers) == .success)
    }

    @Test func repetitionsChangeNothing() {
        var answers = Answers(request: "r", goal: all)
        let news = [report("web-1", .applied, request: "r"), report("web-1", .failed, request: "r")]
            .map { answers.fold($0) }
        #expect(news == [instance("web-1"), nil])
        #expect(answers.given[instance("web-1")]?.state == .applied)
    }

    @Test func aNewerReportAnswersTheSuperseded() {
        var answers = Answers(request: "r", goal: all)
        var newer = report("web-1", .applied, request: "newer")
        newer.superseded = ["q", "r"]
        let sender = answers.fold(newer)
        #expect(sender == instance("web-1"))
        #expect(answers.outcome(of: instance("web-1")) == .superseded)
        #expect(answers.given[instance("web-1")]?.message == "request newer took its place")
        #expect(answers.text.contains("  superseded   crawler:web-1  request newer took its place"))
        #expect(answers.text.last == "1 superseded, 1 no response")
        #expect(ExitStatus(answers) == .failure)
        let again = answers.fold(newer)
        #expect(again == nil)
    }

    /// So many that they did not wait for the newest: one of them speaks for the others.
    @Test func aSupersededRequestSpeaksForOthers() {
        for request in ["speaker", nil] {
            var answers = Answers(request: "r", goal: all)
            var speaker = report("web-1", .superseded, request: request)
            speaker.superseded = ["r"]
            let sender = answers.fold(speaker)
            #expect(sender == instance("web-1"))
            #expect(answers.given[instance("web-1")]?.state == .superseded)
            #expect(answers.given[instance("web-1")]?.message == "")
        }
    }

    /// The newest may fail; those it superseded were superseded all the same, and nobody counts twice.
    @Test func eachIdIsAnsweredOnce() throws {
        var newest = report("web-1", .failed, request: "newest", code: .configInvalid, message: "rules")
        newest.superseded = ["r", "newest"]
        var states: [String: ReportState] = [:]
        for id in ["r", "newest", "other"] {
            var answers = Answers(request: id, goal: all)
            _ = answers.fold(newest)
            states[id] = answers.given[instance("web-1")]?.state
        }
        #expect(states == ["r": .superseded, "newest": .failed])
        var answers = Answers(request: "r", goal: all)
        _ = answers.fold(newest)
        let line = try SummaryLine(answers, published: .yes, problem: "").jsonLine()
        #expect(line.contains(#""superseded":[{"at":"#) && line.contains("request newest took its place"), "\(line)")
    }

    @Test func listsOfTheEnd() {
        let states: [ReportState] = [.applied, .validated, .failed, .rolledBack, .refused, .expired]
        let names = states.map { instance($0.rawValue) }
        var answers = Answers(request: "r", goal: .all(Set(names + [instance("silent")])))
        for state in states { _ = answers.fold(report(state.rawValue, state, request: "r")) }
        _ = answers.fold(report("late", .applied, request: "r"))
        #expect(answers.members(of: .applied).map(\.name) == ["applied", "validated"])
        #expect(answers.members(of: .failed).map(\.name) == ["failed", "rolled_back"])
        #expect(answers.members(of: .refused).map(\.name) == ["expired", "refused"])
        #expect(answers.members(of: .noResponse).map(\.name) == ["silent"])
        #expect(answers.members(of: .unexpected).map(\.name) == ["late"])
        #expect(ExitStatus(answers) == .failure)
    }

    @Test func aNumberIsEnough() {
        var answers = Answers(request: "r", goal: .count(2))
        _ = answers.fold(report("web-1", .applied, request: "r"))
        #expect(answers.missing == 1)
        #expect(ExitStatus(answers) == .noResponse)
        _ = answers.fold(report("web-9", .applied, request: "r"))
        #expect(answers.isComplete)
        #expect(answers.members(of: .unexpected).isEmpty)
    }

    /// Somebody published something else under the same id, to everybody.
    @Test func whoWasNotAskedHasNotAnswered() {
        var answers = Answers(request: "r", to: Destination("crawler:web-1"), goal: .count(1))
        #expect(answers.fold(report("web-9", .refused, request: "r")) == nil)
        #expect(!answers.isComplete)
        _ = answers.fold(report("web-1", .applied, request: "r"))
        #expect(answers.isComplete && ExitStatus(answers) == .success)
    }

    @Test func noneToWaitFor() {
        #expect(ExitStatus(Answers(request: "r", goal: .all([]))) == .success)
        #expect(ExitStatus(Answers(request: "r", goal: .count(0))) == .success)
    }

    @Test func goodbyeIsRemembered() {
        var answers = Answers(request: "r", goal: all)
        _ = answers.fold(report("web-1", .offline))
        #expect(answers.gone == [instance("web-1")])
        _ = answers.fold(report("web-1", .online))
        #expect(answers.gone.isEmpty)
    }

    @Test func summaryOnOneLine() throws {
        var answers = Answers(request: "r", goal: all)
        _ = answers.fold(report("web-1", .applied, request: "r"))
        let line = try SummaryLine(answers, published: .yes, problem: "").jsonLine()
        let applied = #"{"at":"2026-11-21T03:00:00.000Z","code":"ok","instance":"web-1","message":"","#
        #expect(
            line == #"{"applied":["# + applied + #""service":"crawler","state":"applied"}],"awaited":2,"#
                + #""confirmed":true,"failed":[],"no_response":[{"instance":"web-2","service":"crawler"}],"#
                + #""published":"yes","refused":[],"request":"r","superseded":[],"unexpected":[]}"#)
        let unknown = try SummaryLine(answers, published: .unknown, problem: "cut off").jsonLine()
        #expect(unknown.contains(#""confirmed":false"#))
        #expect(unknown.contains(#""problem":"cut off","published":"unknown""#))
    }
}

func instance(_ name: String) -> Instance { Instance(service: "crawler", name: name) }

func report(
    _ name: String, _ state: ReportState, request: String? = nil, code: ReloadCode = .ok, message: String = "",
    modules: [ModuleReport] = []
) -> Report {
    Report(
        request: request, service: "crawler", instance: name, sequence: 1, state: state, code: code, message: message,
        modules: modules, at: Date(timeIntervalSince1970: 1_795_230_000))
}

func module(_ name: String, _ revision: Int64?, desired: Int64? = nil) -> ModuleReport {
    ModuleReport(
        name: name, kind: .plugin, state: .online,
        desired: desired.map { VersionReport(revision: $0, digest: nil) },
        running: revision.map {
            VersionReport(revision: $0, digest: "sha256:" + String(repeating: "9f", count: 32), generation: 4)
        })
}
