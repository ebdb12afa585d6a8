import Foundation
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

extension EndToEnd.OneBroker {
    /// Everything between an operator's command and a running crawler.
    @Suite struct CrawlerTests {
        @Test func aConfigChangeReachesEveryCrawler() async throws {
            try await World.run { world in
                let site = try await world.site()
                let crawlers = try await [world.crawler("web-1", site: site), world.crawler("web-2", site: site)]
                for crawler in crawlers { try await crawler.line { $0.records > 0 } }
                try await world.areThere(2)
                let rules = try world.write("max_depth: 3\ndelay_ms: 1\n", to: "next.yaml")
                let outcome = try await world.publish(
                    "crawler.rules", "--kind", "config", "--file", rules, "--revision", "7")
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.objects.last?["applied"]?.array?.count == 2)
                for crawler in crawlers {
                    let line = try await crawler.line { $0.rules.revision == 7 }
                    #expect(line.rules.generation == 2)
                    #expect(line.failed == 0)
                }
            }
        }

        @Test(arguments: [
            ("CParserV1", "CParserV2"), ("SwiftParserV1", "SwiftParserV2"), ("CParserV1", "SwiftParserV1"),
        ])
        func aPluginIsUpgradedAndRolledBack(from old: String, to new: String) async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site(), parser: old)
                let before = try await crawler.line { $0.records > 0 }
                try world.plugin(new)
                let upgrade = try await world.publish("crawler.parser", "--kind", "plugin", "--path", "lib\(new).so")
                #expect(upgrade.status == 0, "\(upgrade.errors)\(upgrade.output)")
                let after = try await crawler.line { $0.parser.generation == 2 }
                #expect(after.parser.version != before.parser.version)
                try await crawler.line { $0.records > after.records }
                let back = try await world.reloadctl(
                    "rollback", "crawler.parser", "--destination", "\(world.service):*")
                #expect(back.status == 0, "\(back.errors)")
                let restored = try await crawler.line { $0.parser.generation == 3 }
                #expect(restored.parser.version == before.parser.version)
                #expect(restored.parser.revision == 0)
                #expect(restored.failed == 0)
                #expect(Set(try crawler.records().map(\.parserVersion)).count == 2)
            }
        }

        @Test(arguments: [
            ("CParserBroken", "plugin.self_test_failed"), ("SwiftParserBroken", "plugin.self_test_failed"),
            ("NotAPlugin", "plugin.no_entry"),
        ])
        func aBrokenPluginIsRefusedWhileTheOldOneServes(product: String, code: String) async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site())
                try await crawler.line { $0.records > 0 }
                try await world.areThere(1)
                try world.plugin(product)
                let outcome = try await world.publish("crawler.parser", "--path", "lib\(product).so")
                #expect(outcome.status == 1)
                #expect(outcome.output.contains(code), "\(outcome.output)")
                let line = try await crawler.line()
                #expect(line.parser.generation == 1)
                let later = try await crawler.line { $0.records > line.records }
                #expect(later.failed == 0)
            }
        }

        @Test func fourHundredReloadsAtFullSpeedLoseNoPage() async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site(), delay: 0)
                try await crawler.line { $0.records > 0 }
                try world.plugin("CParserV2")
                try world.plugin("SwiftParserV1")
                let wire = Wire(broker: world.broker)
                let parsers = ["CParserV1", "CParserV2", "SwiftParserV1"]
                for revision in 1...200 {
                    // One after the other is answered: of two that wait only the newer one is loaded.
                    let (id, configID) = (UUID().uuidString, UUID().uuidString)
                    let rules = Data("max_depth: 8\ndelay_ms: 0\nuser_agent: crawler-\(revision)\n".utf8)
                        .base64EncodedString()
                    let body = """
                        {"protocol":"reload.request.v1","operation":"apply","destination":"\(world.service):*","modules":[
                        {"name":"crawler.parser","kind":"plugin","revision":\(revision),
                        "path":"lib\(parsers[revision % parsers.count]).so"}]}
                        """
                    let config = """
                        {"protocol":"reload.request.v1","operation":"apply","destination":"\(world.service):*","modules":[
                        {"name":"crawler.rules","kind":"config","revision":\(revision),"inline":"\(rules)"}]}
                        """
                    let states = Mutex<[String: ReportState]>([:])
                    _ = try await wire.report { report -> Bool? in
                        guard let request = report.request, [id, configID].contains(request) else { return nil }
                        return states.withLock { states -> Bool? in
                            states[request] = report.state
                            return states.count == 2 ? true : nil
                        }
                    } after: {
                        try await wire.publish(Array(config.utf8), id: configID)
                        try await wire.publish(Array(body.utf8), id: id)
                    }
                    #expect(states.withLock { $0.values.allSatisfy { $0 == .applied } })
                }
                let line = try await crawler.line { $0.parser.revision == 200 && $0.rules.revision == 200 }
                // The first generation, then 200 of each.
                #expect(line.parser.generation == 201)
                #expect(line.rules.generation == 201)
                let last = try await crawler.line { $0.records > line.records }
                #expect(last.failed == 0)
                await crawler.command.stop()
                let records = try crawler.records()
                #expect(records.count >= last.records)
                // Each record names the one version that wrote it: title and version come from the same call.
                let versions = Set(records.map(\.parserVersion))
                #expect(versions.count == 3, "\(versions)")
                #expect(records.allSatisfy { !$0.title.isEmpty })
            }
        }

        @Test func aCrawlerThatIsAskedToEndSaysOfflineAndExitsClean() async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site())
                try await crawler.line { $0.records > 0 }
                let service = world.service
                _ = try await Wire(broker: world.broker).report {
                    $0.service == service && $0.state == .offline ? true : nil
                } after: {
                    crawler.command.signal(SIGTERM)
                }
                #expect(await crawler.command.outcome().status == 0)
            }
        }
    }
}

extension EndToEnd {
    /// The same when the broker goes, each test on one of its own.
    @Suite(.serialized, .inTurn) struct CrawlerBrokerTests {
        @Test func aCrawlerStartsWhileTheBrokerIsAway() async throws {
            let broker = try await Broker.start()
            try await broker.run("stop")
            try await World.run(on: broker) { world in
                let crawler = try await world.crawler(site: try await world.site())
                try await crawler.line { $0.records > 0 }
                let unreachable = try await world.publish("crawler.rules", "--timeout", "2s")
                #expect(unreachable.status == 4)
                #expect(unreachable.errors.contains("broker.unreachable"), "\(unreachable.errors)")
                try await broker.run("start")
                let modules = try await world.awaitAnswer()["modules"]?.array ?? []
                #expect(modules.compactMap { $0["name"]?.text } == ["crawler.parser", "crawler.rules"])
                #expect(try await world.publish("crawler.rules", "--revision", "3").status == 0)
                try await crawler.line { $0.rules.revision == 3 && $0.failed == 0 }
            }
            try await broker.stop()
        }

        @Test(arguments: ["stream", "ephemeral"])
        func aBrokerThatStopsForTwentySecondsOnlyDelays(delivery: String) async throws {
            let broker = try await Broker.start()
            try await World.run(on: broker) { world in
                let crawler = try await world.crawler(site: try await world.site(), delivery: delivery)
                try await crawler.line { $0.records > 0 }
                #expect(try await world.publish("crawler.rules", "--revision", "1").status == 0)
                try await broker.run("stop")
                // It says one line a second: twenty of them, and it goes on crawling.
                let first = try await crawler.line()
                for _ in 0..<20 { try await crawler.line() }
                try await crawler.line { $0.records > first.records && $0.failed == 0 }
                try await broker.run("start")
                _ = try await world.awaitAnswer()
                let outcome = try await world.publish("crawler.rules", "--revision", "2")
                #expect(outcome.status == 0, "\(outcome.errors)\(outcome.output)")
                try await crawler.line { $0.rules.revision == 2 }
            }
            try await broker.stop()
        }

        @Test(arguments: ["stream", "ephemeral"])
        func aDeletedQueueIsMadeAnew(delivery: String) async throws {
            let broker = try await Broker.start()
            try await World.run(on: broker) { world in
                let crawler = try await world.crawler(site: try await world.site(), delivery: delivery)
                try await crawler.line { $0.records > 0 }
                #expect(try await world.publish("crawler.rules", "--revision", "1").status == 0)
                let wire = Wire(broker: broker)
                let names = try await broker.run("ctl", "--quiet", "list_queues", "name", "--no-table-headers").output
                let queue = try #require(
                    names.split(separator: "\n").map(String.init).first {
                        delivery == "stream" ? $0 == "reload.journal" : $0.hasPrefix("amq.gen")
                    }, "\(names)")
                _ = try await wire.report {
                    $0.state == .online ? true : nil
                } after: {
                    try await broker.run("ctl", "--quiet", "delete_queue", queue)
                }
                let outcome = try await world.publish("crawler.rules", "--revision", "2")
                #expect(outcome.status == 0, "\(outcome.errors)\(outcome.output)")
                try await crawler.line { $0.rules.revision == 2 && $0.failed == 0 }
            }
            try await broker.stop()
        }
    }
}

extension World {
    /// Asks this world's one instance what it runs, again and again until it answers.
    func awaitAnswer() async throws -> JSON {
        while true {
            let outcome = try await reloadctl(
                "status", "--fresh", "--json", "--destination", "\(service):*", "--timeout", "5s")
            if outcome.status == 0, let status = outcome.output.split(separator: "\n").first.flatMap({ JSON($0) }) {
                return status
            }
        }
    }
}
