import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Testing

/// The proxy itself does what the rows below rely on.
@Suite(.enabled(if: Repository.isReady, "scripts/test builds what these tests run"), .timeLimit(.minutes(5)))
struct ProxyTests {
    /// Answers each connection with what it was sent.
    private static let echo = """
        import socketserver
        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                while data := self.request.recv(65536): self.request.sendall(data)
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
        server = Server(("127.0.0.1", 0), Echo)
        print(server.server_address[1], flush=True)
        server.serve_forever()
        """
    /// Sends frames of 100 bytes of payload, says what came back, and how it ended.
    private static let client = """
        import socket, sys
        port, frames = int(sys.argv[1]), int(sys.argv[2])
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"AMQP0091" + frames * (b"\\x03\\0\\1\\0\\0\\0\\x64" + 100 * b"x" + b"\\xce"))
        count, how = 0, "end"
        try:
            while count < 8 + frames * 108 and (data := connection.recv(65536)):
                count += len(data)
                print(count, flush=True)
        except ConnectionResetError: how = "reset"
        print(how, count, flush=True)
        """

    private func run(_ frames: Int = 3, _ body: (Proxy, () throws -> Command) async throws -> Void) async throws {
        let server = try Command("/usr/bin/env", ["python3", "-c", Self.echo])
        let port = try await server.line { Int($0) }
        let proxy = try Proxy(to: ("127.0.0.1", port))
        let result: Result<Void, any Error>
        do {
            result = .success(
                try await body(proxy) {
                    try Command(
                        "/usr/bin/env", ["timeout", "120", "python3", "-c", Self.client, "\(proxy.port)", "\(frames)"])
                })
        } catch {
            result = .failure(error)
        }
        proxy.stop()
        await server.stop()
        try result.get()
    }

    @Test func forwards() async throws {
        try await run(5000) { proxy, start in
            #expect(try await start().outcome().output.hasSuffix("end 540008\n"))
            try await proxy.wait { $0.open == 0 }
            #expect(proxy.counts.bytesToBroker == 540_008 && proxy.counts.bytesToClient == 540_008)
            proxy.delay(.milliseconds(5))
            #expect(try await start().outcome().output.hasSuffix("end 540008\n"))
        }
    }

    @Test(arguments: zip(Proxy.Position.allCases, [3, 57, 107, 108]))
    func cutsInAFrame(position: Proxy.Position, length: Int) async throws {
        try await run { proxy, start in
            for direction in [Proxy.Direction.toBroker, .toClient] {
                proxy.accident(.cut, at: Proxy.Place(direction: direction, frame: .body, position: position))
                let output = try await start().outcome().output
                // Cut on the way there, what had gone through may still come back or not.
                if direction == .toClient { #expect(output.hasSuffix("end \(8 + length)\n"), "\(output)") }
                try await proxy.wait { $0.open == 0 }
                #expect(!output.contains("\(8 + 3 * 108)"), "\(output)")
            }
            #expect(proxy.counts.accidents == 2)
            #expect(try await start().outcome().output.hasSuffix("end 332\n"))
        }
    }

    @Test func stallsAndGoesOn() async throws {
        try await run { proxy, start in
            proxy.stall()
            let client = try start()
            try await proxy.wait { $0.accepted == 1 }
            #expect(proxy.counts.bytesToBroker == 0)
            proxy.forward()
            #expect(await client.outcome().output.hasSuffix("end 332\n"))

            proxy.accident(.freeze, at: Proxy.Place(direction: .toClient, frame: .body, position: .payload))
            let other = try start()
            _ = try await other.line { $0 == "\(8 + 57)" ? true : nil }
            proxy.forward()
            #expect(await other.outcome().output.hasSuffix("end 332\n"))
        }
    }

    @Test func resetsRefusesAndComesBack() async throws {
        try await run { proxy, start in
            proxy.accident(.freeze, at: Proxy.Place(direction: .toClient, frame: .body, position: .header))
            let client = try start()
            _ = try await client.line { $0 == "11" ? true : nil }
            proxy.reset()
            #expect(await client.outcome().output.hasSuffix("reset 11\n"))
            proxy.refuse()
            #expect(try await start().outcome().errors.contains("ConnectionRefusedError"))
            proxy.forward()
            #expect(try await start().outcome().output.hasSuffix("end 332\n"))
            proxy.cut(after: 200, .toClient)
            #expect(try await start().outcome().output.hasSuffix("end 200\n"))
        }
    }
}

extension EndToEnd.Faults {
    /// The network fails between instances and a broker that is well; the requests are published beside it.
    @Suite(.serialized, .withBroker) struct NetworkTests {
        @Test func partition() async throws {
            try await row("network stalls for more than two heartbeats") { world, row in
                try await through(world) { proxy in
                    let agents = try await fleet(world, row, proxy)
                    let seen = try agents.map { try $0.command.lines.count }
                    proxy.stall()
                    try await row.publish(20)
                    // Both threads of each.
                    for (agent, seen) in zip(agents, seen) {
                        try await agent.logs("the broker is not available", times: 2, from: seen)
                    }
                    proxy.forward()
                    row.healed()
                    try await row.publish(20)
                    try await row.finish(agents)
                }
            }
        }

        @Test func delay() async throws {
            try await row("network delays by 200 ms each way") { world, row in
                try await through(world) { proxy in
                    let agents = try await fleet(world, row, proxy)
                    proxy.delay(.milliseconds(200))
                    row.healed()
                    try await row.publish(20)
                    try await row.answered(by: agents)
                    // A new connection works as well, although each of its steps takes that long.
                    let seen = try agents.map { try $0.command.lines.count }
                    proxy.reset()
                    try await row.publish(20)
                    for (agent, seen) in zip(agents, seen) {
                        try await agent.logs("connected to the broker", times: 2, from: seen)
                    }
                    try await row.answered(by: agents)
                    proxy.forward()
                    try await row.publish(20)
                    try await row.finish(agents)
                }
            }
        }

        @Test func resets() async throws {
            try await row("network resets every connection, three times") { world, row in
                try await through(world) { proxy in
                    let agents = try await fleet(world, row, proxy)
                    let publishing = row.publishing(300, inBatchesOf: 20)
                    for revision: Int64 in [60, 140, 220] {
                        for agent in agents { try await reached(revision, agent) }
                        proxy.reset()
                    }
                    row.healed()
                    try await publishing.value
                    try await row.publish(20)
                    try await row.finish(agents)
                }
            }
        }

        @Test func refusal() async throws {
            try await row("network refuses connections, and is back") { world, row in
                try await through(world) { proxy in
                    let agents = try await fleet(world, row, proxy)
                    let seen = try agents.map { try $0.command.lines.count }
                    proxy.refuse()
                    for (agent, seen) in zip(agents, seen) {
                        try await agent.logs("broker.unreachable", times: 2, from: seen)
                    }
                    try await row.publish(20)
                    proxy.forward()
                    row.healed()
                    try await row.publish(20)
                    try await row.finish(agents)
                }
            }
        }

        // MARK: In the middle of a frame

        /// A frame that an instance gets or sends while it works on one large request.
        struct Target: Sendable, CustomTestStringConvertible {
            var testDescription: String
            var direction: Proxy.Direction
            var frame: Proxy.Frame
            var text: String
            var isOfConsumer: Bool

            init(
                _ name: String, _ direction: Proxy.Direction, _ frame: Proxy.Frame, _ text: String,
                isOfConsumer: Bool = false
            ) {
                testDescription = name
                self.direction = direction
                self.frame = frame
                self.text = text
                self.isOfConsumer = isOfConsumer
            }

            func place(_ position: Proxy.Position) -> Proxy.Place {
                Proxy.Place(direction: direction, frame: frame, text: text, position: position)
            }

            static let all = [
                Target("a delivery", .toClient, .method, "reload.control", isOfConsumer: true),
                Target("a request's header", .toClient, .header, "x-reload", isOfConsumer: true),
                Target("a large request", .toClient, .body, Request.protocolName, isOfConsumer: true),
                Target("a large request's end", .toClient, .body, "the end", isOfConsumer: true),
                Target("an acknowledgement", .toBroker, .method, Proxy.confirm, isOfConsumer: true),
                Target("a publish", .toBroker, .method, ".applied"),
                Target("a report's header", .toBroker, .header, Report.protocolName),
                Target("a report", .toBroker, .body, #""state":"applied""#),
                Target("a confirm", .toClient, .method, Proxy.confirm),
            ]
        }

        /// At each offset in turn: in what stands before the payload, in the payload, in the end octet.
        @Test(arguments: Target.all)
        func cut(target: Target) async throws {
            // A publisher is the same whatever the consumer is.
            for delivery in target.isOfConsumer ? ["stream", "queue"] : ["stream"] {
                try await row("cut in \(target.testDescription), at three offsets, \(delivery)") { world, row in
                    try await cut(target, delivery, world, row)
                }
            }
        }

        private func cut(_ target: Target, _ delivery: String, _ world: World, _ row: FaultRow) async throws {
            try await through(world) { proxy in
                let agents = try await fleet(world, row, proxy, of: [delivery])
                for position in [Proxy.Position.header, .payload, .end] {
                    let seen = proxy.counts.accidents
                    proxy.accident(.cut, at: target.place(position))
                    try await Wire(broker: world.broker).publish([try large(row, world)])
                    try await proxy.wait { $0.accidents > seen }
                    row.healed()
                    try await row.publish(5)
                    try await row.answered(by: agents)
                }
                try await row.finish(agents)
            }
        }

        /// The same, but nothing is closed: the connection is silent from the middle of a frame on.
        @Test(arguments: Target.all.filter { $0.frame == .body && $0.text != "the end" })
        func silence(target: Target) async throws {
            try await row("network stalls in the middle of \(target.testDescription)") { world, row in
                try await through(world) { proxy in
                    let agents = try await fleet(world, row, proxy, of: ["stream"])
                    let seen = try agents[0].command.lines.count
                    proxy.accident(.freeze, at: target.place(.payload))
                    try await Wire(broker: world.broker).publish([try large(row, world)])
                    try await proxy.wait { $0.accidents == 1 }
                    try await row.publish(20)
                    // Only one of its connections is silent, and the next one is not.
                    try await agents[0].logs("the broker is not available", from: seen)
                    row.healed()
                    try await row.publish(20)
                    try await row.finish(agents)
                }
            }
        }

        // MARK: Helpers

        /// Gives a row a proxy, and ends it.
        private func through(_ world: World, _ body: (Proxy) async throws -> Void) async throws {
            let proxy = try Proxy(to: world.broker)
            defer { proxy.stop() }
            try await body(proxy)
        }

        /// Instances that reach the broker through the proxy, one for each delivery, after their first requests.
        private func fleet(
            _ world: World, _ row: FaultRow, _ proxy: Proxy, of deliveries: [String] = ["stream", "queue"]
        ) async throws -> [TestAgent] {
            let url = try proxy.url(of: world.broker)
            var agents: [TestAgent] = []
            for delivery in deliveries {
                let agent = world.agent(delivery) {
                    $0.delivery = delivery
                    $0.broker = url
                    $0.heartbeat = 5
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

        /// The next request, with a config of several frames inline.
        private func large(_ row: FaultRow, _ world: World) throws -> NumberedRequest {
            let id = try #require(row.next(1).first).id
            let revision = try #require(row.newest["rules"])
            let file = "depth: \(revision)\n# " + String(repeating: "and so on ", count: 100_000)
            return NumberedRequest(
                id: id, service: world.service, module: "rules", kind: .config, revision: revision,
                artifact: #""inline":"\#(Data(file.utf8).base64EncodedString())","version":"the end""#)
        }

        /// Waits until an instance runs this revision of the config or a newer one.
        private func reached(_ revision: Int64, _ agent: TestAgent) async throws {
            try await agent.event { $0.event == "changed" && $0.revision ?? 0 >= revision ? () : nil }
        }
    }
}
