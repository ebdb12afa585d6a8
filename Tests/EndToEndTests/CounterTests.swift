import Foundation
import Logging
import Metrics
import MetricsTestKit
import ReloadAMQP
import ReloadCore
import Reloading
import Testing

/// The counters of the broker layer, which only a broker can move.
extension EndToEnd.OneBroker {
    @Suite struct CounterTests {
        /// The process has one metrics system; these tests are the only ones that look at it.
        private static let metrics: TestMetrics = {
            let metrics = TestMetrics()
            MetricsSystem.bootstrap(metrics)
            return metrics
        }()

        private func total(_ label: String, _ dimensions: [(String, String)] = []) -> Int64 {
            (try? Self.metrics.expectCounter(label, dimensions).totalValue) ?? 0
        }

        @Test func messagesDroppedFromAFullOutboxAreCounted() throws {
            let before = total("reload_agent_outbox_dropped")
            let publisher = try Publisher(
                settings: ConnectionSettings(url: try BrokerURL("amqp://127.0.0.1:1"), name: "test"),
                topology: Topology(), outboxLimit: 2, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            for _ in 0..<5 { publisher.publish(Envelope(body: []), exchange: "", routingKey: "nowhere") }
            #expect(total("reload_agent_outbox_dropped") == before + 3)
        }

        @Test func lostConnectionsAndTheirReceiptsAreCounted() async throws {
            _ = Self.metrics
            try await World.run { world in
                var settings = ReloadAgent.Settings(service: world.service)
                settings.instance = "one"
                settings.broker = world.broker.url
                settings.stateDirectory = world.folder + "/state"
                settings.delivery = .ephemeral
                let agent = try ReloadAgent(settings, logger: Logger(label: "agent") { _ in SwiftLogNoOpLogHandler() })
                defer { agent.stop() }
                let isUnderWay = DispatchSemaphore(value: 0)
                let mayEnd = DispatchSemaphore(value: 0)
                agent.handler("slow", file: try world.write("x", to: "slow.txt")) { _ in
                    isUnderWay.signal()
                    mayEnd.wait()
                    return {}
                }
                let wire = Wire(broker: world.broker)
                let service = world.service
                let isOnline: @Sendable (Report) -> Bool? = { report in
                    report.service == service && report.state == .online ? true : nil
                }
                _ = try await wire.report(isOnline) { try agent.start() }
                let reconnects = total("reload_agent_reconnects", [("connection", "reload-consumer")])
                let stale = total("reload_agent_stale_receipts")
                let request = """
                    {"protocol":"reload.request.v1","operation":"apply","destination":"\(service):*",
                    "modules":[{"name":"slow","revision":1}]}
                    """
                try await wire.publish(Array(request.utf8), id: "slow-\(service)")
                await withCheckedContinuation { continuation in
                    Thread {
                        isUnderWay.wait()
                        continuation.resume()
                    }.start()
                }
                let mine = try await world.broker.connections(of: "\(service):one")
                _ = try await wire.report(isOnline) {
                    for connection in mine { try await world.broker.run("ctl", "close_connection", connection, "test") }
                }
                // It is counted after the report.
                while total("reload_agent_reconnects", [("connection", "reload-consumer")]) <= reconnects {
                    _ = try await world.broker.connections(of: "\(service):one")
                }
                let state = try await wire.report {
                    $0.request == "slow-\(service)" ? $0.state : nil
                } after: {
                    mayEnd.signal()
                }
                #expect(state == .applied)
                // The receipt goes back after the report's confirm; each turn asks the broker, so this spins slowly.
                while total("reload_agent_stale_receipts") == stale {
                    _ = try await world.broker.connections(of: "\(service):one")
                }
            }
        }
    }
}
