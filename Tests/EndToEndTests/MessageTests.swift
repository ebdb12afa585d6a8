import Foundation
import Logging
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Reloading
import Synchronization
import Testing

private struct Rules: Codable, Sendable {
    var depth: Int
}

/// Keeps warnings and what is worse.
private struct WarningLog: LogHandler {
    final class Texts: Sendable {
        private let texts = Mutex<[String]>([])
        func withLock<Result>(_ body: (inout [String]) -> Result) -> Result { texts.withLock { body(&$0) } }
    }

    let texts = Texts()
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.warning

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        texts.withLock { $0.append("\(event.message)") }
    }
}

extension EndToEnd.OneBroker {
    /// Messages of all kinds to an agent in this process, over a real broker.
    @Suite struct MessageTests {
        private func agent(
            _ world: World, _ log: any LogHandler & Sendable = SwiftLogNoOpLogHandler(),
            _ change: (inout ReloadAgent.Settings) -> Void = { _ in }
        ) throws -> ReloadAgent {
            var settings = ReloadAgent.Settings(service: world.service)
            settings.instance = "one"
            settings.broker = world.broker.url
            settings.stateDirectory = world.folder + "/state"
            change(&settings)
            return try ReloadAgent(settings, logger: Logger(label: "agent") { _ in log })
        }

        /// Starts the agent and waits until it consumes.
        private func start(_ agent: ReloadAgent, _ world: World) async throws {
            let service = world.service
            _ = try await Wire(broker: world.broker).report {
                $0.service == service && $0.state == .online ? true : nil
            } after: {
                try agent.start()
            }
        }

        @Test func amqpPublishWithTheDesignsBody() async throws {
            try await World.run { world in
                let agent = try agent(world)
                defer { agent.stop() }
                let rules = try agent.config(
                    "rules", file: try world.write("depth: 1", to: "rules.yaml"), as: Rules.self)
                try await start(agent, world)
                try world.write("depth: 2", to: "rules.yaml")
                let service = world.service
                let body = """
                    {"protocol":"reload.request.v1","operation":"apply","destination":"\(service):*",
                    "modules":[{"name":"rules","kind":"config","revision":2}]}
                    """
                let report = try await Wire(broker: world.broker).report {
                    $0.service == service && $0.state.isFinal ? $0 : nil
                } after: {
                    let outcome = try await world.start(
                        "/usr/bin/env",
                        ["amqp-publish", "-u", world.broker.commandLineURL, "-e", "reload.control", "-b", body]
                    ).outcome()
                    #expect(outcome.status == 0, "\(outcome.errors)")
                }
                #expect(report.state == .applied)
                #expect(report.request == nil)
                #expect(rules.current.depth == 2)
            }
        }

        /// Between requests for others the agent's own are answered, each message is acknowledged, and after a restart the
        /// place in the stream is found again at a message that was never decoded.
        @Test(arguments: ReloadAgent.Settings.Delivery.allCases)
        func requestsForOthers(delivery: ReloadAgent.Settings.Delivery) async throws {
            try await World.run { world in
                let file = try world.write("depth: 1", to: "rules.yaml")
                let (wire, service) = (Wire(broker: world.broker), world.service)
                for round in 1...2 {
                    let log = WarningLog()
                    let agent = try agent(world, log) { $0.delivery = delivery }
                    defer { agent.stop() }
                    let rules = try agent.config("rules", file: file, as: Rules.self)
                    try await start(agent, world)
                    var requests = (0..<600).map { _ in
                        NumberedRequest(id: UUID().uuidString, service: "other", config: "rules", revision: 1000)
                    }
                    let own = (1...3).map { number in
                        NumberedRequest(
                            id: UUID().uuidString, service: service, config: "rules",
                            revision: Int64(round * 10 + number))
                    }
                    for (place, request) in zip([10, 300, 590], own) { requests.insert(request, at: place) }
                    let (all, last) = (requests, own[2].id)
                    let report = try await wire.report {
                        $0.request == last ? $0 : nil
                    } after: {
                        try await wire.publish(all)
                    }
                    #expect(report.state == .applied, "\(report.message)")
                    #expect(rules.current.depth == round * 10 + 3)
                    try await world.broker.awaitNoUnacknowledged()
                    #expect(log.texts.withLock { $0 } == [])
                }
            }
        }

        @Test(arguments: [true, false])
        func pikaWithTheArticlesMessage(isFolder: Bool) async throws {
            try await World.run { world in
                let agent = try agent(world) { $0.delivery = .ephemeral }
                defer { agent.stop() }
                let name = "\(world.service).rules"
                let rules = try agent.config(name, file: try world.write("depth: 1", to: "rules.yaml"), as: Rules.self)
                try await start(agent, world)
                try FileManager.default.createDirectory(
                    atPath: world.folder + "/artifacts/new", withIntermediateDirectories: true)
                let file = try world.write("depth: 5", to: "new/rules.yaml")
                let script = """
                    import json, pika, sys
                    url, name, path, folder = sys.argv[1:]
                    connection = pika.BlockingConnection(pika.URLParameters(url))
                    connection.channel().basic_publish("reload.control", "", json.dumps(
                        {"model_path": name, "is_append_path": folder == "yes", "physical_path": path}))
                    connection.close()
                    """
                let service = world.service
                let path = isFolder ? world.folder + "/artifacts/new" : file
                let report = try await Wire(broker: world.broker).report {
                    $0.service == service && $0.state.isFinal ? $0 : nil
                } after: {
                    let outcome = try await world.start(
                        "/usr/bin/env",
                        ["python3", "-c", script, world.broker.commandLineURL, name, path, isFolder ? "yes" : "no"],
                        environment: ["PYTHONPATH": Repository.root + "/.build-tools/python"]
                    ).outcome()
                    #expect(outcome.status == 0, "\(outcome.errors)")
                }
                #expect(report.state == .applied, "\(report.message)")
                #expect(report.modules.first?.running?.revision == 1)
                #expect(rules.current.depth == 5)
                try await world.broker.awaitNoUnacknowledged()
            }
        }

        /// A body with a name, so that 20 MB of it are not printed.
        struct Body: Sendable, CustomTestStringConvertible {
            var testDescription: String
            var bytes: [UInt8]

            init(_ name: String, _ bytes: [UInt8]) {
                testDescription = name
                self.bytes = bytes
            }
        }

        @Test(arguments: [
            (Body("text", Array("not json".utf8)), ReloadCode.messageNotJSON),
            (Body("an array", Array("[1]".utf8)), .messageInvalid),
            (Body("nothing", []), .messageEmpty),
            (Body("a wrong type", Array(#"{"protocol":"reload.request.v1","operation":5}"#.utf8)), .messageInvalid),
            (Body("20 MB", [UInt8](repeating: 0x20, count: 20 << 20)), .messageTooLarge),
            (Body("bytes", [0xff, 0xfe, 0x00]), .messageNotJSON),
        ])
        func unreadableMessagesAreReportedKeptAndFollowedByGoodOnes(body: Body, code: ReloadCode) async throws {
            try await World.run { world in
                let agent = try agent(world)
                defer { agent.stop() }
                let rules = try agent.config(
                    "rules", file: try world.write("depth: 1", to: "rules.yaml"), as: Rules.self)
                try await start(agent, world)
                let wire = Wire(broker: world.broker)
                let id = UUID().uuidString
                let service = world.service
                let kept = try await wire.first(
                    from: ("reload.dead", "")
                ) {
                    $0.envelope.messageID == id ? $0.envelope : nil
                } after: {
                    let report = try await wire.report {
                        $0.request == id ? $0 : nil
                    } after: {
                        try await wire.publish(body.bytes, id: id, destination: "\(service):*")
                    }
                    #expect(report.state == .refused)
                    #expect(report.code == code)
                }
                #expect(kept.headers["x-reload-code"] == .string(code.rawValue))
                let outcome = try await world.publish("rules", "--revision", "3")
                #expect(outcome.status == 0, "\(outcome.output)")
                #expect(rules.status.revision == 3)
            }
        }

        @Test func aReportGoesToTheQueueThatAskedForIt() async throws {
            try await World.run { world in
                let agent = try agent(world)
                defer { agent.stop() }
                _ = try agent.config("rules", file: try world.write("depth: 1", to: "rules.yaml"), as: Rules.self)
                try await start(agent, world)
                let service = world.service
                let script = """
                    import json, pika, sys
                    url, service = sys.argv[1:]
                    connection = pika.BlockingConnection(pika.URLParameters(url))
                    channel = connection.channel()
                    queue = channel.queue_declare("", exclusive=True).method.queue
                    channel.basic_publish("reload.control", "", json.dumps({"protocol": "reload.request.v1",
                        "operation": "apply", "destination": service + ":*",
                        "modules": [{"name": "rules", "kind": "config", "revision": 9}]}),
                        pika.BasicProperties(reply_to=queue, message_id="m-" + service, correlation_id="c-" + service))
                    for method, properties, body in channel.consume(queue, auto_ack=True):
                        print(json.dumps({"correlation": properties.correlation_id, "type": properties.type,
                            "report": json.loads(body)}))
                        break
                    connection.close()
                    """
                let outcome = try await world.start(
                    "/usr/bin/env", ["python3", "-c", script, world.broker.commandLineURL, service],
                    environment: ["PYTHONPATH": Repository.root + "/.build-tools/python"]
                ).outcome()
                let answer = try #require(outcome.objects.first, "\(outcome.errors)")
                #expect(answer["correlation"]?.text == "c-\(service)")
                #expect(answer["type"]?.text == "reload.status.v1")
                #expect(answer["report"]?["request"]?.text == "m-\(service)")
                #expect(answer["report"]?["state"]?.text == "applied")
            }
        }

        @Test func aReloadOfThirtySecondsKeepsTheConnectionAndHoldsUpNoOther() async throws {
            try await World.run { world in
                let agent = try agent(world) { $0.heartbeat = 5 }
                defer { agent.stop() }
                let rules = try agent.config(
                    "rules", file: try world.write("depth: 1", to: "rules.yaml"), as: Rules.self)
                let slow = agent.handler("slow", file: try world.write("x", to: "slow.txt")) { _ in
                    let work = try Command("/bin/sleep", ["30"])
                    let isOver = DispatchSemaphore(value: 0)
                    Task {
                        _ = await work.outcome()
                        isOver.signal()
                    }
                    isOver.wait()
                    return {}
                }
                let service = world.service
                try await start(agent, world)
                let before = try await world.broker.connections(of: "\(service):one")
                let wire = Wire(broker: world.broker)
                let report = try await wire.report {
                    $0.request == "slow-\(service)" ? $0 : nil
                } after: {
                    try await wire.publish(
                        Array(
                            #"{"protocol":"reload.request.v1","operation":"apply","destination":"\#(service):*","modules":[{"name":"slow","revision":1}]}"#
                                .utf8), id: "slow-\(service)")
                    for revision in 1...5 {
                        #expect(try await world.publish("rules", "--revision", "\(revision)").status == 0)
                    }
                    #expect(rules.status.revision == 5)
                    #expect(slow.status.revision == 0)
                }
                #expect(report.state == .applied)
                #expect(slow.status.revision == 1)
                // The same two connections as before: neither was lost meanwhile.
                #expect(before.count == 2)
                #expect(try await world.broker.connections(of: "\(service):one") == before)
            }
        }
    }
}

extension Broker {
    /// What amqp-publish and pika take: both read a path of `/` as a virtual host without a name.
    var commandLineURL: String { url.hasSuffix("/") ? url + "%2f" : url }

    /// The broker's own names for the connections that an agent opened.
    func connections(of name: String) async throws -> Set<String> {
        let list = try await run(
            "ctl", "--quiet", "list_connections", "pid", "client_properties", "--no-table-headers"
        ).output
        return Set(
            list.split(separator: "\n").filter { $0.contains(name) }.compactMap {
                $0.split(separator: "\t").first.map(String.init)
            })
    }

    /// Waits until every delivered message of every queue is acknowledged.
    func awaitNoUnacknowledged() async throws {
        try await wait(
            until: """
                [] =:= [N || [{name, {resource, _, queue, <<"amq.gen", _/binary>>}}, {messages_unacknowledged, N}] <- \
                rabbit_amqqueue:info_all(<<"/">>, [name, messages_unacknowledged]), N =/= 0]
                """)
    }
}
