import Foundation
import Testing

extension EndToEnd.OneBroker {
    /// Agents that take only what is signed, and operators who sign.
    @Suite struct SignatureTests {
        @Test func onlySignedRequestsAreCarriedOut() async throws {
            try await World.run { world in
                let secret = world.folder + "/key.pem"
                let keygen = try await world.reloadctl("keygen", secret, "--module", "rules", "--kind", "config")
                #expect(keygen.status == 0, "\(keygen.errors)")
                let keys = world.folder + "/keys.yaml"
                try keygen.output.write(toFile: keys, atomically: true, encoding: .utf8)
                #expect(!keygen.output.contains("PRIVATE"))
                #expect(try await world.reloadctl("keygen", secret).status == 2)

                let agent = world.agent("web-1") { $0.environment = ["RELOAD_TRUSTED_KEYS": keys] }
                try await agent.start()
                let file = try world.write("depth: 7", to: "new.yaml")
                let unsigned = try await world.publish("rules", "--file", file, "--revision", "7", "--wait", "1")
                #expect(unsigned.status == 1)
                #expect(unsigned.output.contains("message.unsigned"), "\(unsigned.output)")
                let signed = try await world.publish(
                    "rules", "--file", file, "--revision", "8", "--key", secret, "--wait", "1")
                #expect(signed.status == 0, "\(signed.output)\(signed.errors)")
                try await agent.change(to: 8)

                let other = world.folder + "/other.pem"
                #expect(try await world.reloadctl("keygen", other).status == 0)
                let unknown = try await world.publish("rules", "--revision", "9", "--key", other, "--wait", "1")
                #expect(unknown.output.contains("message.unknown_key"), "\(unknown.output)")

                let destination = ["--destination", "\(world.service):*", "--key", secret, "--json"]
                for words in [["rollback", "rules"], ["release", "rules"], ["status", "--fresh"]] {
                    let outcome = try await Command(
                        Repository.binaries + "/reloadctl", words + destination,
                        environment: ["AMQP_URL": world.broker.url]
                    ).outcome()
                    #expect(outcome.status == 0, "\(words): \(outcome.output)\(outcome.errors)")
                }
                try await agent.change(to: 0)
            }
        }

        @Test(arguments: ["keys: []", "", nil]) func withoutAGoodKeyFileItDoesNotStart(text: String?) async throws {
            try await World.run { world in
                let keys = world.folder + "/keys.yaml"
                try text?.write(toFile: keys, atomically: true, encoding: .utf8)
                let agent = world.agent("web-1") { $0.environment = ["RELOAD_TRUSTED_KEYS": keys] }
                let outcome = await (try await agent.launch()).outcome()
                #expect(outcome.status != 0)
                #expect((outcome.errors + outcome.output).contains("keys.unusable"), "\(outcome)")
                #expect((outcome.errors + outcome.output).contains(keys))
            }
        }

        /// As it is where another variable that was to name the file is not set.
        @Test func anEmptyNameOfTheKeyFileIsNotNone() async throws {
            try await World.run { world in
                let agent = world.agent("web-1") { $0.environment = ["RELOAD_TRUSTED_KEYS": ""] }
                let outcome = await (try await agent.launch()).outcome()
                #expect(outcome.status != 0)
                #expect((outcome.errors + outcome.output).contains("keys.unusable"), "\(outcome)")
            }
        }
    }
}
