import Foundation
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// Whatever a publisher puts into a message costs at most one refusal, and the next good one is applied.
@Suite(.timeLimit(.minutes(5))) struct PoisonTests {
    private static func request(_ module: String, operation: String = "apply", more: String = "") -> String {
        #"{"protocol":"reload.request.v1","operation":"\#(operation)"\#(more),"modules":[\#(module)]}"#
    }

    private static let good = #"{"name":"rules","kind":"config","revision":1}"#

    private static func text(_ count: Int, _ part: String = "x") -> String { String(repeating: part, count: count) }

    /// Bodies, and the code that each is refused with.
    private static let poison: [(name: String, body: [UInt8], code: ReloadCode)] = {
        var poison: [(name: String, body: [UInt8], code: ReloadCode)] = texts.map { ($0, Array($1.utf8), $2) }
        func add(_ name: String, _ body: [UInt8]) { poison.append((name, body, .messageNotJSON)) }
        let (start, end) = (Array(#"{"protocol":""#.utf8), Array(#""}"#.utf8))
        add("invalid UTF-8", start + [0xff, 0xfe] + end)
        add("a surrogate", start + [0xed, 0xa0, 0x80] + end)
        let name = Array(request(#"{"name":"@","revision":1}"#).utf8)
        add("invalid UTF-8 in a name", name.map { $0 == UInt8(ascii: "@") ? 0xff : $0 })
        var wide: [UInt8] = []
        for unit in request(good).utf16 { wide += [UInt8(unit & 255), UInt8(unit >> 8)] }
        add("UTF-16", wide)
        wide = []
        for byte in request(good).utf8 { wide += [byte, 0, 0, 0] }
        add("UTF-32", wide)
        return poison
    }()

    private static let texts: [(String, String, ReloadCode)] = [
        ("no body", "", .messageEmpty), ("blanks", " \n", .messageNotJSON), ("null", "null", .messageInvalid),
        ("half", #"{"protocol":"reload.request.v1","#, .messageNotJSON), ("NUL", "\0", .messageNotJSON),
        ("NUL at the end", request(good) + "\0", .messageNotJSON),
        ("two", request(good) + request(good), .messageNotJSON),
        ("arrays", text(100_000, "["), .messageInvalid), ("objects", text(100_000, #"{"a":"#), .messageInvalid),
        ("arrays below the limit", request(good, more: #","x":"# + text(1000, "[") + text(1000, "]")), .messageInvalid),
        ("values", request(good, more: #","x":["# + text(200_000, "1,") + "1]"), .messageInvalid),
        ("empty values", request(good, more: #","x":["# + text(200_000, "[],") + "1]"), .messageInvalid),
        (
            "modules", request((0...1000).map { #"{"name":"m\#($0)","revision":1}"# }.joined(separator: ",")),
            .messageInvalid
        ),
        (
            "escaped modules",
            request((0...1000).map { #"{"name":"\u006d\#($0)","revision":1}"# }.joined(separator: ",")), .messageInvalid
        ),
        ("a module twice", request(good + "," + good), .messageInvalid),
        ("a key twice", request(good, more: #","destination":"other:*","destination":"*""#), .messageInvalid),
        (
            "modules twice", #"{"protocol":"reload.request.v1","operation":"apply","modules":[],"modules":[\#(good)]}"#,
            .messageInvalid
        ),
        ("an escaped key twice", request(good, more: #","origin":"a","or\u0069gin":"b""#), .messageInvalid),
        ("a module's key twice", request(#"{"name":"rules","revision":1,"revision":2}"#), .messageInvalid),
        ("an unknown key twice", request(good, more: #","x":{"y":1,"y":2}"#), .messageInvalid),
        (
            "the article's key twice", #"{"model_path":"rules","physical_path":"a","physical_path":"b"}"#,
            .messageInvalid
        ),
        ("revision 1e999", request(#"{"name":"rules","revision":1e999}"#), .messageNotJSON),
        ("revision 2^63", request(#"{"name":"rules","revision":9223372036854775808}"#), .messageInvalid),
        ("revision -1", request(#"{"name":"rules","revision":-1}"#), .messageInvalid),
        ("revision 0.5", request(#"{"name":"rules","revision":0.5}"#), .messageInvalid),
        (
            "revision of a thousand digits", request(#"{"name":"rules","revision":\#(text(1000, "9"))}"#),
            .messageNotJSON
        ),
        ("revision true", request(#"{"name":"rules","revision":true}"#), .messageInvalid),
        ("NaN", request(#"{"name":"rules","revision":NaN}"#), .messageNotJSON),
        ("0x1", request(#"{"name":"rules","revision":0x1}"#), .messageNotJSON),
        ("a long name", request(#"{"name":"\#(text(1 << 20))","revision":1}"#), .messageInvalid),
        (
            "a name of one character", request(#"{"name":"e\#(text(1 << 20, "\u{301}"))","revision":1}"#),
            .messageInvalid
        ),
        ("a long version", request(#"{"name":"rules","revision":1,"version":"\#(text(256))"}"#), .messageInvalid),
        ("a long origin", request(good, more: #","origin":"\#(text(256))""#), .messageInvalid),
        ("a long destination", request(good, more: #","destination":"\#(text(1 << 20, "*a"))*""#), .messageInvalid),
        ("a number as name", request(#"{"name":1,"revision":1}"#), .messageInvalid),
        ("an object as path", request(#"{"name":"rules","revision":1,"path":{}}"#), .messageInvalid),
        (
            "modules is an object", #"{"protocol":"reload.request.v1","operation":"apply","modules":{}}"#,
            .messageInvalid
        ),
        ("modules of numbers", request("1,2"), .messageInvalid),
        (
            "a date beyond the calendar", request(good, more: #","expires_at":"99999999999999999999-01-01T00:00:00Z""#),
            .messageInvalid
        ),
        ("month 13", request(good, more: #","expires_at":"2026-13-41T00:00:00Z""#), .messageInvalid),
        ("a lone surrogate", request(#"{"name":"\ud800","revision":1}"#), .messageNotJSON),
        ("an unknown module with NUL", request(#"{"name":"ru\u0000les","revision":1}"#), .moduleUnknown),
        ("an unknown module that climbs", request(#"{"name":"../../etc/passwd","revision":1}"#), .moduleUnknown),
        (
            "an unknown module with a terminal's commands", request(#"{"name":"\u001b[2J","revision":1}"#),
            .moduleUnknown
        ),
        (
            "NUL in a path", request(#"{"name":"rules","revision":1,"path":"rules.yaml\u0000.so"}"#),
            .artifactOutsideRoots
        ),
        ("a long path", request(#"{"name":"rules","revision":1,"path":"\#(text(1 << 20, "../"))"}"#), .artifactMissing),
        ("a YAML alias bomb", request(#"{"name":"rules","revision":1,"inline":"\#(bomb)"}"#), .configInvalid),
        (
            "deep YAML", request(#"{"name":"rules","revision":1,"inline":"\#(yaml(text(500_000, "[")))"}"#),
            .configInvalid
        ),
        (
            "deep YAML of blocks", request(#"{"name":"rules","revision":1,"inline":"\#(yaml(text(500_000, "- ")))"}"#),
            .configInvalid
        ),
    ]

    private static func yaml(_ text: String) -> String { Data(text.utf8).base64EncodedString() }

    /// Ten lines, each ten times the one before: ten thousand million values when it is read to its end.
    private static let bomb: String = {
        var lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
        for line in 1...9 {
            lines.append("a\(line): &a\(line) [\(Array(repeating: "*a\(line - 1)", count: 10).joined(separator: ","))]")
        }
        return yaml(lines.joined(separator: "\n") + "\n? *a9\n: 1\ndepth: 1\n")
    }()

    @Test(arguments: poison.indices)
    func costsOneRefusal(index: Int) async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let (name, body, code) = Self.poison[index]
        var envelope = Envelope(body: body)
        envelope.messageID = "poison"
        scene.reloader.receive(envelope, isOversized: false) { scene.acknowledged.withLock { $0.append("poison") } }
        let report = try await scene.report(for: "poison")
        #expect(report.code == code, "\(name): \(report.message)")
        #expect(report.state == .refused, "\(name)")
        #expect(report.message.utf8.count < 2000, "\(name)")
        #expect(report.encode().count < 20_000, "\(name)")
        #expect(rules.slot.current.number == 1, "\(name)")
        // The reader of the few words agrees: it never accepts what is refused for how it is written.
        if code.rawValue.hasPrefix("message.") {
            #expect(throws: ReloadError.self, "\(name)") { try Request.decode(body) }
        }
        let next = try await scene.apply("rules", 2)
        #expect(next.state == .applied, "\(name): \(next.message)")
        #expect(scene.acknowledged.withLock { $0.count { $0 == "poison" } } == 1, "\(name)")
    }

    @Test(
        arguments: [
            ("-0", 0), ("0", 0), ("1.0", 1), ("1e2", 100), ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", .max),
        ] as [(String, Int64)])
    func numbersMeanOneThing(text: String, revision: Int64) throws {
        let body = Array(Self.request(#"{"name":"rules","revision":\#(text)}"#).utf8)
        #expect(try Request.decode(body).modules.first?.revision == revision)
        #expect(try Request.decodeWithCoder(body).modules.first?.revision == revision)
    }

    /// After the last revision there is none: the article's message, which takes the next one, is refused.
    @Test func theLastRevision() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        #expect(try await scene.apply("rules", .max).state == .applied)
        let report = try await scene.answer(to: #"{"model_path":"rules"}"#)
        #expect(report.code == .messageStaleRevision, "\(report.message)")
        #expect(try await scene.answer(to: Self.request(#"{"name":"rules"}"#, operation: "rollback")).state == .applied)
        #expect(try await scene.apply("rules", 2).state == .applied)
    }

    /// Two that have an empty id are two.
    @Test func anEmptyMessageIDTellsNothingApart() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        for revision in 1...2 {
            scene.send(Self.request(#"{"name":"rules","revision":\#(revision)}"#), id: "")
            #expect(try await scene.report(for: nil).state == .applied)
        }
        #expect(rules.slot.current.number == 3)
    }

    @Test(arguments: [
        "id\0\u{1b}[2J\n", "../../journal", String(repeating: "i", count: 255),
        String(repeating: "\u{fffd}", count: 85),
    ])
    func messageIDsOfAnyKindAreAnsweredOnceAndKept(id: String) async throws {
        let scene = try Scene()
        _ = try scene.rules()
        let body = Self.request(Self.good)
        scene.send(body, id: id, replyTo: "no\0where")
        let outgoing = try await scene.outgoing(for: id)
        #expect(outgoing.report.state == .applied)
        #expect(outgoing.replyTo == nil)
        let restarted = try scene.restart()
        _ = try restarted.rules()
        restarted.send(body, id: id)
        restarted.send(Self.request(#"{"name":"rules","revision":2}"#), id: "next")
        let answers = await restarted.answers(1)
        #expect(answers["next"] == [.applied])
        #expect(answers[id] == nil)
    }

    /// Headers of any kind and number, and properties at the ends of what they can hold.
    @Test func headersAndPropertiesOfAnyKind() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let values: [Envelope.HeaderValue] = [
            .string(""), .string("\0"), .string(String(repeating: "?", count: 128 << 10)), .integer(.min),
            .integer(.max),
            .bool(true), .other,
        ]
        for (number, value) in values.enumerated() {
            var envelope = Envelope(body: Array(Self.request(#"{"name":"rules","revision":\#(number + 1)}"#).utf8))
            envelope.messageID = "m\(number)"
            envelope.timestamp = .max
            envelope.expiration = "never"
            envelope.type = "\u{1b}"
            envelope.headers = ["x-reload-destination": value, "x-stream-offset": value, "": value]
            scene.reloader.receive(envelope, isOversized: false) {}
        }
        // A destination that is a text is one: it does not match here. Others are none, and the body's counts.
        let answers = await scene.answers(4)
        #expect(answers.keys.sorted() == ["m3", "m4", "m5", "m6"])
        #expect(rules.running.report.revision == 7)
    }

    /// Each of a row of requests that fail takes the place of those before it, and gives it back.
    @Test func aRowOfFailuresDoesNotCountItselfToTheEndOfTheNumbers() throws {
        let total = Weight.Total()
        func job(_ revision: Int64) -> ReloadJob {
            let module = Request.Module(
                name: "m", kind: nil, revision: revision, version: nil, artifact: .registeredFile)
            return ReloadJob(
                request: Request(operation: .apply, modules: [module]), ticket: Ticket(acknowledge: {}),
                arrival: UInt64(revision), bytes: 0, of: total)
        }
        var waiting = job(0)
        for round in 1...200 {
            var (next, failing) = (job(Int64(2 * round)), job(Int64(2 * round + 1)))
            next.take(&waiting, keep: 4)
            failing.take(&next, keep: 4)
            var reinstated: ReloadJob?
            for var older in failing.folded.reversed() {
                if var before = reinstated { older.take(&before, keep: 4) }
                reinstated = older
            }
            waiting = try #require(reinstated)
        }
        #expect(waiting.foldCount < 10)
    }

    @Test func excerptsAreBoundedInBytes() {
        #expect(("e" + String(repeating: "\u{301}", count: 1 << 20)).excerpt.utf8.count < 1300)
        #expect(String(repeating: "\u{1f9d1}", count: 300).excerpt.unicodeScalars.count == 300)
        #expect(String(repeating: "x", count: 301).excerpt == String(repeating: "x", count: 300) + "… (301 bytes)")
    }
}
