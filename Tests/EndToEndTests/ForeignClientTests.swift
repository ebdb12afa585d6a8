import Foundation
import Testing

extension EndToEnd.OneBroker {
    /// Clients in another language, written from docs/wire.md alone.
    @Suite struct ForeignClientTests {
        @Test func aForeignPublisherIsAnswered() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let agents = [world.agent("one"), world.agent("two")]
                for agent in agents { try await agent.start() }

                let good = try world.write("depth: 5\n", to: "good.yaml")
                let applied = try await run("publish.py", world, world.service, "rules", good, "2")
                #expect(applied.status == 0, "\(applied.errors)")
                #expect(answers(in: applied, world) == ["one applied ok", "two applied ok"])
                let revisions = try await revisions(of: agents)
                #expect(Set(revisions).count == 1)
                #expect(revisions[0] > 0)

                let bad = try world.write("depth: many\n", to: "bad.yaml")
                let refused = try await run("publish.py", world, world.service, "rules", bad, "2")
                #expect(refused.status == 1, "\(refused.errors)")
                #expect(answers(in: refused, world) == ["one refused config.invalid", "two refused config.invalid"])
                #expect(try await self.revisions(of: agents) == revisions)
            }
        }

        @Test func aForeignReaderSeesWhoIsPresent() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let agents = [world.agent("one"), world.agent("two")]
                for agent in agents { try await agent.start() }
                #expect(try await world.publish("rules", "--revision", "7", "--wait", "2").status == 0)
                try await present(["one rules=7", "two rules=7"], world)
                try await agents[1].stop()
                try await present(["one rules=7"], world)
            }
        }

        @Test func theTopologyIsTheOneOfTheWirePage() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let outcome = try await run("declare.py", world, Repository.root + "/docs/wire.md")
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(
                    outcome.output.split(separator: "\n") == [
                        "exchange reload.control", "exchange reload.status", "exchange reload.dead",
                        "queue reload.dead", "queue reload.journal", "queue reload.reports",
                    ])
            }
        }

        private func run(_ script: String, _ world: World, _ arguments: String...) async throws -> Outcome {
            try await world.start(
                "/usr/bin/env",
                ["python3", "\(Repository.root)/Tests/EndToEndTests/Foreign/\(script)", world.broker.commandLineURL]
                    + arguments,
                environment: ["PYTHONPATH": Repository.root + "/.build-tools/python"]
            ).outcome()
        }

        /// The lines about this world's service, without its name.
        private func answers(in outcome: Outcome, _ world: World) -> [String] {
            outcome.output.split(separator: "\n").filter { $0.hasPrefix(world.service + " ") }
                .map { String($0.dropFirst(world.service.count + 1)) }.sorted()
        }

        private func revisions(of agents: [TestAgent]) async throws -> [Int64] {
            var revisions: [Int64] = []
            for agent in agents { revisions.append(try await agent.status().modules?["rules"]?.revision ?? 0) }
            return revisions
        }

        /// Waits until exactly these instances are there for the reader, with what they run.
        private func present(_ wanted: [String], _ world: World) async throws {
            var seen: [String] = []
            while seen != wanted {
                try Task.checkCancellation()
                let outcome = try await run("present.py", world)
                try #require(outcome.status == 0, "\(outcome.errors)")
                seen = answers(in: outcome, world)
            }
        }
    }
}
