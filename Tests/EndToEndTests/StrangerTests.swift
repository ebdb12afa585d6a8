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

        /// Presence goes by an instance's own interval, also where that is longer than what `status` used to look back.
        @Test func presenceGoesByTheOwnInterval() async throws {
            try await World.run { world in
                let wire = Wire(broker: world.broker)
                let now = Date()
                // Seconds of the interval, and how long ago it was reported.
                let reports: [(name: String, interval: Int?, age: Double)] = [
                    ("here", 120, 200), ("gone", 120, 400), ("quick", 1, 0), ("quickly-gone", 1, 10),
                    ("before", nil, 3600),
                ]
                for each in reports {
                    let report = Report(
                        request: nil, service: world.service, instance: each.name, sequence: 1, state: .online,
                        interval: each.interval.map { .seconds($0) }, at: now.addingTimeInterval(-each.age))
                    try await wire.send(
                        Envelope(
                            body: report.encode(), type: Report.protocolName, correlationID: nil, appID: "test"),
                        exchange: "reload.status", routingKey: report.routingKey)
                }
                let lines = try await world.reloadctl("status", "--json", "--destination", "\(world.service):*").objects
                // The broker has it younger than 90 s, and an agent of before does not say more.
                let expected: Set = ["before", "here", "quick"]
                // One second may be over until it is asked.
                let found = Set(lines.compactMap { $0["instance"]?.text })
                #expect(found.union(["quick"]) == expected, "\(found)")
                // What came before a place in the stream: only of those who report seldom.
                let earlier = try await wire.onThread {
                    var view = FleetView()
                    let fleet = try Fleet(broker: wire.broker.url, limit: Limit(timeout: .seconds(30)))
                    try fleet.addEarlier(than: nil, to: &view)
                    return view.present(matching: Destination("\(world.service):*"), at: now).keys.map(\.name).sorted()
                }
                #expect(earlier == ["here", "quick"])
            }
        }
    }
}
