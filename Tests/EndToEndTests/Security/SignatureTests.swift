import Foundation
import Glibc
import ReloadCore
import ReloadProtocol
import Reloading
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

        /// An OpenSSL in FIPS mode that has no FIPS provider, and so has nothing.
        @Test func whereOpenSSLHasNothingItDoesNotStart() async throws {
            try await World.run { world in
                let configuration = try world.write(
                    "openssl_conf = a\n[a]\nalg_section = b\n[b]\ndefault_properties = fips=yes\n", to: "openssl.cnf")
                let agent = world.agent("web-1") { $0.environment = ["OPENSSL_CONF": configuration] }
                let outcome = await (try await agent.launch()).outcome()
                #expect(outcome.status != 0)
                #expect((outcome.errors + outcome.output).contains("has no SHA-256 for this process"), "\(outcome)")
                let keygen = try await Command(
                    Repository.binaries + "/reloadctl", ["keygen", world.folder + "/key.pem"],
                    environment: ["OPENSSL_CONF": configuration]
                ).outcome()
                #expect(keygen.status == 2)
                #expect(keygen.errors.contains("has no SHA-256 for this process"), "\(keygen)")
            }
        }

        /// A FIPS mode that has SHA-256, and does not approve of Ed25519.
        @Test func whereOpenSSLHasNoEd25519ItDoesNotStart() async throws {
            await #expect(processExitsWith: .success) {
                let folder = FileManager.default.temporaryDirectory.path + "/reload-\(UUID().uuidString)"
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                var settings = ReloadAgent.Settings(service: "crawler")
                settings.stateDirectory = folder
                settings.trustedKeys = folder + "/keys.yaml"
                try "keys: [{key: \(try SigningKey().publicKey), modules: ['*'], kinds: [config]}]"
                    .write(toFile: try #require(settings.trustedKeys), atomically: true, encoding: .utf8)
                _ = try ReloadAgent(settings)
                // SHA-256 was found and stays.
                let setProperties = unsafe unsafeBitCast(
                    try #require(unsafe dlsym(nil, "EVP_set_default_properties")),
                    to: (@convention(c) (OpaquePointer?, UnsafePointer<CChar>) -> CInt).self)
                try #require(unsafe setProperties(nil, "fips=yes") == 1)
                #expect {
                    _ = try ReloadAgent(settings)
                } throws: {
                    ($0 as? ReloadError)?.code == .keysUnusable && "\($0)".contains("has no Ed25519 for this process")
                }
                settings.trustedKeys = nil
                _ = try ReloadAgent(settings)
            }
        }
    }
}
