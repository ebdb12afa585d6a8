import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Reloading
import Testing

extension EndToEnd.OneBroker {
    /// Who looks at the process list, at logs, reports, error texts and crashes for a password.
    @Suite struct WirePasswordTests {
        private static let password = "h0rse-b4ttery/st4ple"
        private static let encoded = "h0rse-b4ttery%2Fst4ple"

        /// Everything a password may look like, and the half of it that no encoding changes.
        private func expectNone(
            in text: String, _ what: String, _ location: SourceLocation = #_sourceLocation
        ) {
            for secret in [Self.password, Self.encoded, "b4ttery"] {
                #expect(!text.contains(secret), "\(what): \(text)", sourceLocation: location)
            }
        }

        private func url(_ broker: Broker, user: String = "walt") throws -> String {
            "amqp://\(user):\(Self.encoded)@127.0.0.1:\(try BrokerURL(broker.url).port)/"
        }

        /// A user with that password.
        private func withUser(_ world: World) async throws {
            try await Wire(broker: world.broker).declare()
            _ = try? await world.broker.run("ctl", "delete_user", "walt")
            try await world.broker.run("ctl", "add_user", "walt", Self.password)
            try await world.broker.run("ctl", "set_permissions", "walt", ".*", ".*", ".*")
        }

        private func file(_ world: World, _ name: String, _ text: String, mode: Int = 0o600) throws -> String {
            let path = "\(world.folder)/\(name)"
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
            return path
        }

        @Test(arguments: [["--broker", "URL"], ["--broker=URL"]])
        func theProcessListDoesNotShowThePassword(arguments: [String]) async throws {
            try await World.run { world in
                try await withUser(world)
                let url = try url(world.broker)
                let watch = try await world.start(
                    Repository.binaries + "/reloadctl", ["watch"] + arguments.map { $0.replacing("URL", with: url) })
                let agent = world.agent("one") { $0.reportInterval = 1 }
                try await agent.start()
                try await watch.line { $0.contains(world.service) ? () : nil }
                let words = try Data(contentsOf: URL(fileURLWithPath: "/proc/\(watch.processIdentifier)/cmdline"))
                let shown = String(decoding: words, as: UTF8.self)
                expectNone(in: shown, "cmdline")
                let hidden = url.replacing(Self.encoded, with: String(repeating: "x", count: Self.encoded.utf8.count))
                #expect(shown.hasSuffix("\(hidden)\0"), "\(shown)")
                watch.signal(SIGINT)
                let outcome = await watch.outcome()
                #expect(outcome.status == 0)
                #expect(outcome.errors.components(separatedBy: "warning").count == 2, "\(outcome.errors)")
                expectNone(in: outcome.errors, "errors")
            }
        }

        /// A forgotten --broker, a misspelt one, a mistake beside it, and words that ArgumentParser takes apart: it repeats them.
        @Test(
            arguments: [
                ["status", "URL"], ["URL"], ["status", "--brokr", "URL"], ["status", "--brokr=URL"], ["help", "URL"],
                ["status", "--timeout", "URL"], ["status", "--timeout=URL"], ["status", "--broker=URL", "--wrong"],
                ["status", "--broker=URL", "URL"], ["status", "--wait=URL", "--broker", "URL"], ["status", "--URL"],
                ["status", "-URL"], ["status", "--fresh", "--key", "URL", "--broker", "amqp://h"],
                ["status", "--broker", "passfile:URL"],
            ])
        func usageErrorsDoNotShowThePassword(arguments: [String]) async throws {
            for password in [Self.password, "b4ttery=b4ttery"] {
                let url = "amqp://walt:\(password)@h/"
                let outcome = try await Command(
                    Repository.binaries + "/reloadctl", arguments.map { $0.replacing("URL", with: url) }
                ).outcome()
                #expect(outcome.status == 2 || outcome.status == 0, "\(outcome.errors)")
                expectNone(in: outcome.output + outcome.errors, "\(arguments)")
            }
        }

        @Test func aPassfileKeepsThePasswordFromTheProcessList() async throws {
            try await World.run { world in
                try await withUser(world)
                let passfile = "passfile:" + (try file(world, "broker.url", try url(world.broker) + "\r\n\n"))
                let agent = world.agent("one") {
                    $0.broker = passfile
                    $0.reportInterval = 1
                }
                try await agent.start()
                let watch = try await world.start(
                    Repository.binaries + "/reloadctl", ["watch", "--json", "--broker", passfile])
                let line = try await watch.line { $0.contains(world.service) ? $0 : nil }
                expectNone(in: line, "report")
                for process in [watch, try agent.command] {
                    let words = try Data(contentsOf: URL(fileURLWithPath: "/proc/\(process.processIdentifier)/cmdline"))
                    expectNone(in: String(decoding: words, as: UTF8.self), "cmdline")
                }
                // The environment is for this user's eyes alone, and takes a passfile as well.
                let status = try await Command(
                    Repository.binaries + "/reloadctl", ["status"], environment: ["AMQP_URL": passfile]
                ).outcome()
                #expect(status.status == 0 && status.output.contains(world.service), "\(status.errors)")
                #expect(status.errors.isEmpty)
                watch.signal(SIGINT)
                #expect(await watch.outcome().errors.isEmpty)
            }
        }

        @Test func aPassfileThatOthersCanReadIsRefused() async throws {
            try await World.run { world in
                let url = try url(world.broker)
                for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
                    let path = try file(world, "open.url", url, mode: mode)
                    let outcome = try await world.reloadctl("status", "--broker", "passfile:" + path)
                    try #require(outcome.status == 2)
                    #expect(outcome.errors.contains("broker.bad_passfile") && outcome.errors.contains(path))
                    #expect(outcome.errors.contains(String(mode, radix: 8)), "\(outcome.errors)")
                    expectNone(in: outcome.errors, "errors")
                    let agent = world.agent("one") { $0.broker = "passfile:" + path }
                    #expect(try await agent.launch().outcome().errors.contains("broker.bad_passfile"))
                }
                for source in [
                    "", "/nowhere", world.folder, "/dev/null", try file(world, "two.url", url + "\n" + url),
                    try file(world, "empty.url", "\n"),
                    try file(world, "huge.url", String(repeating: url, count: 5000)),
                ] {
                    let outcome = try await world.reloadctl("status", "--broker", "passfile:" + source)
                    #expect(outcome.status == 2)
                    #expect(outcome.errors.contains("broker.bad_passfile"), "\(outcome.errors)")
                    expectNone(in: outcome.errors, "errors")
                }
                let outcome = try await world.reloadctl(
                    "status", "--broker", "passfile:" + file(world, "bad.url", "amqp://walt:\(Self.password)x"))
                #expect(outcome.status == 2 && outcome.errors.contains("broker.bad_url"))
                expectNone(in: outcome.errors, "errors")
            }
        }

        @Test func settingsDoNotShowThePassword() {
            var settings = ReloadAgent.Settings(service: "crawler")
            settings.broker = "amqp://walt:\(Self.encoded)@h/"
            var dumped = ""
            dump(settings, to: &dumped)
            for text in ["\(settings)", String(reflecting: settings), dumped] {
                expectNone(in: text, "settings")
                #expect(text.contains("amqp://walt@h"), "\(text)")
            }
            settings.broker = "not a URL: \(Self.password)"
            expectNone(in: "\(settings)", "settings")
        }

        /// A login that is refused tells much, of which nothing may be the password.
        @Test func aRefusedLoginShowsThePasswordNowhere() async throws {
            try await World.run { world in
                let wrong = try url(world.broker, user: "guest")
                let status = try await Command(
                    Repository.binaries + "/reloadctl", ["status", "--broker", wrong]
                ).outcome()
                #expect(status.status == 4 && status.errors.contains("broker.access_refused"), "\(status.errors)")
                expectNone(in: status.output + status.errors, "reloadctl")

                let passfile = "passfile:" + (try file(world, "broker.url", wrong))
                let agent = world.agent("one") { $0.broker = passfile }
                try await agent.start()
                try await agent.logs("the broker is not available", times: 2)
                let command = try agent.command
                try await agent.kill()
                let outcome = await command.outcome()
                expectNone(in: outcome.output + outcome.errors, "agent")
                for path in try FileManager.default.subpathsOfDirectory(atPath: agent.stateDirectory) {
                    let bytes = FileManager.default.contents(atPath: "\(agent.stateDirectory)/\(path)")
                    expectNone(in: String(decoding: bytes ?? Data(), as: UTF8.self), path)
                }
                let log = try await world.broker.run("info", "log").output.trimmingCharacters(in: .newlines)
                expectNone(in: try String(contentsOfFile: log, encoding: .utf8), "the broker's log")
            }
        }
    }
}
