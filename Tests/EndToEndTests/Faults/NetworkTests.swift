import Foundation
import ReloadAMQP
import ReloadCore
import Testing

/// The proxy itself does what the rows below rely on.
@Suite(.enabled(if: Repository.isReady, "scripts/test builds what these tests run"), .timeLimit(.minutes(1)))
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
                        "/usr/bin/env", ["timeout", "20", "python3", "-c", Self.client, "\(proxy.port)", "\(frames)"])
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
