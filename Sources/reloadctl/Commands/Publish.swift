internal import ArgumentParser
internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

struct Publish: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publishes a new version of a module and waits for the answers.",
        discussion: """
            Without --file and --path every instance reads its registered file again. With --json each answer is a line \
            {"request", "service", "instance", "state", "code", "message", "at"} when it comes; the last line is \
            {"request", "published", "confirmed", "awaited", "applied", "failed", "refused", "superseded", \
            "no_response", "unexpected"}, whose lists hold the same objects. "published" is yes, no, or unknown when the \
            request was sent and not confirmed; "problem" says what kept the command from its end.
            """)

    @Argument(help: "Name of the module, such as crawler.parser.")
    var module: String

    @Option(help: "Default: the module's kind on each instance.")
    var kind: KindArgument?

    @Option(help: ArgumentHelp("Send the bytes of this file; - is standard input.", valueName: "file"))
    var file: String?

    @Option(help: ArgumentHelp("Name a file that the instances have, below their artifact roots.", valueName: "path"))
    var path: String?

    @Option(help: ArgumentHelp("SHA-256 that the bytes at --path must have.", valueName: "hex"))
    var sha256: DigestArgument?

    @Option(help: "Number that only grows; absent means the milliseconds since 1970.")
    var revision: Int64?

    @Option(help: "Text for people, such as 2.3.0.")
    var version: String?

    @OptionGroup var destination: DestinationOption

    @Flag(name: .customLong("validate"), help: "Do everything but the switch.")
    var isValidation = false

    @Option(help: "How long the request stands, such as 10m; absent means until a newer revision.")
    var expires: DurationArgument?

    @OptionGroup var wait: WaitOption
    @OptionGroup var signing: KeyOption
    @OptionGroup var timeout: TimeoutOption
    @OptionGroup var broker: BrokerOptions

    func validate() throws {
        try checkModuleName(module)
        guard file == nil || path == nil else { throw ValidationError("--file and --path exclude each other") }
        guard sha256 == nil || file == nil else {
            throw ValidationError("--sha256 is for --path; the digest of --file is sent anyway")
        }
        guard revision ?? 0 >= 0 else { throw ValidationError("--revision must be 0 or more") }
        guard expires.map({ $0.duration > .zero }) ?? true else {
            throw ValidationError("--expires must be positive")
        }
    }

    func run() throws {
        let key = try signing.read()
        var artifact = path.map(ArtifactSource.path) ?? .registeredFile
        var digest = sha256?.digest
        if let file {
            let bytes: Data
            do {
                bytes =
                    try file == "-"
                    ? FileHandle.standardInput.readToEnd() ?? Data() : Data(contentsOf: URL(fileURLWithPath: file))
            } catch {
                StandardError.line("reloadctl: cannot read \(file): \(error.localizedDescription)")
                throw ExitStatus.usage
            }
            artifact = .inline(bytes.base64EncodedString())
            digest = Digest.of([UInt8](bytes))
        }
        let now = Date()
        let request = Request(
            operation: isValidation ? .validate : .apply, origin: Fleet.requestOrigin, issuedAt: now,
            expiresAt: expires.map { now.addingTimeInterval(Double($0.duration.wholeMilliseconds) / 1000) },
            destination: destination.parsed,
            modules: [
                Request.Module(
                    name: module, kind: kind?.kind, revision: revision ?? Int64(now.timeIntervalSince1970 * 1000),
                    version: version, artifact: artifact, digest: digest)
            ])
        try Requesting(request, wait: wait.wait.value, key: key, timeout: timeout, broker: broker).perform()
    }
}

func checkModuleName(_ name: String) throws {
    guard !name.isEmpty else { throw ValidationError("the module's name is empty") }
}

extension Fleet {
    /// Who asks, for a request's `origin`.
    static var requestOrigin: String { "reloadctl@\(hostName)" }
}
