import Foundation
import Logging
import Metrics
import MetricsTestKit
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Reloading
import Testing

/// The counters of the broker layer, which only a broker can move.
extension EndToEnd.OneBroker {
    @Suite struct CounterTests {
        private let metrics = TestMetrics()

        private func total(_ label: String, _ dimensions: [(String, String)] = []) -> Int64 {
            (try? metrics.expectCounter(label, dimensions).totalValue) ?? 0
        }

        private func value(_ label: String, _ dimensions: [(String, String)] = []) -> Double? {
            (try? metrics.expectGauge(label, dimensions))?.lastValue
        }

        @Test func messagesDroppedFromAFullOutboxAreCounted() throws {
            let publisher = try Publisher(
                settings: ConnectionSettings(url: try BrokerURL("amqp://127.0.0.1:1"), name: "test"),
                topology: Topology(), outboxLimit: 2, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                metrics: metrics)
            for _ in 0..<5 { publisher.publish(Envelope(body: []), exchange: "", routingKey: "nowhere") }
            #expect(total("reload_agent_outbox_dropped_total") == 3)
            #expect(value("reload_agent_outbox_reports") == 2)
        }

        @Test func lostConnectionsAndTheirReceiptsAreCounted() async throws {
            try await World.run { world in
                var settings = ReloadAgent.Settings(service: world.service)
                settings.instance = "one"
                settings.broker = world.broker.url
                settings.stateDirectory = world.folder + "/state"
                settings.delivery = .ephemeral
                let agent = try ReloadAgent(
                    settings, logger: Logger(label: "agent") { _ in SwiftLogNoOpLogHandler() }, metrics: metrics)
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
                for connection in ["reload-consumer", "reload-publish"] {
                    #expect(value("reload_agent_connected", [("connection", connection)]) == 1)
                }
                let reconnects = total("reload_agent_reconnects_total", [("connection", "reload-consumer")])
                let stale = total("reload_agent_stale_receipts_total")
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
                while total("reload_agent_reconnects_total", [("connection", "reload-consumer")]) <= reconnects {
                    _ = try await world.broker.connections(of: "\(service):one")
                }
                let state = try await wire.report {
                    $0.request == "slow-\(service)" ? $0.state : nil
                } after: {
                    mayEnd.signal()
                }
                #expect(state == .applied)
                // The receipt goes back after the report's confirm; each turn asks the broker, so this spins slowly.
                while total("reload_agent_stale_receipts_total") == stale {
                    _ = try await world.broker.connections(of: "\(service):one")
                }
                agent.stop()
                for connection in ["reload-consumer", "reload-publish"] {
                    #expect(value("reload_agent_connected", [("connection", connection)]) == 0)
                }
            }
        }
    }
}
