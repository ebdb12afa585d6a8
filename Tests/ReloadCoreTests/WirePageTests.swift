import Foundation
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// docs/wire.md, from which others write their clients.
@Suite(.timeLimit(.minutes(5))) struct WirePageTests {
    private let page: Page

    init() throws {
        page = try Page("docs/wire.md")
    }

    /// What was read of an example is written as the example.
    @Test func everyExampleIsWhatTheCodeReadsAndWrites() throws {
        let examples = page.blocks("json")
        #expect(examples.count == 8)
        for example in examples {
            let bytes = Array(example.utf8)
            let object = try Self.object(bytes)
            switch object["protocol"] as? String {
            case Request.protocolName: #expect(try Self.object(Request.decode(bytes).encode()) == object)
            case Report.protocolName: #expect(try Self.object(Report.decode(bytes).encode()) == object)
            default:
                #expect(
                    Set(object.allKeys.compactMap { $0 as? String }) == Set(try keys("ArticleKey", in: "RequestCodec")))
                #expect(try Request.decode(bytes).modules.first?.artifact == .folder("/srv/crawler/rules"))
            }
        }
    }

    private static func object(_ bytes: [UInt8]) throws -> NSDictionary {
        try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? NSDictionary)
    }

    // MARK: Keys

    @Test func everyKeyOfTheCodeIsOnThePageAndNoOther() throws {
        func check(_ heading: String, _ keys: [String], _ place: SourceLocation = #_sourceLocation) {
            #expect(page.firstColumn(under: heading).sorted() == keys.sorted(), sourceLocation: place)
        }
        check("#### Keys of a request", try keys("Key", in: "RequestCodec"))
        check("#### Keys of a module in a request", try keys("ModuleKey", in: "RequestCodec"))
        check("### The source article's message", try keys("ArticleKey", in: "RequestCodec"))
        check("#### Keys of a report", try keys("CodingKeys", of: "Report", in: "Report"))
        check("#### Keys of a module in a report", try keys("CodingKeys", of: "ModuleReport", in: "Report"))
        check("#### Keys of a lingering generation", try keys("CodingKeys", of: "LingeringReport", in: "Report"))
        // These keys are the properties' names.
        let version = Mirror(reflecting: VersionReport(revision: 1, digest: nil))
        check("#### Keys of a version", version.children.compactMap(\.label))
    }

    @Test func everyWordOfTheCodeIsOnThePageAndNoOther() {
        #expect(page.firstColumn(under: "### States") == ReportState.allCases.map(\.rawValue))
        #expect(page.firstColumn(under: "### Operations") == Request.Operation.allCases.map(\.rawValue))
        let kinds = ModuleKind.allCases.map { "`\($0.rawValue)`" }
        #expect(
            page.text.contains("| `kind` | \(kinds.dropLast().joined(separator: ", ")) or \(kinds.last ?? "") | yes |"))
        for (state, row) in zip(ReportState.allCases, page.rows(under: "### States")) {
            let columns = state.isFinal ? "| yes | \(state.isSuccess ? "yes" : "no") |" : "| no | |"
            #expect(row.hasPrefix("| `\(state.rawValue)` \(columns)"))
        }
    }

    @Test func theLimitsAreThoseOfTheCode() {
        for row in [
            "| objects and lists in one another | \(JSONScreen.depthLimit) |",
            "| values in the whole body | \(JSONScreen.valueLimit / 1000),000 |",
            "| keys with a `\\` in them | \(JSONScreen.escapedKeyLimit) |",
            "| `modules` | \(Request.moduleLimit) |",
            "| `origin`, `name`, `version` | \(Request.textLimit) bytes each |",
            "| `destination` | \(Request.destinationLimit) bytes |",
        ] { #expect(page.lines.contains { $0 == row }, "\(row)") }
        #expect(page.text.contains("bodies over \(Report.bodyLimit >> 20) MiB"))
    }

    /// The raw values of an enum of coding keys, which nothing else can name: the first one in the file, or in a type of it.
    private func keys(_ name: String, of type: String? = nil, in file: String) throws -> [String] {
        let folder = Page.root.appendingPathComponent("Sources")
        let path = try #require(
            try FileManager.default.subpathsOfDirectory(atPath: folder.path).first { $0.hasSuffix("/\(file).swift") })
        var text = try String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8)[...]
        if let type { text = text[try #require(text.firstRange(of: "struct \(type):")).upperBound...] }
        text = text[try #require(text.firstRange(of: "enum \(name): String, CodingKey {")).upperBound...]
        let cases = text.prefix { $0 != "}" }.replacing("case ", with: ",").split { $0 == "," || $0 == "\n" }
        return try cases.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }.map { word in
            let match = try #require(word.wholeMatch(of: /(\w+)(?: = "(\w+)")?/), "\(word)")
            return String(match.2 ?? match.1)
        }
    }

    // MARK: Signature

    @Test func theSignatureIsTheOneOfTheKey() throws {
        let example = try #require(page.blocks("text").first { $0.hasPrefix("private key ") })
        let fields = try example.split(separator: "\n").reduce(into: [String: String]()) { fields, line in
            let match = try #require(line.wholeMatch(of: /([a-z_ ]+?)  +(.+)/))
            fields[String(match.1)] = String(match.2)
        }
        let body = try #require(page.blocks("json").first { !$0.contains("\n") && $0.contains("reload.request.v1") })
        let exchange = try #require(fields["exchange"])
        var envelope = Envelope(body: Array(body.utf8))
        envelope.messageID = fields["message_id"]
        envelope.timestamp = fields["timestamp"].flatMap(UInt64.init)

        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).pem").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let key = "-----BEGIN PRIVATE KEY-----\n\(fields["private key"] ?? "")\n-----END PRIVATE KEY-----\n"
        try #require(
            FileManager.default.createFile(
                atPath: file, contents: Data(key.utf8), attributes: [.posixPermissions: 0o600]))
        let signing = try SigningKey(file: file)
        try signing.sign(&envelope, exchange: exchange)
        #expect(signing.publicKey == fields["public key"])
        #expect(envelope.headers[RequestSignature.header] == fields["signature"].map { .string($0) })

        let trusted = try TrustedKeys(
            text: "keys: [{key: \(signing.publicKey), modules: [crawler.*], kinds: [config]}]")
        #expect(try trusted.signer(of: envelope, exchange: exchange).id == signing.id)
    }
}
