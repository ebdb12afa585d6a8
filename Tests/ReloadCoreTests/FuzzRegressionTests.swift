import Foundation
import Testing

@testable import ReloadCore

/// What the fuzzers found (`scripts/fuzz`), and what a look at the same places showed.
@Suite(.timeLimit(.minutes(1))) struct FuzzRegressionTests {
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

    @Test func journalWithTheLargestNumber() async throws {
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
}
