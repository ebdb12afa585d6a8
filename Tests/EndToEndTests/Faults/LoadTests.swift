import Foundation
import Testing

extension EndToEnd {
    /// Many requests at once, and faults while they are on their way. On a broker of its own, since its streams grow long.
    @Suite(.serialized, .withBroker, .timeLimit(.minutes(3))) struct LoadTests {
        @Test func catchUp() async throws {
            try await row("10,000 requests for 100 modules while an instance was away: 100 loads") { world, row in
                let configs = (1...100).map { "rules-\($0)" }
                let agent = world.agent("one") { $0.configs = configs }
                try await agent.start()
                try await agent.logs("connected to the broker", times: 2)
                try await agent.stop()
                try await row.publish(9_900, configs: configs)
                // The end of a backlog is looked for from the first message of the last chunk on.
                try await row.publish(100, configs: configs)
                row.healed()
                try await agent.start()
                try await row.finish([agent])
                let changes = try agent.events.filter { $0.event == "changed" }
                #expect(changes.count == 100)
                #expect(Set(changes.compactMap(\.module)).count == 100)
                #expect(try await agent.status().modules?.values.allSatisfy { $0.generation == 2 } == true)
            }
        }

        @Test func flood() async throws {
            try await row("flood: 100,000 requests for one module") { world, row in
                let agent = world.agent("one")
                try await agent.start()
                try await row.publish(1)
                try await row.answered(by: [agent])
                let before = try #require(try await agent.status().allocatedKilobytes)
                try await row.publish(99_999)
                row.healed()
                try await row.finish([agent])
                let status = try await agent.status()
                let after = try #require(status.allocatedKilobytes)
                let generation = try #require(status.modules?["rules"]?.generation)
                print("flood: \(generation) generations, \(before) KiB in use before, \(after) KiB after")
                #expect(after - before < 4 * 1024)
                // About ten, and more the slower they come.
                #expect(generation <= 100)
            }
        }

        @Test func everythingAtOnce() async throws {
            let name = "10 instances, each kill -9 twice, broker kill -9 five times, 20 modules"
            try await row(name) { world, row in
                // Ten fresh instances need not read what other rows left.
                try await world.broker.deleteJournal()
                let configs = (1...20).map { "rules-\($0)" }
                let agents = (1...10).map { number in world.agent("\(number)") { $0.configs = configs } }
                for agent in agents { try await agent.launch() }
                for agent in agents { try await agent.event { $0.event == "started" ? () : nil } }
                for round in 0..<5 {
                    let publishing = row.publishing(200, configs: configs, inBatchesOf: 10)
                    // Each is among them in two rounds.
                    let victims = (0..<4).map { agents[(round * 4 + $0) % 10] }
                    for agent in victims.prefix(2) { try await agent.kill() }
                    try await world.broker.crash()
                    for agent in victims.suffix(2) { try await agent.kill() }
                    for agent in victims { try await agent.launch() }
                    try await world.broker.run("start")
                    try await publishing.value
                }
                row.healed()
                try await row.finish(agents)
            }
        }
    }
}
