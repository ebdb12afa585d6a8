import Foundation

/// Certificates of a test, made by the `openssl` command in a folder of their own: an authority, a broker's and a client's.
struct Certificates: Sendable {
    let folder: String

    /// `ca`, `server` for localhost and 127.0.0.1, and `client` with the common name `ops`.
    init() async throws {
        let base = ProcessInfo.processInfo.environment["RELOAD_TEST_DIR"] ?? "/tmp"
        folder = "\(base)/tls-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try await authority("ca")
        try await make("server", extensions: "subjectAltName=DNS:localhost,IP:127.0.0.1")
        try await make("client", name: "ops")
    }

    /// A certificate that vouches for itself.
    func authority(_ file: String) async throws {
        try await openssl(
            ["req", "-x509", "-new", "-subj", "/CN=\(file)", "-days", "2", "-out", file + ".pem"] + newKey(file))
    }

    /// A certificate of the authority's.
    ///
    /// - Parameter days: of validity, from now on; negative: it ended then.
    func make(_ file: String, name: String = "localhost", extensions: String = "", days: Int = 2) async throws {
        try await openssl(["req", "-new", "-subj", "/CN=\(name)", "-out", file + ".csr"] + newKey(file))
        try Data("\(extensions)\n".utf8).write(to: URL(fileURLWithPath: path(file + ".ext")))
        try await openssl([
            "x509", "-req", "-in", file + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days",
            "\(days)", "-extfile", file + ".ext", "-out", file + ".pem",
        ])
    }

    func path(_ file: String) -> String { "\(folder)/\(file)" }

    func remove() { try? FileManager.default.removeItem(atPath: folder) }

    private func newKey(_ file: String) -> [String] {
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file + ".key"]
    }

    func openssl(_ arguments: [String]) async throws {
        let script = #"cd "$0" && exec openssl "$@""#
        let outcome = try await Command("/bin/sh", ["-c", script, folder] + arguments).outcome()
        guard outcome.status == 0 else { throw TestFailure("openssl \(arguments): \(outcome.errors)") }
    }
}

extension Broker {
    /// A node with a TLS listener, and the guest's URL for it.
    static func startTLS(_ certificates: Certificates, _ options: [String]) async throws -> (Broker, tls: Broker) {
        let broker = try await start(["--tls", certificates.folder] + options)
        let port = try await broker.run("info", "tls").output.trimmingCharacters(in: .newlines)
        let url = "amqps://guest:guest@localhost:\(port)/?cacertfile=\(certificates.path("ca.pem"))"
        return (broker, Broker(directory: broker.directory, url: url))
    }
}
