internal import Foundation
internal import ReloadProtocol
internal import Testing

@testable internal import ReloadFleet
@testable internal import reloadctl

struct RequestLogTests {
    private func envelope(_ body: [UInt8], id: String?) -> Envelope {
        var envelope = Envelope(body: body)
        envelope.messageID = id
        return envelope
    }

    private func request(_ revision: Int64) throws -> [UInt8] {
        try Request(
            operation: .apply, origin: "reloadctl@ops-1", issuedAt: Date(timeIntervalSince1970: 1_795_230_000),
            destination: Destination("crawler:*"),
            modules: [
                Request.Module(
                    name: "crawler.parser", kind: nil, revision: revision, version: "2.3.0",
                    artifact: .inline("aGFsbG8="))
            ]
        ).encode()
    }

    @Test func answersFindTheirRequest() throws {
        var log = RequestLog()
        log.add(envelope(try request(1), id: "r1"))
        log.add(envelope(try request(2), id: "r2"))
        log.add(envelope(try request(2), id: "r2"))
        var newer = report("web-1", .applied, request: "r2")
        newer.superseded = ["r1"]
        log.add(newer)
        log.add(report("web-2", .failed, request: "r2", code: .configInvalid, message: "rules"))
        log.add(report("web-2", .online))
        log.add(report("web-3", .applying, request: "r2"))
        #expect(log.entries.count == 2)
        #expect(log.entries[0].answers.mapValues(\.state) == [instance("web-1"): .superseded])
        #expect(
            log.entries[1].text == [
                "2026-11-21T03:00:00.000Z  reloadctl@ops-1  apply crawler.parser revision 2 (2.3.0) to crawler:*"
                    + "  [1 applied, 1 failed]",
                "    crawler:web-1  applied",
                "    crawler:web-2  failed   config.invalid: rules",
            ])
        #expect(log.entries[1].request?.modules.first?.artifact == .inline(""))
    }

    @Test func aReportThatAnswersManyFindsThemAll() throws {
        var log = RequestLog()
        for number in 1...5 { log.add(envelope(try request(Int64(number)), id: "r\(number)")) }
        var speaker = report("web-1", .superseded, request: "r1")
        speaker.superseded = ["r2"]
        var newest = report("web-1", .applied, request: "r5")
        newest.superseded = ["r3", "r4", "of another day"]
        for report in [speaker, newest, newest] { log.add(report) }
        #expect(
            log.entries.map { $0.answers[instance("web-1")]?.state }
                == [.superseded, .superseded, .superseded, .superseded, .applied])
        #expect(log.entries[2].text[0].hasSuffix("[1 superseded]"))
        #expect(log.entries[2].text[1] == "    crawler:web-1  superseded  request r5 took its place")
        #expect(try HistoryLine(log.entries[3]).jsonLine().contains(#""state":"superseded""#))
    }

    @Test func watchTellsHowManyAReportAnswers() {
        var newest = report("web-1", .applied, request: "r3", modules: [module("rules", 3)])
        newest.superseded = ["r1", "r2"]
        #expect(
            Watch.text(newest)
                == "2026-11-21T03:00:00.000Z  crawler:web-1  applied  rules 3  answers 2 superseded requests too")
        newest.superseded = nil
        #expect(Watch.text(newest) == "2026-11-21T03:00:00.000Z  crawler:web-1  applied  rules 3")
    }

    @Test func whatNobodyCanReadIsListed() throws {
        var log = RequestLog()
        log.add(envelope(Array("{".utf8), id: nil))
        let line = try HistoryLine(log.entries[0]).jsonLine()
        #expect(line.contains(#""problem":"message.not_json"#))
        #expect(log.entries[0].text[0].contains("unreadable: message.not_json"))
    }

    @Test func aReportThatComesAgainIsNotNew() {
        var recent = RecentReports()
        let seen = ["web-1", "web-2", "web-1"].map { recent.isNew(report($0, .online)) }
        #expect(seen == [true, true, false])
    }
}
