import Foundation
import ReloadAMQP
import Testing

extension EndToEnd.Faults {
    /// `reloadctl publish` against a broker that fails: it ends in time, and says what became of the request.
    @Suite(.serialized, .withBroker) struct PublisherTests {
        /// A broker that stops in the middle.
        struct Stop: Sendable, CustomTestStringConvertible {
            var testDescription: String
            var accident: Proxy.Accident
            var place: Proxy.Place
            var isLarge = false
            var arguments: [String] = []
            /// `no` or `unknown`.
            var published: String

            init(
                _ name: String, _ accident: Proxy.Accident, _ place: Proxy.Place, isLarge: Bool = false,
                _ arguments: [String] = [], published: String = "no"
            ) {
                testDescription = name
                self.accident = accident
                self.place = place
                self.isLarge = isLarge
                self.arguments = arguments
                self.published = published
            }

            static let login = Proxy.Place(direction: .toClient, frame: .method, position: .payload)
            static let topology = Proxy.Place(
                direction: .toBroker, frame: .method, text: "reload.control", position: .behind)
            static let presence = Proxy.Place(
                direction: .toBroker, frame: .body, text: "reload.status.v1", position: .end)
            /// The first frame of a request, which has the whole of a small one.
            static func request(_ position: Proxy.Position) -> Proxy.Place {
                Proxy.Place(direction: .toBroker, frame: .body, text: #""destination""#, position: position)
            }
            static let confirm = Proxy.Place(
                direction: .toClient, frame: .method, text: Proxy.confirm, position: .end)

            static let all = [
                Stop("stuck during the login", .freeze, login),
                Stop("stuck after the login", .freeze, topology),
                Stop("stuck while presence is read", .freeze, presence),
                Stop("stuck in the middle of 5 MB", .freeze, request(.payload), isLarge: true),
                Stop("stuck in the last octet", .freeze, request(.end), published: "unknown"),
                Stop("stuck before the confirm", .freeze, request(.behind), published: "unknown"),
                Stop("stuck in the confirm", .freeze, confirm, ["--wait", "0"], published: "unknown"),
                Stop("cut during the login", .cut, login),
                Stop("cut after the login", .cut, topology),
                Stop("cut while presence is read", .cut, presence),
                Stop("cut in the header of a frame of 5 MB", .cut, request(.header), isLarge: true),
                Stop("cut in the middle of 5 MB", .cut, request(.payload), isLarge: true),
                Stop("cut in the end octet of a frame of 5 MB", .cut, request(.end), isLarge: true),
                Stop("cut in the last octet", .cut, request(.end), published: "unknown"),
                Stop("cut before the confirm", .cut, request(.behind), published: "unknown"),
                Stop("cut in the confirm", .cut, confirm, ["--wait", "0"], published: "unknown"),
            ]
        }

        /// For people and for programs in turn.
        @Test(arguments: zip(Stop.all, Stop.all.indices.map { $0 % 2 == 0 }))
        func aBrokerThatStops(stop: Stop, json: Bool) async throws {
            try await World.run { world in
                let proxy = try Proxy(to: world.broker)
                defer { proxy.stop() }
                proxy.accident(stop.accident, at: stop.place)
                var arguments = stop.arguments
                if stop.isLarge { arguments += ["--file", try world.write(filler, to: "large.txt")] }
                let outcome = try await publish(
                    world, stop.testDescription, through: try proxy.url(of: world.broker), json: json, arguments)
                #expect(proxy.counts.accidents == 1)
                expect(outcome, published: stop.published, json: json)
                if stop.published == "no" { #expect(try await journal(world).isEmpty) }
            }
        }

        /// The same with a process that is stopped instead of a network: the kernel goes on taking what is sent.
        @Test(arguments: ["before it connects", "after the login", "before the confirm"])
        func aBrokerThatIsStopped(when: String) async throws {
            try await World.run { world in
                let proxy = try Proxy(to: world.broker)
                defer { proxy.stop() }
                let places = ["after the login": Stop.topology, "before the confirm": Stop.request(.end)]
                if let place = places[when] { proxy.accident(.freeze, at: place) }
                try await whileBroken {
                    if places[when] == nil { try await world.broker.run("pause") }
                    async let ended = publish(
                        world, "SIGSTOP \(when)", through: try proxy.url(of: world.broker), json: true, timeout: "3s")
                    if places[when] != nil {
                        try await proxy.wait { $0.accidents == 1 }
                        try await world.broker.run("pause")
                        proxy.forward()
                    }
                    expect(try await ended, published: when == "before the confirm" ? "unknown" : "no", json: true)
                } mend: {
                    try await world.broker.run("cont")
                }
            }
        }

        @Test(arguments: [([], "no", false), (["--wait", "0"], "unknown", false), (["--wait", "0"], "no", true)])
        func aBrokerShortOfMemory(arguments: [String], published: String, isLarge: Bool) async throws {
            try await World.run { world in
                var arguments = arguments
                if isLarge { arguments += ["--file", try world.write(filler, to: "large.txt")] }
                try await whileBroken {
                    try await world.broker.run("ctl", "set_vm_memory_high_watermark", "0")
                    let outcome = try await publish(
                        world, "memory alarm \(arguments.prefix(3))", through: world.broker.url, json: true, arguments)
                    expect(outcome, published: published, json: true)
                    #expect(outcome.errors.contains(isLarge ? "does not read" : "low on memory"), "\(outcome.errors)")
                    if !isLarge { #expect(outcome.errors.contains("takes no messages"), "\(outcome.errors)") }
                } mend: {
                    try await world.broker.run("ctl", "set_vm_memory_high_watermark", "0.4")
                }
                if published == "no" { #expect(try await journal(world).isEmpty) }
            }
        }

        @Test func aBrokerThatRefuses() async throws {
            try await World.run { world in
                let proxy = try Proxy(to: world.broker)
                defer { proxy.stop() }
                proxy.refuse()
                for json in [true, false] {
                    let outcome = try await publish(
                        world, "refused", through: try proxy.url(of: world.broker), json: json)
                    expect(outcome, published: "no", json: json)
                    #expect(outcome.errors.contains("cannot connect"), "\(outcome.errors)")
                }
            }
        }

        /// What else may listen on a port.
        @Test(arguments: ["http", "http, kept open", "nothing", "a frame of 4 GB", "an end"])
        func whatIsNoBroker(answer: String) async throws {
            try await World.run { world in
                let script = """
                    import socket, sys, threading
                    answers = {"http": b"HTTP/1.1 400 Bad Request\\r\\nConnection: close\\r\\n\\r\\n",
                        "a frame of 4 GB": b"\\x01\\0\\0\\xff\\xff\\xff\\xff" + 100 * b"x"}
                    def serve(client):
                        client.recv(8)
                        client.sendall(answers.get(sys.argv[1].split(",")[0], b""))
                        if sys.argv[1] in ("http", "an end"): client.close()
                    server = socket.create_server(("127.0.0.1", 0))
                    print(server.getsockname()[1], flush=True)
                    held = []
                    while True:
                        held.append(server.accept()[0])
                        threading.Thread(target=serve, args=held[-1:], daemon=True).start()
                    """
                let server = try await world.start("/usr/bin/env", ["python3", "-c", script, answer])
                let port = try await server.line { Int($0) }
                for json in [true, false] {
                    let outcome = try await publish(
                        world, "answers \(answer)", through: "amqp://127.0.0.1:\(port)/", json: json)
                    expect(outcome, published: "no", json: json)
                    #expect(outcome.errors.contains("127.0.0.1:\(port)"), "\(outcome.errors)")
                }
            }
        }

        /// A full queue beside the journal makes the broker say no; the journal has the request all the same.
        @Test func aNegativeConfirm() async throws {
            try await World.run { world in
                let queue = "full-\(world.service)"
                let script = """
                    import pika, sys
                    url, queue = sys.argv[1:]
                    connection = pika.BlockingConnection(pika.URLParameters(url))
                    channel = connection.channel()
                    channel.queue_declare(queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
                    channel.queue_bind(queue, "reload.control")
                    channel.confirm_delivery()
                    try:
                        while True: channel.basic_publish("", queue, "full")
                    except pika.exceptions.NackError: pass
                    connection.close()
                    """
                try await Wire(broker: world.broker).declare()
                try await whileBroken {
                    let filled = try await world.start(
                        "/usr/bin/env", ["python3", "-c", script, world.broker.commandLineURL, queue],
                        environment: ["PYTHONPATH": Repository.root + "/.build-tools/python"]
                    ).outcome()
                    #expect(filled.status == 0, "\(filled.errors)")
                    for json in [true, false] {
                        let outcome = try await publish(world, "nack", through: world.broker.url, json: json)
                        expect(outcome, published: "unknown", json: json)
                        #expect(outcome.errors.contains("the broker refused the message"), "\(outcome.errors)")
                    }
                } mend: {
                    try await world.broker.run("ctl", "delete_queue", queue)
                }
                #expect(try await journal(world).count == 2)
            }
        }

        // MARK: Ctrl-C

        @Test func interruptedBeforeTheConfirm() async throws {
            try await World.run { world in
                for (place, published) in [(Stop.topology, "no"), (Stop.request(.behind), "unknown")] {
                    let proxy = try Proxy(to: world.broker)
                    defer { proxy.stop() }
                    proxy.accident(.freeze, at: place)
                    let command = try await start(
                        world, through: try proxy.url(of: world.broker), json: true, timeout: "60s")
                    try await proxy.wait { $0.accidents == 1 }
                    command.signal(SIGINT)
                    let outcome = await command.outcome()
                    expect(outcome, status: 130, published: published, json: true)
                    #expect(outcome.errors.contains("interrupted"), "\(outcome.errors)")
                }
            }
        }

        @Test func interruptedWhileItWaits() async throws {
            try await waiting { world in
                let command = try await start(
                    world, "rules", through: world.broker.url, json: true, timeout: "60s", ["--revision", "2"])
                _ = try await command.line { JSON($0)?["instance"]?.text == "one" ? () : nil }
                command.signal(SIGINT)
                let outcome = await command.outcome()
                expectOneOfTwo(outcome, status: 130)
                #expect(outcome.errors.contains("interrupted; 1 answered, 1 did not"), "\(outcome.errors)")
                #expect(outcome.objects.last?["problem"]?.text?.contains("interrupted") == true)
            }
        }

        /// A person at a terminal, which is high enough or not.
        @Test(arguments: [24, 3])
        func interruptedAtATerminal(rows: Int) async throws {
            try await waiting { world in
                let outcome = try await terminal(world, rows: rows, isRead: true)
                #expect(outcome["status"]?.number == 130)
                let output = try #require(outcome["output"]?.text)
                let lines = output.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
                #expect(lines.contains("applied \(world.service):one"), "\(output)")
                #expect(lines.contains("no response \(world.service):two"), "\(output)")
                #expect(lines.last == "1 applied, 1 no response")
                #expect(outcome["terminal"]?.text?.contains("interrupted; 1 answered, 1 did not") == true)
            }
        }

        // MARK: Output that goes nowhere

        /// A terminal that takes no more: its other end is not read.
        @Test func aFullTerminal() async throws {
            try await waiting { world in
                let outcome = try await terminal(world, rows: 24, isRead: false)
                #expect(outcome["status"]?.number == 3)
                #expect(outcome["output"]?.text?.contains("1 applied, 1 no response") == true)
            }
        }

        @Test(arguments: ["true", "head -n 1"])
        func aReaderThatGoes(reader: String) async throws {
            try await World.run { world in
                let agent = world.agent("one") { $0.reportInterval = 3600 }
                try await agent.start()
                let script = "timeout -k 1 60 \"$@\" | \(reader); exit ${PIPESTATUS[0]}"
                let watch = try await world.start(
                    "/bin/bash", ["-c", script, "watch", Repository.binaries + "/reloadctl", "watch", "--json"],
                    environment: ["AMQP_URL": world.broker.url])
                while reader != "true", watch.lines.isEmpty { _ = try await world.publish("rules") }
                let outcome = await watch.outcome()
                #expect(outcome.status == 128 + SIGPIPE)
                #expect(outcome.errors.isEmpty, "\(outcome.errors)")
                #expect(watch.lines.count == (reader == "true" ? 0 : 1))
            }
        }

        @Test func aFullDisk() async throws {
            try await World.run { world in
                _ = try await world.publish("rules")
                let outcome = try await world.start(
                    "/bin/bash", ["-c", "\"$@\" >/dev/full", "-", Repository.binaries + "/reloadctl", "history"],
                    environment: ["AMQP_URL": world.broker.url]
                ).outcome()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("cannot write the output"), "\(outcome.errors)")
            }
        }

        // MARK: Names

        /// A resolver that never answers is what no signal and no closed socket ends.
        @Test func aNameThatIsNeverResolved() async throws {
            try await waiting { world in
                let (shim, file) = try await slowNames(world)
                let proxy = try Proxy(to: world.broker)
                defer { proxy.stop() }
                let url = try proxy.url(of: world.broker)

                // After the confirm: the answers so far count.
                let command = try await start(
                    world, "rules", through: url, json: true, timeout: "4s", ["--revision", "2"],
                    environment: ["LD_PRELOAD": shim])
                _ = try await command.line { JSON($0)?["instance"]?.text == "one" ? () : nil }
                try Data().write(to: URL(fileURLWithPath: file))
                proxy.reset()
                let outcome = await command.outcome()
                expectOneOfTwo(outcome, status: 3)
                #expect(outcome.errors.contains("name resolution"), "\(outcome.errors)")

                // From the start.
                let other = try await start(
                    world, through: url, json: true, timeout: "1s", environment: ["LD_PRELOAD": shim])
                expect(await other.outcome(), published: "no", json: true)
                let asked = try await world.start("/bin/cat", [file + ".asked"])
                let third = try await start(
                    world, through: url, json: false, timeout: "60s",
                    environment: ["LD_PRELOAD": shim, "SLOW_NAMES_ASKED": file + ".asked"])
                #expect(await asked.outcome().status == 0)
                third.signal(SIGINT)
                expect(await third.outcome(), status: 130, published: "no", json: false)
            }
        }

        // MARK: Helpers

        /// 5 MB that are no use.
        private var filler: String { String(repeating: "depth: 1 # and so on\n", count: (5 << 20) / 21) }

        /// Starts `reloadctl publish` for this world's service. One that hangs is killed, and fails by its status.
        private func start(
            _ world: World, _ module: String? = nil, through url: String, json: Bool, timeout: String,
            _ arguments: [String] = [], environment: [String: String] = [:]
        ) async throws -> Command {
            try await world.start(
                "/usr/bin/timeout",
                [
                    "--foreground", "-k", "5", "90", Repository.binaries + "/reloadctl", "publish",
                    module ?? world.service, "--destination", "\(world.service):*", "--timeout", timeout,
                ] + (json ? ["--json"] : []) + arguments,
                environment: environment.merging(["AMQP_URL": url]) { $1 })
        }

        /// Runs it to its end, and says how long that took.
        private func publish(
            _ world: World, _ name: String, through url: String, json: Bool, timeout: String = "2s",
            _ arguments: [String] = []
        ) async throws -> Outcome {
            let start = ContinuousClock.now
            let outcome = try await self.start(
                world, through: url, json: json, timeout: timeout, arguments
            ).outcome()
            let seconds = start.duration(to: .now) / .seconds(1)
            print(
                "publisher | \(name) | exit \(outcome.status) | \(String(format: "%.1f", seconds)) s of \(timeout) | "
                    + outcome.errors.trimmingCharacters(in: .newlines))
            return outcome
        }

        /// Nothing confirmed, and what that means, for people and for programs.
        private func expect(
            _ outcome: Outcome, status: Int32 = 4, published: String, json: Bool,
            at location: SourceLocation = #_sourceLocation
        ) {
            let meaning = published == "no" ? "; nothing was published\n" : "; request "
            #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: location)
            #expect(outcome.errors.hasPrefix("reloadctl: "), sourceLocation: location)
            #expect(outcome.errors.contains(meaning), "\(outcome.errors)", sourceLocation: location)
            #expect(
                outcome.errors.contains("it may have been taken") == (published != "no"), "\(outcome.errors)",
                sourceLocation: location)
            #expect(outcome.errors.count { $0 == "\n" } == 1, "\(outcome.errors)", sourceLocation: location)
            guard json else {
                #expect(outcome.output.isEmpty, sourceLocation: location)
                return
            }
            let summary = outcome.objects.last
            #expect(outcome.objects.count == 1, "\(outcome.output)", sourceLocation: location)
            #expect(summary?["published"]?.text == published, "\(outcome.output)", sourceLocation: location)
            #expect(summary?["problem"]?.text?.isEmpty == false, "\(outcome.output)", sourceLocation: location)
            #expect(outcome.output.contains(#""confirmed":false"#), sourceLocation: location)
        }

        /// Confirmed; `one` has answered and `two` has not.
        private func expectOneOfTwo(
            _ outcome: Outcome, status: Int32, at location: SourceLocation = #_sourceLocation
        ) {
            let summary = outcome.objects.last
            #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: location)
            for (list, instance) in [("applied", "one"), ("no_response", "two")] {
                #expect(
                    summary?[list]?.array?.map { $0["instance"]?.text } == [instance], "\(outcome.output)",
                    sourceLocation: location)
            }
            #expect(summary?["published"]?.text == "yes", "\(outcome.output)", sourceLocation: location)
        }

        /// The requests of this world that are in the journal.
        private func journal(_ world: World) async throws -> [[String: JSON]] {
            let outcome = try await world.reloadctl("history", "--json", "--module", world.service, "--since", "1h")
            #expect(outcome.status == 0, "\(outcome.errors)")
            return outcome.objects
        }

        /// Two instances, of which the second does not answer.
        private func waiting(_ body: (World) async throws -> Void) async throws {
            try await World.run { world in
                let agents = ["one", "two"].map { world.agent($0) }
                for agent in agents { try await agent.start() }
                // They are present once they answer.
                while try await world.publish("rules", "--revision", "1").objects.last?["awaited"]?.number != 2 {}
                try agents[1].pause()
                try await body(world)
                try agents[1].goOn()
            }
        }

        /// Publishes at a terminal of its own. One that is read gets Ctrl-C when the first answer is shown; of one that is
        /// full, nobody reads the other end.
        private func terminal(_ world: World, rows: Int, isRead: Bool) async throws -> [String: JSON] {
            let script = """
                import fcntl, json, os, pty, signal, struct, subprocess, sys, termios
                rows, wanted, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
                master, slave = pty.openpty()
                fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
                if not wanted:
                    os.set_blocking(slave, False)
                    try:
                        while True: os.write(slave, b"x")
                    except BlockingIOError: pass
                    os.set_blocking(slave, True)
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave,
                    text=True, env=os.environ | {"TERM": "xterm"})
                os.close(slave)
                seen = b""
                def read():
                    global seen
                    try: data = os.read(master, 65536)
                    except OSError: return False
                    seen += data
                    return bool(data)
                if wanted:
                    while wanted.encode() not in seen and read(): pass
                    process.send_signal(signal.SIGINT)
                    while read(): pass
                output = process.communicate()[0]
                print(json.dumps({"status": process.returncode, "output": output, "terminal": seen.decode()}))
                """
            let command = try await world.start(
                "/usr/bin/env",
                [
                    "timeout", "-k", "1", "60", "python3", "-c", script, "\(rows)", isRead ? "applied 1/2" : "",
                    Repository.binaries + "/reloadctl", "publish", "rules", "--destination", "\(world.service):*",
                    "--timeout", isRead ? "60s" : "3s",
                ],
                environment: ["AMQP_URL": world.broker.url])
            let outcome = await command.outcome()
            return try #require(outcome.objects.first, "\(outcome.errors)")
        }

        /// A `getaddrinfo` that never returns while a file is there, and says to a FIFO that it was asked.
        private func slowNames(_ world: World) async throws -> (shim: String, file: String) {
            let source = """
                #define _GNU_SOURCE
                #include <dlfcn.h>
                #include <fcntl.h>
                #include <netdb.h>
                #include <stdlib.h>
                #include <unistd.h>
                int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                                struct addrinfo **result) {
                    if (access("\(world.folder)/slow", F_OK) == 0) {
                        const char *asked = getenv("SLOW_NAMES_ASKED");
                        if (asked) close(open(asked, O_WRONLY));
                        for (;;) pause();
                    }
                    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
                    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
                    return real(node, service, hints, result);
                }
                """
            let path = "\(world.folder)/names"
            try Data(source.utf8).write(to: URL(fileURLWithPath: path + ".c"))
            let built = try await world.start(
                "/bin/sh",
                ["-c", "cc -shared -fPIC -o \(path).so \(path).c -ldl && mkfifo \(world.folder)/slow.asked"]
            ).outcome()
            #expect(built.status == 0, "\(built.errors)")
            return (path + ".so", "\(world.folder)/slow")
        }
    }
}
