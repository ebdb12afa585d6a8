import Foundation
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// What an earlier build wrote is read by this one. The state directory is of an agent of commit 2f83033 that was killed: it had
/// taken two configs and one plugin, refused a config and a plugin, and gone back to the first of the configs.
@Suite(.timeLimit(.minutes(5))) struct StateOfBeforeTests {
    private static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Fixtures")

    private func scene() throws -> Scene {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let state = folder.appendingPathComponent("state")
        try FileManager.default.copyItem(at: Self.fixtures.appendingPathComponent("state-of-2f83033"), to: state)
        // A clone keeps no modes.
        for path in [""] + (try FileManager.default.subpathsOfDirectory(atPath: state.path)) {
            let isFolder = ["", "artifacts", "attempts"].contains(path)
            try FileManager.default.setAttributes(
                [.posixPermissions: isFolder ? 0o700 : 0o600],
                ofItemAtPath: state.appendingPathComponent(path).path)
        }
        return try Scene(in: folder)
    }

    @Test func aConfigGoesOnWhereItWas() async throws {
        let scene = try scene()
        let rules = try scene.rules()
        #expect(rules.slot.withCurrent { $0.depth } == 2)
        #expect(rules.running.report.revision == 2 && rules.running.report.version == "2.0")
        // The request that brought it is answered already.
        scene.send(
            #"{"protocol":"reload.request.v1","operation":"rollback","modules":[{"name":"rules"}]}"#,
            id: Self.broughtBy)
        #expect(try await scene.apply("rules", 1).code == .messageStaleRevision)
        #expect(rules.running.report.revision == 2 && scene.acknowledged.withLock { $0.count } == 2)
        let back = try await scene.answer(
            to: #"{"protocol":"reload.request.v1","operation":"rollback","modules":[{"name":"rules","revision":3}]}"#)
        #expect(back.state == .applied && rules.slot.withCurrent { $0.depth } == 3)
    }

    /// `message_id` of the rollback, as the ledger has it.
    private static var broughtBy: String? {
        let path = fixtures.appendingPathComponent("state-of-2f83033/journal")
        let text = (try? String(contentsOf: path, encoding: .utf8)) ?? ""
        return text.matches(of: /"brought_by":"([^"]*)"/).last.map { String($0.1) }
    }

    /// The library in it is one for this processor.
    #if arch(x86_64)
        @Test func aPluginAndWhatFailedAreKnown() async throws {
            let scene = try scene()
            let parser = try scene.parser()
            #expect(try parser.text() == "two" && parser.running.report.revision == 5)
            try FileManager.default.copyItem(
                at: Self.fixtures.appendingPathComponent("bad.so"),
                to: scene.folder.appendingPathComponent("artifacts/bad.so"))
            let report = try await scene.apply("parser", 7, kind: "plugin", more: #","path":"bad.so""#)
            #expect(report.code == .moduleQuarantined)
            #expect(report.message.contains("plugin.self_test_failed: it gave no reason (status 5)"))
            #expect(try parser.text() == "two")
        }
    #endif
}
