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
}
