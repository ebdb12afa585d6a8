import Foundation
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// What the fuzzers found (`scripts/fuzz`), and what a look at the same places showed.
@Suite(.timeLimit(.minutes(5))) struct FuzzRegressionTests {
    /// The source article's message takes the next local revision, and there is none after the largest.
    @Test func articleMessageAfterTheLargestRevision() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let inline = Data("depth: 2".utf8).base64EncodedString()
        let first = try await scene.apply("rules", .max, more: #", "inline":"\#(inline)""#)
        #expect(first.state == .applied)
        let second = try await scene.answer(to: #"{"model_path":"rules"}"#)
        #expect(second.modules.first?.code == .messageStaleRevision)
        #expect(rules.slot.current.version.revision == .max)
    }

    @Test func aLedgerWithTheLargestNumber() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        _ = try await scene.apply("rules", 2)
        scene.kill()
        for name in try scene.files() where name.hasPrefix("journal") {
            let file = scene.folder.appendingPathComponent("state/\(name)")
            let body = try #require(String(data: Data(contentsOf: file), encoding: .utf8)?.split(separator: "\n")[1])
            let changed = body.replacing(#/"number":\d+/#, with: "\"number\":\(UInt64.max)")
            try Data("reload-journal 1 \(Digest.of(Array(changed.utf8)))\n\(changed)".utf8).write(to: file)
        }
        let next = try Scene(in: scene.folder)
        _ = try next.rules()
        #expect(try await next.apply("rules", 3).state == .applied)
        #expect(try next.files().contains("journal.unreadable"))
    }

    @Test func artifactWithTheLargestNumber() async throws {
        let scene = try Scene()
        scene.kill()
        let file = scene.folder.appendingPathComponent("state/artifacts/rules-\(UInt64.max)-0.so")
        try Data().write(to: file)
        let next = try Scene(in: scene.folder)
        _ = try next.rules()
        #expect(try await next.apply("rules", 2).state == .applied)
    }

    /// An alias to two aliases to two aliases, and so on.
    private static func aliases(_ levels: Int) -> String {
        "a0: &a0 [x, x]\n" + (1...levels).map { "a\($0): &a\($0) [*a\($0 - 1), *a\($0 - 1)]\n" }.joined()
    }

    /// A text that would fill the output of the tests.
    struct Growing: CustomTestStringConvertible {
        let testDescription: String
        let yaml: String
    }

    @Test(arguments: [
        Growing(testDescription: "doubled", yaml: aliases(17)),
        // A key is hashed as if it were written out.
        Growing(testDescription: "in a key", yaml: aliases(60) + "? *a60\n: 1\n"),
        Growing(
            testDescription: "nested more deeply than the text is",
            yaml: "a0: &a0 [x]\n" + (1...200_000).map { "a\($0): &a\($0) [*a\($0 - 1)]\n" }.joined()),
    ])
    func configThatGrows(text: Growing) async throws {
        let scene = try Scene(artifactLimit: 64 << 20)
        _ = try scene.rules()
        let inline = Data("depth: 2\n\(text.yaml)".utf8).base64EncodedString()
        let report = try await scene.apply("rules", 2, more: #", "inline":"\#(inline)""#)
        #expect(report.modules.first?.code == .configInvalid)
    }

    @Test func configWithAliases() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let yaml = "defaults: &defaults {depth: 7, lists: [[a], [b]]}\n<<: *defaults\n"
        let inline = Data(yaml.utf8).base64EncodedString()
        #expect(try await scene.apply("rules", 2, more: #", "inline":"\#(inline)""#).state == .applied)
        #expect(rules.slot.withCurrent { $0.depth } == 7)
    }

    /// 60,000 section headers that all name the whole file as their symbols.
    @Test func libraryWhoseSymbolsAreCountedManyTimes() throws {
        func bytes<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
            (0..<Integer.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        let count: UInt16 = 60_000
        let size = 64 + 56 + Int(count) * 64
        #if arch(x86_64)
            let machine: UInt16 = 62
        #else
            let machine: UInt16 = 183
        #endif
        var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + Array(repeating: 0, count: 9)
        file += bytes(UInt16(3)) + bytes(machine) + bytes(UInt32(1)) + bytes(UInt64(0))
        file += bytes(UInt64(64)) + bytes(UInt64(120)) + bytes(UInt32(0))
        for field: UInt16 in [64, 56, 1, 64, count, 0] { file += bytes(field) }
        file += Array(repeating: 0, count: 56)
        let section =
            bytes(UInt32(0)) + bytes(UInt32(11)) + bytes(UInt64(0)) + bytes(UInt64(0)) + bytes(UInt64(0))
            + bytes(UInt64(size)) + Array(repeating: 0, count: 24)
        for _ in 0..<count { file += section }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString).so").path
        try Data(file).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: ReloadError.self) { _ = try ELFFile(path: path) }
    }
}
