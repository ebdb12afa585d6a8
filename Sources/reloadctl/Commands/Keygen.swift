internal import ArgumentParser
internal import ReloadProtocol

struct Keygen: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a key for signing requests.",
        discussion: """
            The private key goes to a new file that only its owner may read, in the form of openssl genpkey -algorithm \
            ed25519. Standard output is a trusted-keys file with the public half: give it to the agents (trustedKeys, or \
            $RELOAD_TRUSTED_KEYS), or add its entry to the one they have. With --json it is a line {"key_id", "file", \
            "key", "modules", "kinds"}.
            """)

    @Argument(help: "The file to make.")
    var file = "reload-signing-key.pem"

    @Option(help: ArgumentHelp("A module that the key may change; may be repeated.", valueName: "glob"))
    var module: [String] = ["*"]

    @Option(help: "A kind of module that the key may change; may be repeated.")
    var kind: [KindArgument] = KindArgument.allCases

    @Flag(help: "One JSON object on standard output, and nothing else there.")
    var json = false

    func validate() throws {
        guard !module.contains(where: \.isEmpty) else { throw ValidationError("the module's name is empty") }
    }

    func run() throws {
        let key = try SigningKey()
        try key.write(to: file)
        let line = KeyLine(
            keyID: key.id, file: file, key: key.publicKey, modules: module, kinds: kind.map(\.rawValue))
        if json {
            StandardOutput.line(line)
        } else {
            StandardOutput.line("# \(key.id)")
            StandardOutput.line("keys:")
            StandardOutput.line("  - key: \(line.key)")
            StandardOutput.line("    modules: [\(module.map { "\"\($0.yamlEscaped)\"" }.joined(separator: ", "))]")
            StandardOutput.line("    kinds: [\(line.kinds.joined(separator: ", "))]")
            StandardError.line("reloadctl: the private key \(key.id) is in \(file); keep it secret")
        }
    }
}

/// What `keygen --json` prints.
private struct KeyLine: Encodable {
    let keyID: String
    let file: String
    let key: String
    let modules: [String]
    let kinds: [String]

    enum CodingKeys: String, CodingKey {
        case file, key, modules, kinds
        case keyID = "key_id"
    }
}

extension String {
    /// As it stands between double quotes in YAML.
    fileprivate var yamlEscaped: String {
        reduce(into: "") { $0 += $1 == "\"" || $1 == "\\" ? "\\\($1)" : "\($1)" }
    }
}
