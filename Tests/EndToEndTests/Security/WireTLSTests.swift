import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Testing

extension EndToEnd {
    /// Who listens on the way, or speaks for the broker; and every way in which TLS can fail by mistake.
    @Suite(.serialized, .inTurn) struct WireTLSTests {
        /// Runs a test with a broker that has a TLS listener.
        private func withBroker(
            _ options: String..., body: (Broker, _ tls: Broker, Certificates) async throws -> Void
        ) async throws {
            let certificates = try await Certificates()
            defer { certificates.remove() }
            let (broker, tls) = try await Broker.startTLS(certificates, options)
            let result: Result<Void, any Error>
            do {
                result = .success(try await body(broker, tls, certificates))
            } catch {
                result = .failure(error)
            }
            try await broker.stop()
            try result.get()
        }

        /// What comes of a login.
        private func login(_ url: String) async throws -> ReloadError? {
            let settings = ConnectionSettings(url: try BrokerURL(url), name: "test", heartbeat: 5)
            return await withCheckedContinuation { continuation in
                Thread {
                    do throws(ReloadError) {
                        var connection = try Connection.open(settings)
                        connection.close()
                        continuation.resume(returning: nil)
                    } catch {
                        continuation.resume(returning: error)
                    }
                }.start()
            }
        }

        private func expect(
            _ code: ReloadCode?, _ url: String, _ location: SourceLocation = #_sourceLocation
        ) async throws {
            let error = try await login(url)
            #expect(error?.code == code, "\(url): \(error.map(\.description) ?? "no error")", sourceLocation: location)
            if let error { print("wire | \(error)") }
        }

        @Test func aBrokerThatIsNotTheOneIsRefused() async throws {
            try await withBroker { broker, tls, certificates in
                let port = try BrokerURL(tls.url).port
                let plain = try BrokerURL(broker.url).port
                let ca = "cacertfile=\(certificates.path("ca.pem"))"
                try await expect(nil, tls.url)
                try await expect(nil, "amqps://127.0.0.1:\(port)/?\(ca)")
                try await expect(nil, "amqps://127.0.0.1:\(port)/?verify=verify_none")
                try await expect(nil, "amqps://127.0.0.1:\(port)/?\(ca)&server_name_indication=localhost")
                // Known to no CA of the system's; known to another one.
                try await expect(.brokerTLSUnknownCA, "amqps://localhost:\(port)/")
                try await certificates.authority("other")
                try await expect(
                    .brokerTLSUnknownCA, "amqps://localhost:\(port)/?cacertfile=\(certificates.path("other.pem"))")
                try await expect(
                    .brokerTLSHostName, "amqps://localhost:\(port)/?\(ca)&server_name_indication=broker.example.com")
                try await expect(
                    .brokerTLSHostName, "amqps://127.0.0.1:\(port)/?\(ca)&server_name_indication=127.0.0.2")
                try await expect(.brokerTLSNotSpoken, "amqps://localhost:\(plain)/?\(ca)")
                try await expect(.brokerTLSNeeded, "amqp://localhost:\(port)/")
            }
        }

        @Test func aFileThatCannotBeUsedIsNamed() async throws {
            let certificates = try await Certificates()
            defer { certificates.remove() }
            try await certificates.openssl([
                "ec", "-in", "client.key", "-aes256", "-passout", "pass:p", "-out", "locked.key",
            ])
            try Data("no PEM".utf8).write(to: URL(fileURLWithPath: certificates.path("text")))
            let (client, key) = (certificates.path("client.pem"), certificates.path("client.key"))
            // Nobody listens there: the files come first.
            let url = "amqps://localhost:1/?cacertfile="
            for (query, file) in [
                ("/nowhere/ca.pem", "/nowhere/ca.pem"), (certificates.path("text"), "text"),
                (certificates.folder, certificates.folder),
                (certificates.path("ca.pem") + "&certfile=/nowhere/c&keyfile=\(key)", "/nowhere/c"),
                (certificates.path("ca.pem") + "&certfile=\(client)&keyfile=/nowhere/k", "/nowhere/k"),
                (certificates.path("ca.pem") + "&certfile=\(certificates.path("text"))&keyfile=\(key)", "text"),
                (certificates.path("ca.pem") + "&certfile=\(client)&keyfile=\(certificates.path("text"))", "text"),
                (
                    certificates.path("ca.pem") + "&certfile=\(client)&keyfile=\(certificates.path("locked.key"))",
                    "locked"
                ),
                (certificates.path("ca.pem") + "&certfile=\(client)", "client.pem"),
            ] {
                try await expect(.brokerTLSFile, url + query)
                let message = try await login(url + query)?.message ?? ""
                #expect(message.contains(file), "\(message)")
            }
            let other = certificates.path("server.key")
            try await expect(
                .brokerTLSKeyMismatch, url + "\(certificates.path("ca.pem"))&certfile=\(client)&keyfile=\(other)")
        }

        @Test func anExpiredCertificateIsRefused() async throws {
            try await withServer("server", days: -1) { url, _ in try await expect(.brokerTLSExpired, url) }
        }

        /// Also where the system's own settings would take it.
        @Test func tooOldATLSIsRefused() async throws {
            try await withServer("server", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0") { url, certificates in
                try await expect(.brokerTLSVersion, url)
                let lax = """
                    openssl_conf = all
                    [all]
                    ssl_conf = tls
                    [tls]
                    system_default = lax
                    [lax]
                    MinProtocol = TLSv1
                    CipherString = DEFAULT@SECLEVEL=0
                    """
                try Data("\(lax)\n".utf8).write(to: URL(fileURLWithPath: certificates.path("lax.cnf")))
                let outcome = try await Command(
                    Repository.binaries + "/reloadctl", ["status", "--timeout", "5s"],
                    environment: ["AMQP_URL": url, "OPENSSL_CONF": certificates.path("lax.cnf")]
                ).outcome()
                #expect(outcome.status == 4)
                #expect(outcome.errors.contains("broker.tls_version"), "\(outcome.errors)")
            }
        }

        @Test(arguments: ["-tls1_2", "-tls1_3"])
        func aBrokerThatWantsACertificateSaysSo(version: String) async throws {
            try await withServer("server", version, "-Verify", "1", "-verify_return_error") { url, certificates in
                try await expect(.brokerTLSCertificateRequired, url)
                // One that its authority does not vouch for.
                try await certificates.authority("other")
                let other = "&certfile=\(certificates.path("other.pem"))&keyfile=\(certificates.path("other.key"))"
                try await expect(.brokerTLSCertificateRefused, url + other)
            }
        }

        /// Runs a test with a server that is no broker: `openssl s_server`.
        private func withServer(
            _ name: String, _ options: String..., days: Int? = nil,
            body: (_ url: String, Certificates) async throws -> Void
        ) async throws {
            let certificates = try await Certificates()
            defer { certificates.remove() }
            if let days { try await certificates.make(name, extensions: "subjectAltName=DNS:localhost", days: days) }
            let server = try Command(
                "/usr/bin/env",
                [
                    "openssl", "s_server", "-www", "-accept", "127.0.0.1:0", "-cert", certificates.path(name + ".pem"),
                    "-key",
                    certificates.path(name + ".key"), "-CAfile", certificates.path("ca.pem"),
                ] + options)
            let result: Result<Void, any Error>
            do {
                let port = try await server.line { line in
                    line.hasPrefix("ACCEPT ") ? line.split(separator: ":").last.flatMap { Int($0) } : nil
                }
                let url = "amqps://localhost:\(port)/?cacertfile=\(certificates.path("ca.pem"))"
                result = .success(try await body(url, certificates))
            } catch {
                result = .failure(error)
            }
            await server.stop()
            try result.get()
        }

        @Test func aClientWithoutItsCertificateIsRefused() async throws {
            try await withBroker("--require-certificate") { broker, tls, certificates in
                try await expect(.brokerTLSCertificateRequired, tls.url)
                let own = "&certfile=\(certificates.path("client.pem"))&keyfile=\(certificates.path("client.key"))"
                try await expect(nil, tls.url + own)
                let external = tls.url.replacing("guest:guest@", with: "") + own + "&auth_mechanism=external"
                // The certificate's user does not exist, then may not use the virtual host, then is there.
                try await expect(.brokerExternalRefused, external)
                try await broker.run("ctl", "add_user", "ops", "unused")
                try await expect(.brokerAccessRefused, external)
                try await broker.run("ctl", "set_permissions", "ops", ".*", ".*", ".*")
                try await expect(nil, external)
                try await broker.run("ctl", "eval", "application:set_env(rabbit, auth_mechanisms, ['PLAIN']).")
                try await expect(.brokerExternalRefused, external)
            }
        }

        /// A row of requests that fill librabbitmq's and OpenSSL's buffers, large ones among them, and a broker that stops in
        /// the middle: with a certificate as login, for the agent as for who publishes.
        @Test func everythingWorksOverTLS() async throws {
            try await withBroker { broker, tls, certificates in
                try await broker.run("ctl", "add_user", "ops", "unused")
                try await broker.run("ctl", "set_permissions", "ops", ".*", ".*", ".*")
                let external =
                    tls.url.replacing("guest:guest@", with: "ops@")
                    + "&certfile=\(certificates.path("client.pem"))&keyfile=\(certificates.path("client.key"))"
                    + "&auth_mechanism=external"
                try await World.run(on: Broker(directory: broker.directory, url: external)) { world in
                    try await FaultRow.run("TLS with EXTERNAL, broker stopped (SIGSTOP)", in: world) { row in
                        try await Wire(broker: world.broker).declare()
                        let agents = ["stream", "queue"].map { mode in
                            world.agent(mode) {
                                $0.delivery = mode
                                $0.heartbeat = 5
                            }
                        }
                        for agent in agents {
                            try await agent.start()
                            try await agent.logs("connected to the broker", times: 2)
                        }
                        try await row.publish(500)
                        try await row.answered(by: agents)
                        let seen = try agents.map { try $0.command.lines.count }
                        try await world.broker.run("pause")
                        let publishing = row.publishing(500)
                        try await whileBroken {
                            for (agent, seen) in zip(agents, seen) {
                                try await agent.logs("the broker is not available", times: 2, from: seen)
                            }
                        } mend: {
                            try await world.broker.run("cont")
                        }
                        row.healed()
                        try await publishing.value
                        try await row.finish(agents)
                        let large = try world.write(
                            "depth: 7\n# " + String(repeating: "x", count: 5 << 20) + "\n", to: "large.yaml")
                        let outcome = try await world.publish("rules", "--file", large, "--revision", "100000")
                        #expect(outcome.status == 0, "\(outcome.errors)")
                        // Goodbye to a broker that does not listen.
                        try await world.broker.run("pause")
                        try await whileBroken {
                            for agent in agents { try await agent.stop() }
                        } mend: {
                            try await world.broker.run("cont")
                        }
                    }
                }
            }
        }
    }
}
