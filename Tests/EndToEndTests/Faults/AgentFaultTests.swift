import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Testing

extension EndToEnd.Faults {
    /// An instance fails, or the machine under it.
    @Suite(.serialized, .withBroker) struct AgentTests {
        /// Where an instance dies.
        struct Step: Sendable, CustomTestStringConvertible {
            var name: String
            var kind: String
            /// The library is open in the service then, or about to be.
            var isOpening = false

            var testDescription: String { "\(kind), \(name)" }

            static let all =
                ["staged", "opened", "switched", "proven", "saved", "reported", "acknowledged"].map {
                    Step(name: $0, kind: "config")
                }
                + [
                    "staged", "tried", "marked", "opened", "switched", "proven", "saved", "reported",
                    "acknowledged",
                ]
                .map {
                    Step(name: $0, kind: "plugin", isOpening: ["marked", "opened", "switched", "proven"].contains($0))
                }
        }

        @Test(.enabled(if: EndToEnd.Faults.hasFaultPoints, "scripts/test compiles them in"), arguments: Step.all)
        func killed(step: Step) async throws {
            try await row("instance kill -9 at \(step.name), \(step.kind)") { world, row in
                let agent = world.agent("one") { $0.plugins = ["parser": "CParserV1"] }
                let wire = Wire(broker: world.broker)
                /// The next request, with bytes of its own.
                func request() throws -> NumberedRequest {
                    guard step.kind == "plugin" else { return row.next(1)[0] }
                    return try row.next(plugin: "parser") { try world.plugin("CParserV2", variant: $0) }
                }
                let module = step.kind == "plugin" ? "parser" : "rules"

                try await agent.start(["RELOAD_FAULT": "\(step.name):kill:2"])
                try await wire.publish([try request()])
                try await row.answered(by: [agent])
                let good = try #require(try await agent.status().modules?[module])
                #expect(good.revision == 1)
                let deadly = try request()
                try await wire.publish([deadly])
                try await agent.event { $0.event == "fault" && $0.point == step.name ? () : nil }
                #expect(await (try agent.command).outcome().status == 128 + SIGKILL)
                row.healed()

                let first = try #require(try await agent.start()[module])
                if step.isOpening {
                    #expect(first == TestAgent.Module(revision: 1, digest: good.digest, generation: 1))
                }
                try await row.answered(by: [agent])
                let answers = row.outcomes.tally.answers(to: deadly.id, from: "one")
                #expect(answers.count == 1)
                #expect(answers.first?.state == (step.isOpening ? .failed : .applied))
                #expect(answers.first?.code == (step.isOpening ? .pluginCrashedHost : .ok))
                if step.isOpening {
                    #expect(try await agent.status().modules?[module]?.revision == 1)
                    // The same bytes again, under a newer revision.
                    let again = row.next(plugin: "parser") { _ in "libCParserV2-2.so" }
                    try await wire.publish([again])
                    try await row.answered(by: [agent])
                    #expect(row.outcomes.tally.answers(to: again.id, from: "one").first?.code == .moduleQuarantined)
                } else {
                    #expect(try await agent.status().modules?[module]?.revision == 2)
                }
                try await wire.publish([try request()])
                try await row.finish([agent])
            }
        }

        /// The process that waits to try the next plugin.
        private func waitingTrial(of agent: TestAgent, besides old: Int32? = nil) async throws -> Int32 {
            let service = try agent.command.processIdentifier
            while true {
                for entry in try FileManager.default.contentsOfDirectory(atPath: "/proc") {
                    guard let process = Int32(entry), process != old,
                        let line = try? String(contentsOfFile: "/proc/\(entry)/stat", encoding: .utf8),
                        line.contains("(reload-vet) S \(service) ")
                    else { continue }
                    return process
                }
                await Task.yield()
            }
        }

        @Test(.timeLimit(.minutes(2))) func theProcessThatTriesPluginsDiesBeforeItIsNeeded() async throws {
            try await row("the process that waits to try a plugin is killed; so is the instance") { world, row in
                let agent = world.agent("one") { $0.plugins = ["parser": "CParserV1"] }
                let wire = Wire(broker: world.broker)
                func request() throws -> NumberedRequest {
                    try row.next(plugin: "parser") { try world.plugin("CParserV2", variant: $0) }
                }
                try await agent.start()
                let first = try await waitingTrial(of: agent)
                kill(first, SIGKILL)
                try await wire.publish([try request()])
                try await row.answered(by: [agent])
                let second = try await waitingTrial(of: agent, besides: first)
                try await agent.kill()
                row.healed()
                // It sees that nobody can ask it any more.
                while let line = try? String(contentsOfFile: "/proc/\(second)/stat", encoding: .utf8),
                    !line.contains("(reload-vet) Z")
                { await Task.yield() }
                try await agent.start()
                try await wire.publish([try request()])
                try await row.finish([agent])
            }
        }

        @Test(arguments: ["stream", "queue"])
        func killedInTheMiddle(delivery: String) async throws {
            let name = "instance (\(delivery)) kill -9 while one request is under way and later ones are answered"
            try await row(name) { world, row in
                let agent = world.agent("one") {
                    $0.delivery = delivery
                    $0.plugins = ["parser": "CParserV1"]
                    $0.trialTimeout = 60
                }
                try await agent.start()
                try await agent.logs("connected to the broker", times: 2)
                let gate = world.folder + "/gate"
                let slow = try await compile(Self.slow(gate), to: "artifacts/slow.so", in: world)
                let first = row.next(plugin: "parser") { _ in slow }
                try await Wire(broker: world.broker).publish([first])
                try await row.publish(49)
                try await row.outcomes.wait("49 answers") { $0.count == 49 }
                #expect(row.outcomes.tally.answers(to: first.id, from: "one").isEmpty)
                try await agent.kill()
                try Data().write(to: URL(fileURLWithPath: gate))
                row.healed()
                try await agent.start()
                try await row.answered(by: [agent])
                #expect(row.outcomes.tally.answers(to: first.id, from: "one").map(\.state) == [.applied])
                try await row.publish(50)
                try await row.finish([agent])
            }
        }

        /// A plugin whose test takes until a file is there.
        private static func slow(_ gate: String) -> String {
            """
            #include "CReloadPlugin.h"
            #include <unistd.h>
            static int32_t create(void **instance, const reload_sink *error) { return RELOAD_OK; }
            static int32_t call(void *instance, uint32_t operation, reload_slice in, const reload_sink *out) {
                return RELOAD_OK;
            }
            static int32_t self_test(void *instance, const reload_sink *error) {
                while (access("\(gate)", F_OK)) usleep(1000);
                return RELOAD_OK;
            }
            static void destroy(void *instance) {}
            static const reload_plugin table = {
                .size = sizeof table, .abi_major = RELOAD_ABI_MAJOR, .abi_minor = RELOAD_ABI_MINOR,
                .name = "slow", .version = "1", .create = create, .call = call, .self_test = self_test,
                .destroy = destroy,
            };
            const reload_plugin *reload_plugin_entry(uint32_t host_abi) { return &table; }
            """
        }

        /// Compiles a library into the test's folder; returns its name.
        private func compile(_ source: String, to path: String, in world: World) async throws -> String {
            let name = URL(fileURLWithPath: path).lastPathComponent
            let outcome = try await world.start(
                "/usr/bin/env",
                [
                    "cc", "-shared", "-fPIC", "-O1", "-I", Repository.root + "/Sources/CReloadPlugin/include",
                    "-o", "\(world.folder)/\(path)", try world.write(source, to: name + ".c"),
                ]
            ).outcome()
            guard outcome.status == 0 else { throw TestFailure("cannot compile \(name): \(outcome.errors)") }
            return name
        }

        @Test(arguments: ["stream", "queue"])
        func paused(delivery: String) async throws {
            try await row("instance (\(delivery)) stopped (SIGSTOP) for more than two heartbeats") { world, row in
                let agent = world.agent("one") {
                    $0.delivery = delivery
                    $0.heartbeat = 5
                }
                try await agent.start()
                try await agent.logs("connected to the broker", times: 2)
                try await row.publish(20)
                try await row.answered(by: [agent])
                try agent.pause()
                try await row.publish(40)
                // The broker misses two heartbeats.
                try await world.broker.isGone("\(world.service):one")
                try await row.publish(40)
                try agent.goOn()
                row.healed()
                try await row.finish([agent])
            }
        }

        @Test func startedWithoutABroker() async throws {
            try await row("instance kill -9 and started without a broker") { world, row in
                let agent = world.agent("one") { $0.plugins = ["parser": "CParserV1"] }
                try await agent.start()
                try await Wire(broker: world.broker).publish([
                    try row.next(plugin: "parser") { try world.plugin("CParserV2", variant: $0) }
                ])
                try await row.publish(29)
                try await row.answered(by: [agent])
                let good = try await agent.status().modules
                try await agent.kill()
                try await row.publish(40)
                try await world.broker.run("stop")
                try await whileBroken {
                    let modules = try await agent.start()
                    for (name, module) in modules {
                        #expect(module.revision == good?[name]?.revision)
                        #expect(module.digest == good?[name]?.digest)
                    }
                    #expect(modules["rules"]?.revision == 29 && modules["parser"]?.revision == 1)
                    try await agent.logs("the broker is not available", times: 2)
                } mend: {
                    try await world.broker.run("start")
                }
                row.healed()
                try await row.answered(by: [agent])
                try await row.publish(30)
                try await row.finish([agent])
            }
        }

        @Test func twoOnOneDirectory() async throws {
            try await row("two instances on one state directory") { world, row in
                let agent = world.agent("one")
                try await agent.start()
                try await row.publish(50)
                try await row.answered(by: [agent])
                let second = world.agent("two") { $0.stateDirectory = agent.stateDirectory }
                // It ends instead of starting.
                await #expect(throws: TestFailure.self) { try await second.start() }
                let outcome = await (try second.command).outcome()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("state.locked"), "\(outcome.errors)")
                row.healed()
                try await row.publish(50)
                try await row.finish([agent])
            }
        }

        // MARK: The machine

        @Test func hostNameMoved() async throws {
            try await row("host name of the broker resolves anew") { world, row in
                let target = try BrokerURL(world.broker.url)
                let here = try Proxy(to: (target.host, target.port), at: "127.0.0.1")
                defer { here.stop() }
                let there = try Proxy(to: (target.host, target.port), at: "127.0.0.2", port: here.port)
                defer { there.stop() }
                let hosts = try world.write("127.0.0.1 broker.test\n", to: "hosts")
                let mounts = try await world.mounts("mount --bind '\(hosts)' /etc/hosts")
                let agent = world.agent("one") {
                    $0.broker = "amqp://guest:guest@broker.test:\(here.port)/"
                    $0.mounts = mounts
                }
                try await agent.start()
                try await row.publish(20)
                try await row.answered(by: [agent])
                #expect(here.counts.open == 2 && there.counts.accepted == 0)
                // In place: a file that took its place would not be the one that is mounted.
                try Data("127.0.0.2 broker.test\n".utf8).write(to: URL(fileURLWithPath: hosts))
                here.refuse()
                row.healed()
                try await row.publish(80)
                try await row.finish([agent])
                #expect(there.counts.open == 2)
            }
        }

        @Test func diskFull() async throws {
            try await row("disk of the state directory full") { world, row in
                let folder = world.folder + "/small"
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
                let mounts = try await world.mounts("mount -t tmpfs -o size=600k none '\(folder)'")
                let agent = world.agent("one") {
                    $0.stateDirectory = folder
                    $0.mounts = mounts
                }
                let filler = mounts.outside(folder) + "/filler"
                try await agent.start()
                for round in 1...2 {
                    try await row.publish(20)
                    try await row.answered(by: [agent])
                    let running = try await agent.status().modules?["rules"]?.revision
                    // In the second round it is started on a full disk.
                    if round == 2 { try await agent.kill() }
                    try fill("\(filler)-0")
                    if round == 2 { #expect(try await agent.start()["rules"]?.revision == running) }
                    // A copy that only the journal before names goes with the next answer, and leaves room: so it is full
                    // when two in a row are told so.
                    var refusals = 0
                    for number in 1... {
                        if refusals == 2 { break }
                        try fill("\(filler)-\(number)")
                        let request = try await row.publish(1)[0]
                        try await row.answered(by: [agent])
                        let answer = row.outcomes.tally.answers(to: request.id, from: "one").first
                        refusals = answer?.code == .artifactNotStaged ? refusals + 1 : 0
                    }
                    let revision = try await agent.status().modules?["rules"]?.revision
                    let requests = try await row.publish(20)
                    try await row.answered(by: [agent])
                    // The journal may have become shorter meanwhile, and left room for one of them after all.
                    let answers = requests.flatMap { row.outcomes.tally.answers(to: $0.id, from: "one") }
                    let isApplied = try await agent.status().modules?["rules"]?.revision != revision
                    #expect(answers.contains { $0.state == .applied } == isApplied)
                    #expect(
                        answers.allSatisfy {
                            [.applied, .superseded].contains($0.state) || $0.code == .artifactNotStaged
                        })
                    let folder = mounts.outside(folder)
                    for file in try FileManager.default.contentsOfDirectory(atPath: folder)
                    where file.hasPrefix("filler-") {
                        try FileManager.default.removeItem(atPath: "\(folder)/\(file)")
                    }
                    row.healed()
                    try await row.publish(9)
                    try await row.answered(by: [agent])
                }
                try await row.finish([agent])
            }
        }

        /// Takes what is free on the file system of a file that is made.
        private func fill(_ path: String) throws {
            let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw TestFailure("no \(path): \(unsafe String(cString: strerror(errno)))") }
            defer { close(descriptor) }
            for size in [4096, 1] {
                let block = [UInt8](repeating: 0, count: size)
                while unsafe write(descriptor, block, size) > 0 {}
            }
            guard errno == ENOSPC else {
                throw TestFailure("\(path) is not full: \(unsafe String(cString: strerror(errno)))")
            }
        }

        @Test func readOnly() async throws {
            try await row("state directory read-only") { world, row in
                let before = world.agent("one")
                try await before.start()
                try await row.publish(50)
                try await row.answered(by: [before])
                try await before.stop()
                let folder = before.stateDirectory
                let mounts = try await world.mounts(
                    "mount --bind '\(folder)' '\(folder)'", "mount -o remount,bind,ro '\(folder)'")
                let agent = world.agent("one") { $0.mounts = mounts }
                row.healed()
                let modules = try await agent.start()
                #expect(modules["rules"]?.revision == 50)
                try await agent.logs("state directory cannot be used")
                try await row.publish(50)
                try await row.finish([agent])
            }
        }

        @Test func noexec() async throws {
            try await row("state directory mounted noexec") { world, row in
                let folder = world.folder + "/noexec"
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
                let mounts = try await world.mounts("mount -t tmpfs -o noexec none '\(folder)'")
                let agent = world.agent("one") {
                    $0.plugins = ["parser": "CParserV1"]
                    $0.stateDirectory = folder
                    $0.mounts = mounts
                }
                // Plugins are opened there: it ends instead of starting, and says why.
                await #expect(throws: TestFailure.self) { try await agent.start() }
                let outcome = await (try agent.command).outcome()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("plugin.not_opened"), "\(outcome.errors)")
                #expect(outcome.errors.contains("mounted noexec"), "\(outcome.errors)")
                let elsewhere = world.agent("one") { $0.plugins = ["parser": "CParserV1"] }
                try await elsewhere.start()
                row.healed()
                try await row.publish(50)
                try await row.finish([elsewhere])
            }
        }

        @Test func clockSteppedBack() async throws {
            try await row("clock stepped back a day, and forward again") { world, row in
                let (library, yesterday) = (world.folder + "/clock.so", world.folder + "/yesterday")
                _ = try await compile(Self.clock, to: "clock.so", in: world)
                let agent = world.agent("one") { $0.environment = ["LD_PRELOAD": library, "YESTERDAY": yesterday] }
                try await agent.start()
                let before = try await row.publish(20)
                try await row.answered(by: [agent])
                try Data().write(to: URL(fileURLWithPath: yesterday))
                let after = try await row.publish(20)
                try await row.answered(by: [agent])
                let times = [before, after].compactMap { requests in
                    row.outcomes.tally.answers(to: requests[19].id, from: "one").first?.at
                }
                // RFC 3339 sorts as text.
                #expect(times.count == 2 && times[0] > times[1], "\(times)")
                // Also for a process that finds itself before what it reads.
                try await agent.kill()
                try await row.publish(20)
                try await agent.start()
                try await row.answered(by: [agent])
                try FileManager.default.removeItem(atPath: yesterday)
                row.healed()
                try await row.publish(40)
                try await row.finish([agent])
            }
        }

        /// The time of day is a day earlier as long as a file is there.
        private static let clock = """
            #define _GNU_SOURCE
            #include <stdlib.h>
            #include <sys/syscall.h>
            #include <sys/time.h>
            #include <time.h>
            #include <unistd.h>
            static time_t shift(void) {
                const char *file = getenv("YESTERDAY");
                return file && access(file, F_OK) == 0 ? 24 * 60 * 60 : 0;
            }
            int clock_gettime(clockid_t clock, struct timespec *now) {
                int result = syscall(SYS_clock_gettime, clock, now);
                if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec -= shift();
                return result;
            }
            int gettimeofday(struct timeval *restrict now, void *restrict zone) {
                struct timespec precise;
                if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
                now->tv_sec = precise.tv_sec;
                now->tv_usec = precise.tv_nsec / 1000;
                return 0;
            }
            time_t time(time_t *result) {
                struct timespec now;
                clock_gettime(CLOCK_REALTIME, &now);
                if (result) *result = now.tv_sec;
                return now.tv_sec;
            }
            """
    }
}
