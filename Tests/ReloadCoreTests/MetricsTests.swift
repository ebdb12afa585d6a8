import Foundation
import MetricsTestKit
import ReloadCore
import Testing

@Suite(.timeLimit(.minutes(5))) struct MetricsTests {
    @Test func everyAnswerAndEveryAttemptIsCounted() async throws {
        let metrics = TestMetrics()
        let scene = try Scene(metrics: metrics)
        _ = try scene.rules()
        _ = try await scene.apply("rules", 1)
        _ = try await scene.apply("rules", 1)
        _ = try await scene.apply("nowhere", 1)
        scene.send("not json", id: "bad")
        _ = try await scene.report(for: "bad")
        for (state, count) in [("applied", Int64(1)), ("unchanged", 1), ("refused", 2)] {
            #expect(try metrics.expectCounter("reload_agent_requests", [("state", state)]).totalValue == count)
        }
        #expect(try metrics.expectTimer("reload_agent_attempt").values.count == 3)
    }
}
