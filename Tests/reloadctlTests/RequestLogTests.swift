internal import Foundation
internal import ReloadCore
internal import Testing

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
