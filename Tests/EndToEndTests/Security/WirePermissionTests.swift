import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Testing

extension EndToEnd {
    /// A user of the broker's who does what is not his: with exactly the rights that `reloadctl permissions` prints.
    @Suite(.serialized, .withBroker) struct WirePermissionTests {
        private static let password = "unused"

        /// Makes a user with the rights that reloadctl prints for `arguments`; returns the broker as that user reaches it.
        private func user(_ name: String, _ world: World, _ arguments: String...) async throws -> Broker {
            let printed = try await Command(
                Repository.binaries + "/reloadctl", ["permissions", "--json", "--user", name] + arguments
            ).outcome()
            #expect(printed.status == 0, "\(printed.errors)")
            // It may be there already: all its rights are set anew.
            _ = try? await world.broker.run("ctl", "add_user", name, Self.password)
            #expect(printed.objects.count == 2)
            for object in printed.objects {
                let words = (object["command"]?.array ?? []).compactMap(\.text)
                try #require(words.first == "rabbitmqctl")
                try await world.broker.run(["ctl"] + words.dropFirst())
            }
            let port = try BrokerURL(world.broker.url).port
            return Broker(
                directory: world.broker.directory, url: "amqp://\(name):\(Self.password)@127.0.0.1:\(port)/")
        }

        /// A report of this world's service in the hand of whoever wants to send one.
        private func report(_ world: World, instance: String, user: String?) -> (Envelope, key: String) {
            let report = Report(
                request: nil, service: world.service, instance: instance, sequence: 1, state: .online, at: Date())
            var envelope = Envelope(body: report.encode())
            envelope.messageID = UUID().uuidString
            envelope.userID = user
            return (envelope, report.routingKey)
        }

        /// What the broker says to a message of this user.
        private func publish(
            _ envelope: Envelope, to exchange: String, key: String = "", as broker: Broker
        ) async throws -> ReloadError? {
            do {
                try await Wire(broker: broker).send(envelope, exchange: exchange, routingKey: key)
                return nil
            } catch let error as ReloadError {
                return error
            }
        }

        @Test func anAgentCannotPublishARequest() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                for delivery in ["stream", "queue", "ephemeral"] {
                    let broker = try await user(
                        "agent", world, "--service", world.service, "--instance", "one", "--delivery", delivery)
                    let request = NumberedRequest(id: "r", service: world.service, config: "rules", revision: 1)
                        .envelope
                    let error = try await publish(request, to: "reload.control", as: broker)
                    #expect(error?.broker?.replyCode == 403, "\(delivery): \(error.map(\.description) ?? "taken")")
                    // Of the message, not of a request before it.
                    #expect(error?.operation == "receive")
                    // Nor by way of the stream itself, which is a queue.
                    let direct = try await publish(request, to: "", key: "reload.journal", as: broker)
                    #expect(direct?.broker?.replyCode == 403, "\(delivery): \(direct.map(\.description) ?? "taken")")
                }
            }
        }

        @Test func anAgentCannotReportAsAnother() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let broker = try await user("agent", world, "--service", world.service, "--instance", "web-3/*")
                for (instance, code) in [("web-3/4711", nil), ("web-4/4711", 403), ("web-3", 403)] as [(String, Int?)] {
                    let (envelope, key) = report(world, instance: instance, user: "agent")
                    let error = try await publish(envelope, to: "reload.status", key: key, as: broker)
                    #expect(error?.broker?.replyCode == code, "\(instance): \(error.map(\.description) ?? "taken")")
                    #expect(code == nil || error?.operation == "receive")
                }
                // A name that the login does not have.
                let (envelope, key) = report(world, instance: "web-3/4711", user: "guest")
                let error = try await publish(envelope, to: "reload.status", key: key, as: broker)
                #expect(error?.broker?.replyCode == 406, "\(error.map(\.description) ?? "taken")")
            }
        }

        /// The key is its own, as the broker sees to; the body says somebody else.
        @Test func aReportUnderAnotherNameThanItsKeyIsPassedOver() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let broker = try await user("agent", world, "--service", world.service, "--instance", "liar")
                let key = report(world, instance: "liar", user: nil).key
                for _ in 0..<3 {
                    let lie = report(world, instance: "victim", user: "agent").0
                    #expect(try await publish(lie, to: "reload.status", key: key, as: broker) == nil)
                }
                let (truth, _) = report(world, instance: "liar", user: "agent")
                #expect(try await publish(truth, to: "reload.status", key: key, as: broker) == nil)
                for arguments in [["status"], ["status", "--fresh", "--timeout", "2s"]] {
                    let outcome = try await Command(
                        Repository.binaries + "/reloadctl", arguments + ["--destination", "\(world.service):*"],
                        environment: ["AMQP_URL": world.broker.url]
                    ).outcome()
                    #expect(outcome.output.contains("liar") && !outcome.output.contains("victim"), "\(outcome.output)")
                    #expect(outcome.errors.components(separatedBy: "passed over").count == 2, "\(outcome.errors)")
                    #expect(outcome.errors.contains("victim"))
                }
                // Nor is its answer one to a request: nobody of that name is waited for or heard.
                let request = try await world.publish("rules", "--timeout", "2s")
                #expect(request.status == 3, "\(request.errors)")
                let awaited = request.objects.last?["no_response"]?.array ?? []
                #expect(awaited.count == 1 && awaited.first?["instance"]?.text == "liar", "\(request.output)")
            }
        }

        /// The key is its own, and so is the name in the body, but whoever reads would have to hold it.
        @Test func aHugeReportIsNotKept() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let broker = try await user("agent", world, "--service", world.service)
                for (instance, size) in [("huge", Report.bodyLimit), ("modest", 1000)] {
                    var (envelope, key) = report(world, instance: instance, user: "agent")
                    // JSON still.
                    envelope.body += [UInt8](repeating: 0x20, count: size)
                    #expect(try await publish(envelope, to: "reload.status", key: key, as: broker) == nil)
                }
                let outcome = try await world.reloadctl("status", "--destination", "\(world.service):*")
                #expect(outcome.output.contains("modest") && !outcome.output.contains("huge"), "\(outcome.output)")
            }
        }

        @Test func whoReadsReportsSeesTheirUser() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let own = try await user("agent", world, "--service", world.service, "--instance", "one")
                let agent = world.agent("one") { $0.broker = own.url }
                try await agent.start()
                try await world.areThere(1)
                let published = try await world.publish("rules")
                let answer = published.objects.last?["applied"]?.array?.first
                #expect(answer?["user"]?.text == "agent", "\(published.output)\(published.errors)")
                let status = try await world.reloadctl("status", "--json", "--destination", "\(world.service):*")
                #expect(status.objects.map { $0["user"]?.text } == ["agent"], "\(status.output)\(status.errors)")
            }
        }

        @Test func reportsCarryTheirUser() async throws {
            try await World.run { world in
                let agent = world.agent("one")
                let wire = Wire(broker: world.broker)
                let user = try await wire.first(from: ("reload.status", "#")) { delivery -> String? in
                    delivery.routingKey.hasPrefix(world.service + ".") ? delivery.envelope.userID ?? "none" : nil
                } after: {
                    try await agent.start()
                }
                #expect(user == "guest")
            }
        }

        @Test(arguments: ["stream", "queue", "ephemeral"])
        func anAgentAndAPublisherWorkWithThePrintedRights(delivery: String) async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                let own = try await user(
                    "agent", world, "--service", world.service, "--instance", "one", "--delivery", delivery)
                let publisher = try await user("publisher", world, "--publisher")
                let agent = world.agent("one") {
                    $0.broker = own.url
                    $0.delivery = delivery
                }
                try await Wire(broker: world.broker).report { report -> Void? in
                    report.service == world.service && report.state == .online ? () : nil
                } after: {
                    try await agent.start()
                }
                let environment = ["AMQP_URL": publisher.url]
                func run(_ arguments: String...) async throws -> Outcome {
                    try await Command(Repository.binaries + "/reloadctl", arguments, environment: environment).outcome()
                }
                let file = try world.write("depth: 3\n", to: "new.yaml")
                let outcome = try await run(
                    "publish", "rules", "--file", file, "--revision", "3", "--destination", "\(world.service):*")
                #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
                try await agent.change(to: 3)
                let ours = ["--destination", "\(world.service):*"]
                for arguments in [["status"] + ours, ["status", "--fresh"] + ours, ["history", "--since", "1h"]] {
                    let outcome = try await Command(
                        Repository.binaries + "/reloadctl", arguments, environment: environment
                    ).outcome()
                    #expect(outcome.status == 0 && outcome.output.contains(world.service), "\(outcome.errors)")
                }
                // It comes back, to a queue of its own that is there already as to one that is not.
                try await agent.kill()
                try await agent.start()
                let again = try await run(
                    "publish", "rules", "--file", file, "--revision", "4", "--destination", "\(world.service):*")
                #expect(again.status == 0, "\(again.output)\(again.errors)")
                try await agent.stop()
            }
        }

        /// What is not the instance's to send is refused, and closes the channel: a copy to the queue of a `reply_to`, and the
        /// farewell of an instance that had another name. Its own reports arrive all the same.
        @Test func refusedMessagesDoNotHoldUpReports() async throws {
            try await World.run { world in
                try await Wire(broker: world.broker).declare()
                // Of two reports the broker takes one at most before it reads no more from who publishes.
                let first = world.agent("before") {
                    $0.stateDirectory = "\(world.folder)/state"
                    $0.configs = ["rules", "limits"]
                }
                try await first.start()
                try await first.logs("connected to the broker", times: 2)
                try first.pause()
                let requests = ["rules", "limits"].map {
                    NumberedRequest(id: $0, service: world.service, config: $0, revision: 1)
                }
                try await Wire(broker: world.broker).publish(requests)
                try await world.broker.run("ctl", "set_vm_memory_high_watermark", "0")
                try await whileBroken {
                    try first.goOn()
                    for request in requests { try await first.change(of: request.id, to: 1) }
                    try await world.broker.isBlocked("\(world.service):before")
                    try await first.kill()
                } mend: {
                    try await world.broker.run("ctl", "set_vm_memory_high_watermark", "0.4")
                }
                let own = try await user("agent", world, "--service", world.service, "--instance", "one")
                let agent = world.agent("one") {
                    $0.broker = own.url
                    $0.stateDirectory = "\(world.folder)/state"
                }
                try await agent.start()
                try await FaultRow.run("copies of reports are refused", in: world) { row in
                    let queue = "somewhere"
                    try await publish(40, replyTo: queue, row, world)
                    // Each refusal closes the channel: there are no more of them.
                    let before = try await refusals(world)
                    #expect(before > 0)
                    for _ in 0..<5 { try await publish(1, replyTo: queue, row, world) }
                    #expect(try await refusals(world) == before)
                    #expect(row.outcomes.tally.answeredTwice.isEmpty)
                }
                let messages = try agent.events.compactMap(\.message)
                let refused = messages.filter { $0.hasPrefix("report not published") }
                #expect(refused.contains { $0.contains(".before.offline'") }, "\(refused)")
                #expect(refused.allSatisfy { $0.contains(".before.") }, "\(refused)")
                #expect(messages.contains { $0.hasPrefix("copy of a report not published") })
            }
        }

        /// The name of a reply queue that makes RabbitMQ 3.10 close the connection of whoever publishes to it (541). The agent's
        /// user may write to any queue.
        @Test func aReplyQueueThatClosesConnectionsClosesOne() async throws {
            try await World.run { world in
                let agent = world.agent("one") { $0.stateDirectory = "\(world.folder)/state" }
                try await agent.start()
                try await agent.logs("connected to the broker", times: 2)
                try await FaultRow.run("copies of reports close the connection", in: world) { row in
                    let queue = "amq.rabbitmq.reply-to.g1hkAA.x"
                    try await publish(40, replyTo: queue, row, world)
                    for _ in 0..<5 { try await publish(1, replyTo: queue, row, world) }
                }
                let messages = try agent.events.compactMap(\.message)
                #expect(messages.contains { $0.hasPrefix("copy of a report not published") })
                #expect(!messages.contains { $0.hasPrefix("report not published") })
                #expect(messages.count { $0.hasPrefix("connected to the broker") } == 3, "\(messages)")
            }
        }

        /// Publishes requests that ask for a copy of the answer, and waits until the instance `one` has answered them.
        private func publish(_ count: Int, replyTo queue: String, _ row: FaultRow, _ world: World) async throws {
            var requests = row.next(count)
            for index in requests.indices { requests[index].reply(to: queue) }
            try await Wire(broker: world.broker).publish(requests)
            try await row.outcomes.wait("all answers") { $0.answered(row.requests, by: ["one"]) == row.requests.count }
        }

        /// How often the broker has refused a message to the default exchange.
        private func refusals(_ world: World) async throws -> Int {
            let log = try await world.broker.run("info", "log").output.trimmingCharacters(in: .newlines)
            return try String(contentsOfFile: log, encoding: .utf8).components(separatedBy: "exchange 'amq.default'")
                .count
                - 1
        }

        /// Nothing is there yet, and the first who comes may not make it: it waits for somebody who may.
        @Test func aTopologyThatIsMissingIsAskedFor() async throws {
            let broker = try await Broker.start()
            let result: Result<Void, any Error>
            do {
                try await World.run(on: broker) { world in
                    let own = try await user("agent", world, "--service", world.service)
                    let publisher = try await user("publisher", world, "--publisher")
                    let status = try await Command(
                        Repository.binaries + "/reloadctl", ["status", "--broker", publisher.url]
                    ).outcome()
                    #expect(status.status == 4)
                    #expect(status.errors.contains("broker.not_found") && status.errors.contains("configure"))
                    let agent = world.agent("one") { $0.broker = own.url }
                    try await agent.start()
                    try await agent.logs("may not make it", times: 2)
                    #expect(try await world.reloadctl("status").status == 0)
                    try await agent.logs("connected to the broker", times: 2)
                }
                result = .success(())
            } catch {
                result = .failure(error)
            }
            try await broker.stop()
            try result.get()
        }
    }
}
