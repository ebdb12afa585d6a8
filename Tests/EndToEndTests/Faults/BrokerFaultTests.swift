import Foundation
import Testing

extension EndToEnd.Faults {
    /// The broker fails; two instances read the stream, and one has a queue of its own.
    @Suite(.serialized, .withBroker) struct BrokerTests {
        @Test func restarted() async throws {
            try await row("broker restarted in order") { world, row in
                let agents = try await fleet(world, row)
                // Some of it is confirmed before, some refused, some waits.
                let publishing = row.publishing(40, inBatchesOf: 1)
                try await world.broker.run("restart")
                row.healed()
                try await publishing.value
                try await row.publish(40)
                try await row.finish(agents)
            }
        }

        @Test func killed() async throws {
            try await row("broker kill -9 right after the confirms") { world, row in
                let agents = try await fleet(world, row)
                try await row.publish(80)
                try await world.broker.crash()
                try await world.broker.run("start")
                row.healed()
                try await row.finish(agents)
            }
        }

        @Test func paused() async throws {
            try await row("broker stopped (SIGSTOP) for more than two heartbeats") { world, row in
                let agents = try await fleet(world, row) { $0.heartbeat = 5 }
                let seen = try lines(of: agents)
                try await world.broker.run("pause")
                let publishing = row.publishing(80)
                try await whileBroken {
                    // Both threads of each.
                    for (agent, seen) in zip(agents, seen) {
                        try await agent.logs("the broker is not available", times: 2, from: seen)
                    }
                } mend: {
                    try await world.broker.run("cont")
                }
                row.healed()
                try await publishing.value
                try await row.finish(agents)
            }
        }

        @Test func outOfMemory() async throws {
            try await row("memory alarm") { world, row in
                let broker = world.broker
                let agents = try await fleet(world, row)
                for agent in agents { try agent.pause() }
                try await row.publish(40)
                try await broker.run("ctl", "set_vm_memory_high_watermark", "0")
                for agent in agents { try agent.goOn() }
                let publishing = row.publishing(40)
                try await whileBroken {
                    // An instance reads and reloads on, and cannot say so; neither does the broker read from the test.
                    for agent in agents { try await agent.change(to: 60) }
                    for name in agents.map({ "\(world.service):\($0.instance)" }) + ["test"] {
                        try await broker.isBlocked(name)
                    }
                } mend: {
                    try await broker.run("ctl", "set_vm_memory_high_watermark", "0.4")
                }
                row.healed()
                try await publishing.value
                try await row.finish(agents)
            }
        }

        @Test func everyConnectionClosed() async throws {
            try await row("rabbitmqctl close_all_connections") { world, row in
                let agents = try await fleet(world, row)
                let seen = try lines(of: agents)
                let publishing = row.publishing(80, inBatchesOf: 1)
                try await world.broker.run("ctl", "close_all_connections", "because")
                for (agent, seen) in zip(agents, seen) {
                    try await agent.logs("CONNECTION_FORCED", times: 2, from: seen)
                }
                row.healed()
                try await publishing.value
                try await row.finish(agents)
            }
        }

        @Test func passwordChanged() async throws {
            try await row("password changed, and restored") { world, row in
                let (broker, user) = (world.broker, world.service)
                try await broker.run("ctl", "add_user", user, "right")
                try await broker.run("ctl", "set_permissions", user, ".*", ".*", ".*")
                let agents = try await fleet(world, row) {
                    $0.broker = broker.url.replacing("guest:guest", with: "\(user):right")
                }
                let seen = try lines(of: agents)
                try await broker.run("ctl", "change_password", user, "wrong")
                try await broker.run("ctl", "close_all_connections", "because")
                for (agent, seen) in zip(agents, seen) { try await agent.logs("ACCESS_REFUSED", times: 2, from: seen) }
                try await row.publish(80)
                try await broker.run("ctl", "change_password", user, "right")
                row.healed()
                try await row.finish(agents)
            }
        }

        // MARK: Streams and queues

        @Test func streamDeletedWhileConnected() async throws {
            try await row("stream deleted and declared anew, instances connected") { world, row in
                let agents = try await fleet(world, row)
                let seen = try lines(of: agents)
                try await world.broker.deleteJournal()
                row.healed()
                try await row.publish(80)
                try await row.finish(agents)
                for (agent, seen) in zip(agents.dropLast(), seen) { try await agent.logs("cancelled", from: seen) }
            }
        }

        @Test(arguments: [(0, "and empty"), (10, "with fewer messages"), (20, "with as many"), (70, "with more")])
        func streamDeletedWhileAway(count: Int, description: String) async throws {
            try await row("stream declared anew \(description), instances away") { world, row in
                // Its offsets begin at 0.
                try await world.broker.deleteJournal()
                let agents = try await fleet(world, row)
                for agent in agents { try await agent.stop() }
                try await world.broker.deleteJournal()
                // Also without any request it is declared.
                try await row.publish(count)
                row.healed()
                for agent in agents { try await agent.start() }
                try await row.answered(by: agents)
                try await row.publish(80 - count)
                try await row.finish(agents)
            }
        }

        @Test func queueExpiredWhileAway() async throws {
            try await row("queue of an instance expired while it was away") { world, row in
                let agent = try #require(try await fleet(world, row, of: ["three"]).first)
                try await agent.stop()
                try await row.publish(40)
                try await agent.start()
                try await row.answered(by: [agent])
                try await agent.stop()
                try await world.broker.run("ctl", "delete_queue", "reload.agent.\(world.service).three")
                row.healed()
                try await agent.start()
                // What was published meanwhile would be lost, which it says.
                try await agent.logs("had expired")
                try await row.outcomes.wait("a note about the queue") {
                    $0.notes["three"]?.contains { $0.contains("had expired") } == true
                }
                try await row.publish(40)
                try await row.finish([agent])
            }
        }

        @Test func queueDeletedWhileConnected() async throws {
            try await row("queue of an instance deleted while it is connected") { world, row in
                let agent = try #require(try await fleet(world, row, of: ["three"]).first)
                let seen = try lines(of: [agent])[0]
                try await world.broker.run("ctl", "delete_queue", "reload.agent.\(world.service).three")
                row.healed()
                try await agent.logs("had expired", from: seen)
                try await row.publish(80)
                try await row.finish([agent])
            }
        }

        // MARK: Instances

        /// Instances that have answered 20 requests.
        private func fleet(
            _ world: World, _ row: FaultRow, of instances: [String] = ["one", "two", "three"],
            _ change: (inout TestAgent.Settings) -> Void = { _ in }
        ) async throws -> [TestAgent] {
            var agents: [TestAgent] = []
            for instance in instances {
                let agent = world.agent(instance) {
                    $0.delivery = instance == "three" ? "queue" : "stream"
                    change(&$0)
                }
                try await agent.start()
                // Both threads; a queue is bound then.
                try await agent.logs("connected to the broker", times: 2)
                agents.append(agent)
            }
            try await row.publish(20)
            try await row.answered(by: agents)
            return agents
        }

        /// How much each has said.
        private func lines(of agents: [TestAgent]) throws -> [Int] {
            try agents.map { try $0.command.lines.count }
        }
    }
}

extension Broker {
    /// Ends it as a crash would.
    ///
    /// RabbitMQ 3.10 notes half a second after its very first stream was declared that it has streams. Killed before that, it
    /// never starts one again, whatever is done to it (`names.dets` of the library ra), so that is waited for.
    func crash() async throws {
        let names = try FileManager.default.subpathsOfDirectory(atPath: directory + "/data")
            .filter { $0.hasSuffix("names.dets") }.map { URL(fileURLWithPath: "\(directory)/data/\($0)") }
        while try !names.contains(where: { try Data(contentsOf: $0).contains("rabbit_stream_coordinator") }) {
            try Task.checkCancellation()
        }
        try await run("kill")
    }

    /// Deletes the stream of requests; whoever connects next declares it.
    func deleteJournal() async throws {
        try await Wire(broker: self).declare()
        try await run("ctl", "delete_queue", "reload.journal")
    }

    /// Waits until the broker has stopped reading from a connection of this name.
    func isBlocked(_ name: String) async throws {
        try await wait(until: "lists:member(blocked, \(states(of: name)))")
    }

    /// Waits until the broker knows no connection of this name.
    func isGone(_ name: String) async throws { try await wait(until: "\(states(of: name)) =:= []") }

    /// Erlang: the states of the connections of this name.
    private func states(of name: String) -> String {
        #"[S || [{state, S}, {client_properties, P}] <- rabbit_networking:connection_info_all([state, client_properties]), "#
            + #"lists:keyfind(<<"connection_name">>, 1, P) =:= {<<"connection_name">>, longstr, <<"\#(name)">>}]"#
    }

    /// Waits inside the broker until an Erlang expression is true: each time it is asked from here, an Erlang starts.
    func wait(until expression: String) async throws {
        try await run(
            "ctl", "eval",
            "Wait = fun Wait() -> case \(expression) of true -> ok; _ -> timer:sleep(50), Wait() end end, Wait().")
    }
}

extension Data {
    func contains(_ text: String) -> Bool { firstRange(of: Data(text.utf8)) != nil }
}
