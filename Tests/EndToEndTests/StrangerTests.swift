import Foundation
import ReloadAMQP
import ReloadProtocol
import Testing

@testable import ReloadFleet

extension EndToEnd.OneBroker {
    /// A program of another package, which knows `ReloadFleet` and `ReloadProtocol` alone: see `Tests/Stranger`.
    @Suite struct StrangerTests {
        @Test func publishesFollowsAndLooksBack() async throws {
            try await World.run { world in
                let site = try await world.site()
                let crawlers = try await [world.crawler("web-1", site: site), world.crawler("web-2", site: site)]
                for crawler in crawlers { try await crawler.line { $0.records > 0 } }
                try await world.areThere(2)
                let outcome = try await Command(
                    Repository.binaries + "/stranger",
                    [world.broker.url, "\(world.service):*", "crawler.rules", "max_depth: 3\ndelay_ms: 1\n"]
                ).outcome()
                #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
                #expect(outcome.output.contains("2 applied"), "\(outcome.output)")
                for crawler in crawlers { try await crawler.line { $0.rules.revision == 1_000_000 } }
                let nobody = try await Command(
                    Repository.binaries + "/stranger", [world.broker.url, "nobody:*", "crawler.rules", "max_depth: 3"]
                ).outcome()
                #expect(nobody.status != 0 && nobody.output.contains("not answered"), "\(nobody.output)")
            }
        }

        /// Presence goes by an instance's own interval and by the broker's clock.
        @Test func presenceGoesByTheOwnInterval() async throws {
            try await World.run { world in
                let wire = Wire(broker: world.broker)
                // Seconds of the interval. Their clocks are wrong.
                for (name, interval) in [("seldom", 120), ("often", 4), ("before", nil)] as [(String, Int?)] {
                    let report = Report(
                        request: nil, service: world.service, instance: name, sequence: 1, state: .online,
                        interval: interval.map { .seconds($0) }, at: Date(timeIntervalSinceNow: -3600))
                    try await wire.send(
                        Envelope(
                            body: report.encode(), type: Report.protocolName, correlationID: nil, appID: "test"),
                        exchange: "reload.status", routingKey: report.routingKey)
                }
                // What came before a place in the stream: only of those who report seldom or often.
                let destination = Destination("\(world.service):*")
                let earlier = try await wire.onThread {
                    var view = FleetView()
                    let fleet = try Fleet(broker: wire.broker.url, limit: Limit(timeout: .seconds(30)))
                    var reader = try StreamReader(fleet, fleet.topology.reports, from: .age(.seconds(90)))
                    try reader.readToPresent { _ in }
                    guard let newest = reader.newest else { throw TestFailure("an empty stream") }
                    reader.close()
                    try fleet.addEarlier(than: newest + 1, to: &view, matching: destination)
                    return view.present(matching: destination).keys.map(\.name).sorted()
                }
                #expect(earlier == ["often", "seldom"])
                func present() async throws -> Set<String> {
                    let lines = try await world.reloadctl("status", "--json", "--destination", destination.pattern)
                        .objects
                    return Set(lines.compactMap { $0["instance"]?.text })
                }
                var found = try await present()
                while found.contains("often") { found = try await present() }
                #expect(found == ["before", "seldom"])
            }
        }
    }
}
