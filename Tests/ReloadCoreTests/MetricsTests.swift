import Foundation
import MetricsTestKit
import ReloadCore
import ReloadProtocol
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
            #expect(try metrics.expectCounter("reload_agent_requests_total", [("state", state)]).totalValue == count)
        }
        for (kind, outcome) in [("config", "applied"), ("config", "unchanged"), ("config", "refused")] {
            let timer = try metrics.expectTimer("reload_agent_attempt_seconds", [("kind", kind), ("outcome", outcome)])
            #expect(timer.values.count == 1)
        }
        for stage in ["stage", "load", "swap", "prove"] {
            #expect(try !metrics.expectTimer("reload_agent_stage_seconds", [("stage", stage)]).values.isEmpty)
        }
    }

    @Test func aModuleTellsWhatRunsAndWhatBecameOfTheLastAttempt() async throws {
        let metrics = TestMetrics()
        let scene = try Scene(metrics: metrics)
        _ = try scene.rules()
        func value(_ label: String) throws -> Double? {
            try metrics.expectGauge("reload_agent_module_" + label, [("module", "rules")]).lastValue
        }
        let began = Date().timeIntervalSince1970
        _ = try await scene.apply("rules", 7)
        scene.reloader.announce(.online)
        #expect(try value("revision") == 7)
        #expect(try value("generation") == 2)
        #expect(try value("quarantined") == 0)
        #expect(try value("last_attempt_successful") == 1)
        let success = try #require(try value("last_success_timestamp_seconds"))
        #expect(success >= began.rounded(.down))
        // What only asks is no attempt; what is refused for what is in it is one.
        _ = try await scene.apply("rules", 8, more: #","inline":"Wzs=""#)
        #expect(try value("last_attempt_successful") == 0)
        #expect(try value("last_success_timestamp_seconds") == success)
        #expect(try value("revision") == 7)
    }
}
