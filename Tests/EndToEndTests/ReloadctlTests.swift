import Foundation
import Testing

extension EndToEnd.OneBroker {
    /// The operators' commands against real crawlers.
    @Suite struct ReloadctlTests {
        @Test(arguments: [
            ["publish"], ["publish", "m", "--wait", "some"], ["publish", "m", "--timeout", "soon"], ["explode"],
            ["publish", "m", "--file", "/nowhere"], ["publish", "m", "--file", "a", "--path", "b"],
            ["status", "--broker", "x"],
        ])
        func wrongArgumentsExitWith2(arguments: [String]) async throws {
            let outcome = try await Command(Repository.binaries + "/reloadctl", arguments).outcome()
            #expect(outcome.status == 2)
            #expect(outcome.output.isEmpty)
            #expect(!outcome.errors.isEmpty)
        }

        /// What makes a service's executable try a plugin: the command line has no part of that.
        @Test func aRequestForATrialIsNothingToIt() async throws {
            let outcome = try await Command(
                Repository.binaries + "/reloadctl", ["--help"], environment: ["RELOAD_AGENT_VET": "1"]
            ).outcome()
            #expect(outcome.status == 0 && outcome.output.contains("OVERVIEW"), "\(outcome.errors)")
        }

        @Test func theVersionIsShown() async throws {
            let outcome = try await Command(Repository.binaries + "/reloadctl", ["--version"]).outcome()
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(outcome.output.wholeMatch(of: /\d+\.\d+\.\d+\n/) != nil, "\(outcome.output)")
        }

        @Test func theFileMayBeStandardInput() async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site())
                try await crawler.line { $0.records > 0 }
                let publish = """
                    printf 'max_depth: 3\\ndelay_ms: 1\\n' | "$0" publish crawler.rules --file - --revision 7 \
                        --destination "$1" --json
                    """
                let outcome = try await Command(
                    "/bin/sh", ["-c", publish, Repository.binaries + "/reloadctl", "\(world.service):*"],
                    environment: ["AMQP_URL": world.broker.url]
                ).outcome()
                #expect(outcome.status == 0, "\(outcome.errors)")
                try await crawler.line { $0.rules.revision == 7 }
            }
        }

        @Test func nobodyThere() async throws {
            try await World.run { world in
                let outcome = try await world.publish("crawler.rules", "--timeout", "10s")
                #expect(outcome.status == 0)
                #expect(outcome.errors.contains("no instance"), "\(outcome.errors)")
            }
        }

        @Test func aPasswordIsNeverShown() async throws {
            let outcome = try await Command(
                Repository.binaries + "/reloadctl", ["status", "--broker", "amqp://someone:s3cr3t@127.0.0.1:1/"]
            ).outcome()
            #expect(outcome.status == 4)
            #expect(outcome.errors.contains("127.0.0.1"))
            #expect(!(outcome.errors + outcome.output).contains("s3cr3t"))
        }

        @Test func aSilentInstanceExitsWith3AndIsNamed() async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site())
                try await crawler.line { $0.records > 0 }
                try await world.areThere(1)
                #expect(try await world.publish("crawler.rules", "--revision", "1").status == 0)
                crawler.command.signal(SIGSTOP)
                let outcome = try await world.publish("crawler.rules", "--revision", "2", "--timeout", "2s")
                crawler.command.signal(SIGCONT)
                #expect(outcome.status == 3)
                let silent = "\(outcome.objects.last?["no_response"]?.array ?? [])"
                #expect(silent.contains("web-1"), "\(outcome.output)")
                // Stopped, not gone: it answers when it goes on.
                try await crawler.line { $0.rules.revision == 2 }
            }
        }

        @Test func statusAndHistoryAndWatchTell() async throws {
            try await World.run { world in
                let crawler = try await world.crawler(site: try await world.site())
                try await crawler.line { $0.records > 0 }
                let watch = try await world.start(
                    Repository.binaries + "/reloadctl", ["watch", "--json"], environment: ["AMQP_URL": world.broker.url]
                )
                while !watch.lines.contains(where: { $0.contains(world.service) }) {
                    _ = try await world.publish("crawler.rules")
                }
                #expect(try await world.publish("crawler.rules", "--revision", "9900000000000").status == 0)
                for arguments in [["status", "--json"], ["status", "--fresh", "--json"]] {
                    let status = try await Command(
                        Repository.binaries + "/reloadctl", arguments + ["--destination", "\(world.service):*"],
                        environment: ["AMQP_URL": world.broker.url]
                    ).outcome()
                    #expect(status.status == 0, "\(status.errors)")
                    #expect(status.objects.count == 1)
                    #expect(status.output.contains("9900000000000"), "\(status.output)")
                }
                let table = try await world.reloadctl("status", "--module", "crawler.rules")
                #expect(table.output.contains("web-1") && table.output.contains("9900000000000"), "\(table.output)")
                let history = try await world.reloadctl(
                    "history", "--module", "crawler.rules", "--since", "1h", "--json")
                #expect(history.status == 0, "\(history.errors)")
                #expect(
                    history.output.contains("9900000000000") && history.output.contains("applied"), "\(history.output)")
                watch.signal(SIGINT)
                #expect(await watch.outcome().status == 0)
            }
        }
    }
}
