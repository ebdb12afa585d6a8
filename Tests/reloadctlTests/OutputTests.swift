internal import Foundation
internal import ReloadProtocol
internal import Testing

@testable internal import ReloadFleet
@testable internal import reloadctl

struct TableTests {
    @Test func columnsAreAligned() {
        let table = Table(header: ["NAME", "N", ""], rows: [["a", "12", "x"], ["longer", "3", ""]])
        #expect(table.lines == ["NAME    N", "a       12  x", "longer  3"])
    }

    @Test func whatOthersSendStaysOnItsLine() {
        let table = Table(header: ["A"], rows: [["two\nlines\u{1B}[31m"]])
        #expect(table.lines == ["A", "two lines [31m"])
    }

    @Test func statusShowsWhatLagsBehind() {
        var view = FleetView()
        var lagging = module("b", 7, desired: 8)
        lagging.lingering = [LingeringReport(generation: 3, inFlight: 2, ageMilliseconds: 10)]
        view.fold(report("web-1", .online, modules: [lagging, module("a", 7, desired: 7)]))
        let now = Date(timeIntervalSince1970: 1_795_230_012)
        let rows = view.present(matching: nil).flatMap { StatusRow.rows($0.key, $0.value, only: nil, now: now) }
        #expect(
            rows == [
                ["crawler:web-1", "a", "current", "7", "7", "-", "4", "9f9f9f9f9f9f", "-", "12s"],
                ["crawler:web-1", "b", "behind", "7", "8", "-", "4", "9f9f9f9f9f9f", "1 (2 calls)", "12s"],
            ])
    }
}

struct ResultTests {
    @Test func watchShowsTheUserOfAReport() throws {
        var report = report("web-1", .online)
        let published = String(decoding: report.encode(), as: UTF8.self)
        #expect(try ReportLine(report: report).jsonLine() == published)
        report.user = "walt"
        #expect(try ReportLine(report: report).jsonLine() == published.dropLast() + #","user":"walt"}"#)
    }

    @Test func everyoneThenTheCounts() {
        var answers = Answers(request: "r", goal: .all(Set(["web-1", "web-2", "web-3", "web-4"].map(instance))))
        _ = answers.fold(report("web-1", .validated, request: "r"))
        _ = answers.fold(report("web-2", .unchanged, request: "r"))
        _ = answers.fold(report("web-3", .rolledBack, request: "r", code: .pluginSelfTestFailed, message: "no"))
        _ = answers.fold(report("web-9", .applied, request: "r"))
        #expect(
            answers.text == [
                "  validated            crawler:web-1",
                "  unchanged            crawler:web-2",
                "  rolled back          crawler:web-3  plugin.self_test_failed: no",
                "  no response          crawler:web-4",
                "  applied, unexpected  crawler:web-9",
                "1 unchanged, 1 validated, 1 failed, 1 no response, 1 unexpected",
            ])
    }
}

struct LiveFrameTests {
    private func frame(_ answers: Answers, width: Int = 80, height: Int = 24, colour: Bool = false) -> [String] {
        LiveFrame(answers: answers, width: width, height: height, isColoured: colour, elapsed: .seconds(3)).lines
    }

    private func fleet(_ count: Int, failing: Int = 0) -> Answers {
        var answers = Answers(request: "r", goal: .all(Set((0..<count).map { instance("web-\(100 + $0)") })))
        for index in 0..<failing {
            let name = "web-\(100 + index)"
            _ = answers.fold(report(name, .failed, request: "r", code: .configInvalid, message: "rules"))
        }
        return answers
    }

    @Test func aLineForEachInstance() {
        var answers = fleet(4, failing: 1)
        _ = answers.fold(report("web-101", .applied, request: "r"))
        _ = answers.fold(report("web-102", .applying, request: "r"))
        _ = answers.fold(report("web-103", .offline))
        #expect(
            frame(answers) == [
                "  crawler:web-100  failed                 config.invalid: rules",
                "  crawler:web-101  applied",
                "  crawler:web-102  applying",
                "  crawler:web-103  waiting, went offline",
                "applied 1/4, waiting 2, failed 1 (3s)",
            ])
    }

    @Test func manyInstancesAreCounted() {
        #expect(
            frame(fleet(100, failing: 1)) == [
                "  crawler:web-100  failed  config.invalid: rules", "applied 0/100, waiting 99, failed 1 (3s)",
            ])
        let lines = frame(fleet(100, failing: 50), height: 10)
        #expect(lines.count == 9)
        #expect(lines[7] == "  … and 43 more")
    }

    @Test func linesFitTheTerminal() {
        for width in 1...60 {
            for line in frame(fleet(3, failing: 2), width: width) { #expect(line.count < max(2, width)) }
        }
    }

    @Test func colourOnlyWhereItIsWanted() {
        #expect(frame(fleet(1, failing: 1), colour: true)[0].contains("\u{1B}[31mfailed\u{1B}[0m"))
        #expect(!frame(fleet(1, failing: 1)).joined().contains("\u{1B}"))
    }
}

/// What an operator reads was written by others.
struct HostileTextTests {
    private let nasty = "a\u{1B}[2J\u{7F}\u{9B}31m\u{202E}\r\n\u{2028}b"

    private func isHarmless(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy {
            $0.properties.generalCategory != .control && !$0.properties.isBidiControl
                && $0.properties.generalCategory != .lineSeparator
        }
    }

    @Test func terminalCommandsAreTakenOutOfText() {
        #expect(isHarmless(nasty.printable))
        #expect(Table(header: ["A"], rows: [[nasty]]).lines.allSatisfy(isHarmless))
    }

    @Test func terminalCommandsAreEscapedInJSON() throws {
        let line = try [nasty].jsonLine()
        #expect(isHarmless(line.replacing("\u{2028}", with: "")))
        #expect(try JSONDecoder().decode([String].self, from: Data(line.utf8)) == [nasty])
    }

    @Test func aLongCellDoesNotWidenEveryRow() {
        let table = Table(
            header: ["A", "B"],
            rows: Array(repeating: ["x", "y"], count: 100) + [
                [String(repeating: "x", count: 1 << 20), "e" + String(repeating: "\u{301}", count: 1 << 20)]
            ])
        #expect(table.lines.map(\.utf8.count).reduce(0, +) < 100_000)
    }

    @Test func numbersAtTheirEndsAreShown() {
        var view = FleetView()
        var lagging = module("b", 7, desired: .max)
        lagging.lingering = Array(
            repeating: LingeringReport(generation: .max, inFlight: .max, ageMilliseconds: .max), count: 3)
        view.fold(report("web-1", .online, modules: [lagging]))
        for now in [Date.distantPast, .distantFuture, Date(timeIntervalSince1970: 1e300)] {
            let rows = view.present(matching: nil).flatMap { StatusRow.rows($0.key, $0.value, only: nil, now: now) }
            #expect(rows.count == 1)
        }
    }

    @Test(arguments: [0, 1 << 40, 1 << 52, UInt64(Int64.max), .max])
    func timestampsBeyondTheCalendarAreShown(timestamp: UInt64) throws {
        var log = RequestLog()
        for body in [
            "", #"{"model_path":"m"}"#,
            #"{"protocol":"reload.request.v1","operation":"inventory","issued_at":"999999-12-31T23:59:59Z"}"#,
        ] {
            var envelope = Envelope(body: Array(body.utf8))
            envelope.timestamp = timestamp
            log.add(envelope)
        }
        #expect(log.entries.count == 3)
        for entry in log.entries {
            #expect(!entry.text.isEmpty)
            #expect(try !HistoryLine(entry).jsonLine().isEmpty)
        }
    }
}
