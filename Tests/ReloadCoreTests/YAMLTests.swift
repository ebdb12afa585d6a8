import Foundation
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

@Suite(.timeLimit(.minutes(5))) struct YAMLTests {
    private struct Box<Value: Decodable>: Decodable {
        var v: Value
    }

    private enum Level: String, Decodable {
        case off, on, yes, no, info
    }

    private struct Opt: Decodable, CustomStringConvertible {
        var a: Int?
        var b: String?
        var description: String { "Opt(a: \(a.map { "\($0)" } ?? "nil"), b: \(b.map { "\($0)" } ?? "nil"))" }
    }

    private static func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> YAML.Decoded<Value> {
        try YAML.decode(type, from: Array(text.utf8), orThrow: .configInvalid)
    }

    /// What a type reads, as the table writes it.
    private static func read(_ type: String, _ text: String) throws -> String {
        func show<Value: Decodable>(_: Value.Type, _ show: (Value) -> String = { "\($0)" }) throws -> String {
            show(try decode(Box<Value>.self, text).value.v)
        }
        func list<Key: Comparable, Value>(_ table: [Key: Value]) -> String {
            let entries = table.sorted { $0.key < $1.key }
                .map { "\(String(reflecting: $0.key)): \(String(reflecting: $0.value))" }
            return "[" + entries.joined(separator: ", ") + "]"
        }
        return switch type {
        case "String": try show(String.self)
        case "Optional<String>": try show(String?.self) { $0.map { "Optional(\(String(reflecting: $0)))" } ?? "nil" }
        case "Int": try show(Int.self)
        case "UInt64": try show(UInt64.self)
        case "UInt8": try show(UInt8.self)
        case "Bool": try show(Bool.self)
        case "Double": try show(Double.self)
        case "Float": try show(Float.self)
        case "Decimal": try show(Decimal.self)
        case "Date": try show(Date.self)
        case "Data": try show(Data.self)
        case "URL": try show(URL.self)
        case "UUID": try show(UUID.self)
        case "Level": try show(Level.self)
        case "Opt": try show(Opt.self)
        case "Dictionary<Int, String>": try show([Int: String].self, list)
        case "Dictionary<String, Int>": try show([String: Int].self, list)
        case "Dictionary<String, Array<Int>>": try show([String: [Int]].self, list)
        case "Array<Int>": try show([Int].self)
        case "Array<Array<Int>>": try show([[Int]].self)
        case "Range<Int>": try show(Range<Int>.self)
        default: throw CocoaError(.featureUnsupported)
        }
    }

    struct Row: CustomTestStringConvertible {
        let type, text, here: String
        var testDescription: String { "\(type) \(text)" }
    }

    /// 132 scalars, what Yams 6.2.2 read them as, and what is read here where that is something else; docs/configs.md says why.
    static let rows: [Row] = {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "Fixtures/yaml-scalars.tsv")
        let text = (try? String(contentsOf: path, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").dropFirst().map { line in
            let columns = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            return Row(type: columns[0], text: columns[1], here: columns[3].isEmpty ? columns[2] : columns[3])
        }
    }()

    @Test func theTableIsThere() { #expect(Self.rows.count == 132) }

    @Test(arguments: rows) func readsAsTheTableSays(row: Row) throws {
        let text = row.text.replacing("⏎", with: "\n").replacing("⇥", with: "\t")
        var value = "refused"
        do { value = try Self.read(row.type, "v: \(text)") } catch { #expect(error is ReloadError) }
        #expect(value.replacing("\n", with: "⏎").replacing("\t", with: "⇥").replacing("\0", with: "\\0") == row.here)
    }

    private struct Site: Decodable, Equatable {
        var url: String
        var depth: UInt8?
    }

    private struct Sites: Decodable, Equatable {
        var sites: [Site]
        var limit: Int?
    }

    /// What is wrong is told with its coding path, what is wanted, what is there, and where.
    @Test(
        arguments: [
            ("", "it is empty"), ("# only this\n", "it is empty"), ("--- ", "it is empty"),
            ("- 1", "expected a mapping, found a list (line 1, column 1)"),
            ("sites: 5", "sites: expected a list, found a whole number (line 1, column 8)"),
            ("sites: []\nlimit: '6'", "limit: expected a whole number, found text (line 2, column 8)"),
            (
                "sites: []\nlimit: 6.0",
                "limit: expected a whole number, found a number with a point or an exponent (line 2, column 8)"
            ),
            (
                "sites: []\nlimit: 99999999999999999999",
                "limit: expected a whole number, found one that does not fit (line 2, column 8)"
            ),
            (
                "sites: []\nlimit: 0123",
                "limit: expected a whole number, found a number with a 0 in front; octal is written 0o17 (line 2, column 8)"
            ),
            (
                "sites:\n  - {url: a, depth: 300}",
                "sites[0].depth: expected a whole number from 0 to 255, found one that does not fit (line 2, column 21)"
            ),
            ("sites:\n  - {url: a}\n  - depth: 1", "sites[1].url: missing (line 3, column 5)"),
            (
                "a: &a {depth: yes}\nsites:\n  - {<<: *a, url: u}",
                "sites[0].depth: expected a whole number from 0 to 255, found true or false (line 1, column 15)"
            ),
            ("limit: ~", "sites: missing (line 1, column 1)"),
            ("sites: ~", "sites: expected a list, found nothing (line 1, column 8)"),
            ("sites: !env X", "an unknown tag (line 1, column 8)"),
            ("sites: !!set {a}", "an unknown tag (line 1, column 8)"),
            ("sites: []\nlimit: 1\n'sites': []", "this key comes twice (line 3, column 1)"),
            ("x: {a: 1, b: 2, a: 3}", "this key comes twice (line 1, column 17)"),
            ("<<: 4\nsites: []", "<< takes a mapping or a list of mappings (line 1, column 1)"),
            ("<<: [{}, 4]\nsites: []", "<< takes a mapping or a list of mappings (line 1, column 1)"),
            ("sites: *none", "an alias that names nothing before it (line 1, column 8)"),
            ("sites: &s [*s]", "an alias that names nothing before it (line 1, column 12)"),
            ("sites: []\n---\nsites: []", "it has more than one document (line 2, column 1)"),
            ("? [a]\n: 1", "a key is a sequence or a mapping (line 1, column 3)"),
            ("sites: [", "it is not YAML: did not find expected node content (line 2, column 1)"),
            ("sites: \u{7}", "it is not YAML: control characters are not allowed (line 1)"),
        ])
    func saysWhatIsWrongAndWhere(text: String, message: String) {
        #expect {
            try Self.decode(Sites.self, text)
        } throws: { error in
            guard let error = error as? ReloadError else { return false }
            #expect(error.message == message)
            return error.code == .configInvalid
        }
    }

    @Test(
        arguments: [
            [0xff, 0xfe, 0x61, 0x00, 0x3a, 0x00], [0x61, 0x3a, 0x20, 0xe9, 0x0a], [0x61, 0x3a, 0x20, 0xed, 0xa0, 0x80],
        ] as [[UInt8]])
    func takesNothingButUTF8(bytes: [UInt8]) {
        #expect {
            try YAML.decode([String: String].self, from: bytes, orThrow: .configInvalid)
        } throws: { ($0 as? ReloadError)?.message == "it is not UTF-8 (line 1)" }
    }

    @Test(arguments: [
        "\u{feff}limit: 1\nsites: []", "limit: 1\r\nsites: []\r\n", "%YAML 1.1\n---\nsites: []\nlimit: 1\n...\n",
    ])
    func takesWhatEditorsWrite(text: String) throws {
        #expect(try Self.decode(Sites.self, text).value == Sites(sites: [], limit: 1))
    }

    @Test(
        arguments: [
            ("sites: []", ""), ("sites: []\nlimt: 1", "limt (line 2)"),
            (
                "sites:\n - {url: a, dpeth: 1}\n - {url: b, deep: {x: 1}}",
                "sites[0].dpeth (line 2), sites[1].deep (line 3)"
            ),
            // What an alias stands for has its use; what `<<` brings is asked for like anything else.
            ("base: &b {limit: 1, limt: 2}\n<<: *b\nsites: []", "base.limt (line 1)"),
            ("base: &b {limit: 1}\n<<: *b\nlimit: 2\nsites: []", ""), ("base: &b 1\nsites: []", "base (line 1)"),
            ("\"a\\nb\": 1\nsites: []", "a\\u{A}b (line 1)"),
            (
                "sites: []\na: 1\nb: 1\nc: 1\nd: 1\ne: 1\nf: 1\ng: 1",
                "a (line 2), b (line 3), c (line 4), d (line 5), e (line 6), and 2 more"
            ),
        ])
    func namesWhatTheTypeDoesNotAskFor(text: String, unknown: String) throws {
        #expect(try Self.decode(Sites.self, text).unknownKeys == unknown)
    }

    /// What takes the square of its size elsewhere would run into the time limit.
    @Test func largeMappingsAreReadInTheirOwnTime() throws {
        let many = (0..<100_000).map { "k\($0): \($0)" }.joined(separator: "\n")
        let keys = try Self.decode(Sites.self, "sites: []\n\(many)").unknownKeys
        #expect(keys.hasSuffix("k4 (line 6), and 99995 more"))
        let half = (0..<20_000).map { "k\($0): \($0)" }.joined(separator: ", ")
        let others = (0..<20_000).map { "l\($0): \($0)" }.joined(separator: ", ")
        let table = try Self.decode(
            [String: [String: Int]].self, "a: &a {\(half)}\nb: &b {\(others), k1: 0}\nc: {<<: [*a, *b]}"
        ).value
        #expect(table["c"]?.count == 40_000 && table["c"]?["k1"] == 1)
    }

    @Test(arguments: ["{", "[", "{\"\":[", "- ", "? ", "&a [", "!!seq ["])
    func deepNestingEndsEarly(opening: String) {
        #expect {
            try Self.decode([Int].self, String(repeating: opening, count: 1_000_000))
        } throws: { ($0 as? ReloadError)?.code == .configInvalid }
    }

    /// A type that lists the keys knows them all.
    @Test func tablesKnowAllKeys() throws {
        #expect(try Self.decode([String: [String: Int]].self, "a: {b: 1}\nc: {}").unknownKeys == "")
    }

    /// Types that look for more than one form, that inherit, and that ask for everything a container can give.
    @Test func containersGiveWhatTheProtocolPromises() throws {
        class Base: Decodable { var name = "" }
        final class Derived: Base {
            var rest: [Int] = []
            enum Key: CodingKey { case name, rest, flag }
            required init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Key.self)
                #expect(container.contains(.rest) && !container.contains(.flag))
                #expect(container.allKeys.map(\.stringValue) == ["name", "rest"])
                #expect(try container.decodeIfPresent(Bool.self, forKey: .flag) == nil)
                var list = try container.nestedUnkeyedContainer(forKey: .rest)
                #expect(list.count == 4)
                let isNil = try list.decodeNil()
                #expect(isNil && list.currentIndex == 1)
                #expect(throws: DecodingError.self) { try list.decode(Bool.self) }
                rest = [try list.decode(Int.self)]
                var inner = try list.nestedUnkeyedContainer()
                rest.append(try inner.decode(Int.self))
                #expect(inner.isAtEnd)
                rest.append(try list.nestedContainer(keyedBy: Key.self).decode(Int.self, forKey: .flag))
                #expect(list.isAtEnd && list.codingPath.map(\.stringValue) == ["rest"])
                #expect(throws: DecodingError.self) { try list.decode(Int.self) }
                try super.init(from: decoder)
            }
        }
        let value = try Self.decode(Derived.self, "name: n\nrest: [~, 1, [2], {flag: 3}]").value
        #expect(value.name == "n" && value.rest == [1, 2, 3])
    }
}
