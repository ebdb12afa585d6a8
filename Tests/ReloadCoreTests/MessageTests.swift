import Foundation
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

@Suite(.timeLimit(.minutes(5))) struct RequestCodecTests {
    private func code(_ body: String) -> ReloadCode? {
        do throws(ReloadError) {
            _ = try Request.decode(Array(body.utf8))
            return nil
        } catch {
            return error.code
        }
    }

    @Test func decodesTheDesignsExample() throws {
        let request = try Request.decode(
            Array(
                """
                {"protocol":"reload.request.v1","operation":"apply","origin":"reloadctl@ops-1",
                "issued_at":"2026-11-21T03:00:00Z","expires_at":null,"destination":"crawler:*","later":"ignored",
                "modules":[{"name":"crawler.parser","kind":"plugin","revision":42,"version":"2.3.0",
                "path":"news/libParser.so","sha256":"\(String(repeating: "9F", count: 32))","inline":null}]}
                """.utf8))
        #expect(request.operation == .apply)
        #expect(request.issuedAt == Date(timeIntervalSince1970: 1_795_230_000))
        #expect(request.expiresAt == nil)
        #expect(request.destination == Destination("crawler:*"))
        let module = try #require(request.modules.first)
        #expect(module.revision == 42)
        #expect(module.artifact == .path("news/libParser.so"))
        #expect(module.digest == "sha256:" + String(repeating: "9f", count: 32))
        #expect(try Request.decode(request.encode()) == request)
    }

    @Test func decodesTheArticlesMessage() throws {
        func artifact(_ json: String) throws -> ArtifactSource? {
            let request = try Request.decode(Array(json.utf8))
            #expect(request.operation == .apply)
            #expect(request.modules.map(\.name) == ["a.b"])
            #expect(request.modules.first?.revision == nil)
            return request.modules.first?.artifact
        }
        #expect(
            try artifact(#"{"model_path":"a.b","is_append_path":true,"physical_path":"/srv/new"}"#)
                == .folder("/srv/new"))
        #expect(
            try artifact(#"{"model_path":"a.b","is_append_path":false,"physical_path":"/srv/b.so"}"#)
                == .path("/srv/b.so"))
        #expect(try artifact(#"{"model_path":"a.b","is_append_path":false,"physical_path":""}"#) == .registeredFile)
        #expect(code(#"{"model_path":"a.b","is_append_path":"yes"}"#) == .messageInvalid)
        #expect(code(#"{"model_path":""}"#) == .messageInvalid)
    }

    @Test(arguments: [
        ("", ReloadCode.messageEmpty), ("{", .messageNotJSON), ("\u{0}\u{1}", .messageNotJSON), ("[]", .messageInvalid),
        ("3", .messageInvalid), ("{}", .messageInvalid), (#"{"protocol":7}"#, .messageInvalid),
        (#"{"protocol":"reload.request.v9"}"#, .messageUnknownProtocol),
        (#"{"protocol":"reload.request.v1","operation":"explode","modules":[]}"#, .messageUnknownOperation),
        (#"{"protocol":"reload.request.v1","operation":"apply"}"#, .messageInvalid),
        (#"{"protocol":"reload.request.v1","operation":"apply","modules":[]}"#, .messageInvalid),
    ])
    func refusesWithACode(body: String, expected: ReloadCode) {
        #expect(code(body) == expected)
    }

    @Test(arguments: [
        (#"{"name":"m","kind":"rocket","revision":1}"#, ReloadCode.messageUnknownKind),
        (#"{"name":"m","kind":"config"}"#, .messageInvalid),
        (#"{"name":"","kind":"config","revision":1}"#, .messageInvalid),
        (#"{"name":"m","kind":"config","revision":"1"}"#, .messageInvalid),
        (#"{"name":"m","kind":"config","revision":1.5}"#, .messageInvalid),
        (#"{"name":"m","kind":"config","revision":-1}"#, .messageInvalid),
        (#"{"name":"m","kind":"config","revision":1,"sha256":"abc"}"#, .messageInvalid),
        (#"{"name":"m","kind":"config","revision":1,"path":"a","inline":"YQ=="}"#, .messageInvalid),
        (#"{"name":"m","kind":"config","revision":1},{"name":"m","kind":"config","revision":1}"#, .messageInvalid),
    ])
    func refusesAModule(module: String, expected: ReloadCode) {
        #expect(code(#"{"protocol":"reload.request.v1","operation":"apply","modules":[\#(module)]}"#) == expected)
    }

    @Test func errorsNameTheCodingPath() {
        let body = #"{"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"m","revision":"x"}]}"#
        #expect {
            try Request.decode(Array(body.utf8))
        } throws: { error in
            "\(error)".contains("modules[0].revision")
        }
    }

    @Test func longFieldsAreCutInErrors() {
        let body = #"{"protocol":"\#(String(repeating: "x", count: 100_000))"}"#
        #expect {
            try Request.decode(Array(body.utf8))
        } throws: { error in
            "\(error)".utf8.count < 1000
        }
    }
}

/// The quick reader against `JSONDecoder`: what it reads it must read in the same way, and it may give up.
@Suite(.timeLimit(.minutes(5))) struct RequestReaderTests {
    private static let samples = [
        """
        {"protocol":"reload.request.v1","operation":"apply","origin":"reloadctl@ops-1","issued_at":"2026-11-21T03:00:00Z",
        "expires_at":null,"destination":"crawler:*","modules":[{"name":"crawler.parser","kind":"plugin","revision":42,
        "version":"2.3.0","path":"news/libParser.so","sha256":"\(String(repeating: "9f", count: 32))","inline":null}]}
        """,
        #"{"protocol":"reload.request.v1","operation":"validate","modules":[{"name":"a","revision":0,"inline":"aGE="}]}"#,
        """
         { "protocol" : "reload.request.v1" , "operation":"rollback" , "more" : { "x" : [ 1, -2, true, false, null, [] ] },\r
        \t"modules" : [ {"name":"ü\\n\\/\\"🚀"} , {"name":"b","revision":null,"kind":"config"} ] , "destination":"a?*" }\n
        """,
        """
        {"protocol":"reload.request.v1","operation":"release","expires_at":"2026-11-21T03:00:00.250Z",
        "modules":[{"name":"c"}]}
        """,
        #"{"protocol":"reload.request.v1","operation":"inventory","modules":[]}"#,
    ].map { Array($0.utf8) }

    @Test(arguments: samples.indices)
    func readsWhatIsUsual(sample: Int) throws {
        let request = try #require(RequestReader.read(Self.samples[sample]))
        #expect(try request == Request.decodeWithCoder(Self.samples[sample]))
    }

    @Test(arguments: [
        #"{"protocol":"reload.request.v1","operation":"release","modules":[{"name":"\u00fc"}]}"#,
        #"{"protocol":"reload.request.v1","operation":"release","modules":[{"name":"a","revision":1e2}]}"#,
        #"{"protocol":"reload.request.v1","operation":"release","modules":[{"name":"a","name":"b"}]}"#,
        #"{"protocol":"reload.request.v1","operation":"release","modules":[{"name":"a"}]} x"#,
        #"{"protocol":"reload.request.v1","operation":"inventory"}"#, #"{"model_path":"a"}"#, "", "{", "[]", "null",
    ])
    func leavesTheRestToTheOther(body: String) {
        #expect(RequestReader.read(Array(body.utf8)) == nil)
    }

    @Test(arguments: samples.indices)
    func agreesOnWhatIsDamaged(sample: Int) {
        let whole = Self.samples[sample]
        let texts = [
            "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e", "null", "\u{0}", "\n", " ", "\\u0041",
        ]
        let notText: [[UInt8]] = [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xef, 0xbb, 0xbf]]
        let parts = texts.map { Array($0.utf8) } + notText
        var read = 0
        func check(_ body: [UInt8]) {
            guard let request = RequestReader.read(body) else { return }
            read += 1
            #expect((try? Request.decodeWithCoder(body)) == request, "\(String(decoding: body, as: UTF8.self))")
        }
        for index in whole.indices {
            check(Array(whole[..<index]))
            var without = whole
            without.remove(at: index)
            check(without)
            for part in parts {
                check(Array(whole[..<index] + part + whole[index...]))
                check(Array(whole[..<index] + part + whole[(index + 1)...]))
            }
        }
        #expect(read > 10)
    }
}

@Suite(.timeLimit(.minutes(5))) struct DestinationTests {
    @Test(arguments: [
        ("crawler:*", true), ("*", true), ("crawler:web-1", true), ("crawler", true), ("c*:web-?", true), ("*:*", true),
        ("*1", true), ("crawler:web-?", true), ("crawler:web-2", false), ("crawl", false), ("indexer:*", false),
        ("", false),
        ("crawler:", false), ("crawler:web", false), ("?", false), ("*:*:*", false), ("crawler:web-1*", true),
    ])
    func matches(pattern: String, expected: Bool) {
        #expect(Destination(pattern).matches(service: "crawler", instance: "web-1") == expected)
    }

    @Test func aQuestionMarkIsOneCharacterOfAnyLength() {
        #expect(Destination("s:?").matches(service: "s", instance: "ü"))
        #expect(!Destination("s:??").matches(service: "s", instance: "ü"))
    }

    @Test func manyStarsEndSoon() {
        let pattern = String(repeating: "*a", count: 500) + "b"
        #expect(!Destination(pattern).matches(service: "s", instance: String(repeating: "a", count: 1000)))
    }
}

@Suite(.timeLimit(.minutes(5))) struct ReportTests {
    @Test func keysAreTheContracts() throws {
        var report = Report(
            request: nil, service: "crawler", instance: "web.3/4711", sequence: 17, state: .rolledBack,
            at: Date(timeIntervalSince1970: 0.12))
        report.modules = [
            ModuleReport(
                name: "m", kind: .plugin, state: .applied,
                running: VersionReport(revision: 42, digest: "sha256:00", generation: 9),
                lingering: [LingeringReport(generation: 8, inFlight: 2, ageMilliseconds: 310)], timings: ["vet": 3.5])
        ]
        let json = String(decoding: report.encode(), as: UTF8.self)
        for part in [
            #""request":null"#, #""state":"rolled_back""#, #""protocol":"reload.status.v1""#, #""in_flight":2"#,
            #""age_ms":310"#, #""timings_ms":{"vet":3.5}"#, #""at":"1970-01-01T00:00:00.120Z""#, #""generation":9"#,
        ] {
            #expect(json.contains(part), "\(part) in \(json)")
        }
        #expect(report.routingKey == "crawler.web_3/4711.rolled_back")
        #expect(try Report.decode(Array(json.utf8)) == report)
    }

    /// Each of these would take the decoder many times its size in memory, or mean two things.
    @Test func aReportThatCostsItsReaderMuchIsNotDecoded() {
        let good = Report(request: nil, service: "s", instance: "i", sequence: 1, state: .online, at: Date())
        let json = String(decoding: good.encode().dropFirst(), as: UTF8.self)
        let values = "[" + String(repeating: "0,", count: JSONScreen.valueLimit) + "0]"
        let escaped = (0...JSONScreen.escapedKeyLimit).map { #""\u006b\#($0)":0"# }.joined(separator: ",")
        let deep = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
        for more in [#""x":\#(values)"#, #""x":\#(deep)"#, #""x":{\#(escaped)}"#, #""service":"other""#] {
            #expect(throws: ReloadError.self) { try Report.decode(Array("{\(more),\(json)".utf8)) }
        }
        #expect(throws: Never.self) { try Report.decode(Array("{\"x\":0,\(json)".utf8)) }
    }

    @Test func anInventoryOfManyModulesIsRead() throws {
        let text = String(repeating: "v", count: 255)
        let version = VersionReport(revision: .max, digest: Digest.of([]), version: text, generation: .max)
        var report = Report(request: nil, service: text, instance: text, sequence: .max, state: .online, at: Date())
        report.modules = (0..<Request.moduleLimit).map { number in
            ModuleReport(
                name: String("\(number)\(text)".prefix(255)), kind: .plugin, state: .applied, desired: version,
                attempted: version, running: version,
                lingering: (0..<10).map { _ in
                    LingeringReport(generation: .max, inFlight: .max, ageMilliseconds: .max)
                }, timings: ["load": 0.123456789, "prove": 0.123456789, "switch": 0.123456789, "vet": 0.123456789])
        }
        let body = report.encode()
        #expect(body.count < Report.bodyLimit)
        #expect(try Report.decode(body) == report)
    }

    @Test(
        arguments: [
            ("s.i.online", true), ("s.h/1.rolled_back", true), ("s.i.nothing", false), ("s.i", false), ("", false),
            ("s.i.x.online", false), ("reload.status", false),
        ])
    func aReportsRoutingKeyHasAShape(key: String, isOne: Bool) {
        #expect(Report.isRoutingKey(key) == isOne)
    }

    @Test func codesAreListedOnce() {
        #expect(Set(ReloadCode.all).count == ReloadCode.all.count)
        for code in ReloadCode.all where code != .ok {
            #expect(code.rawValue.wholeMatch(of: /[a-z]+\.[a-z_]+/) != nil, "\(code)")
        }
    }
}
