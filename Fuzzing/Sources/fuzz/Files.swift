internal import Foundation
internal import Glibc
internal import Logging
internal import Metrics

@testable internal import ReloadAMQP
@testable internal import ReloadCore
@testable internal import ReloadProtocol

extension Fuzz {
    /// What a start reads from the state directory: the parts of the input are the files. Whatever they hold, the agent starts,
    /// and what it writes then is read as it was written.
    static let journal = Target(name: "journal") { bytes in
        let parts = Array(bytes.dropFirst()).parts.map { Array($0) }
        let folder = Folder.state
        let files = ["journal", "journal.previous", "attempts/m", "attempts/n"]
        for (index, file) in files.enumerated() {
            unsafe unlink("\(folder)/\(file)")
            guard index < parts.count, !parts[index].isEmpty else { continue }
            // So that the fuzzer need not find a digest.
            let head = index < 2 && bytes[0] & 1 == 0 ? "reload-journal 1 \(Digest.of(parts[index]))\n" : ""
            Folder.write(Array(head.utf8) + parts[index], to: "\(folder)/\(file)")
        }
        // The number in an artifact's name is read as well.
        let name = parts.count > 4 ? String(decoding: parts[4].prefix(200), as: UTF8.self).fileName : ""
        let artifact = "\(folder)/artifacts/a-\(name)-b.so"
        if !name.isEmpty { Folder.write([], to: artifact) }
        defer { unsafe unlink(artifact) }

        guard let directory = try? StateDirectory(path: folder, artifactLimit: 1 << 20) else {
            return must(false, "the state directory cannot be used")
        }
        let logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
        let journal = Ledger(directory, logger: logger, metrics: NOOPMetricsHandler.instance)
        _ = journal.takeMarks()
        let start = journal.position.attach()
        if case .offset(let offset) = start {
            _ = journal.position.isBeyond(offset)
            _ = journal.position.arrived(offset, fingerprint: "other")
        }
        if case .new(let place) = journal.position.arrived(bytes.count > 1 ? Int64(bytes[1]) : 0, fingerprint: "a") {
            journal.position.settle(place)
        }
        journal.queue = "queue"
        must(journal.write { [:] }, "it cannot be written")
        _ = try? directory.stage(bytes: [], module: "m")
        directory.close()
        var file = LedgerFile(path: folder + "/journal")
        let reading = file.read()
        must(reading.record?.queue == "queue" && reading.problems.isEmpty, "\(reading)")
    }

    /// A candidate's file. Unless the first byte is odd, its head says that it is a library for this machine.
    static let elf = Target(name: "elf") { bytes in
        guard let first = bytes.first else { return }
        var file = Array(bytes.dropFirst())
        if first & 1 == 0, file.count >= 64 {
            file.replaceSubrange(0..<6, with: [0x7f, 0x45, 0x4c, 0x46, 2, 1])
            #if arch(x86_64)
                file.replaceSubrange(16..<20, with: [3, 0, 62, 0])
            #elseif arch(arm64)
                file.replaceSubrange(16..<20, with: [3, 0, 183, 0])
            #endif
        }
        Folder.write(file, to: Folder.candidate)
        _ = try? ELFFile(path: Folder.candidate)
    }

    /// A config file: YAML, or JSON when the first byte is odd.
    static let config = Target(name: "config") { bytes in
        guard let first = bytes.first, let target = configs[Int(first & 1)],
            let artifact = try? staging?.stage(bytes: Array(bytes.dropFirst()), module: "m")
        else { return must(bytes.isEmpty, "the bytes cannot be staged") }
        var timings = Timings()
        let version = VersionReport(revision: 2, digest: artifact.digest)
        do throws(ReloadError) {
            try target.prepare(artifact, version: version, timings: &timings) {}.discard()
        } catch {
            must(error.code == .configInvalid || error.code == .configRefused, "\(error)")
            must(error.message.utf8.count < 10_000, "the error has \(error.message.utf8.count) bytes")
        }
    }

    private static let staging = try? StateDirectory(path: Folder.path + "/staging", artifactLimit: 1 << 20)

    /// What a service may have in its config: every kind of value, lists, tables, and itself.
    private final class Rules: Decodable, Sendable {
        struct Site: Decodable {
            var url: URL
            var depth: UInt8
            var delay: Double?
            var headers: [String: String]?
        }

        enum Mode: String, Decodable {
            case polite, fast
        }

        let name: String
        let limit: Int?
        let ratio: Float?
        let isOn: Bool?
        let mode: Mode?
        let since: Date?
        let secret: Data?
        let sites: [Site]?
        let weights: [String: [Int64]]?
        let rules: [Rules]?
    }

    private static let configs: [ConfigTarget<Rules>?] = ["yaml", "json"].map { format in
        guard let first = try? staging?.stage(bytes: Array(#"{"name": "first"}"#.utf8), module: "m") else { return nil }
        return try? ConfigTarget<Rules>(
            name: "m", file: "rules.\(format)", artifact: first, version: VersionReport(revision: 1, digest: nil),
            generationLimit: 100,
            validate: { rules in if rules.name.isEmpty { throw CocoaError(.coderInvalidValue) } },
            elsewhere: { $0() })
    }

    /// A broker's URL. What was read is shown without its password and its query, and what is shown is the same place.
    static let url = Target(name: "url") { bytes in
        guard let url = try? BrokerURL(String(decoding: bytes, as: UTF8.self)) else { return }
        must((1...65535).contains(url.port) && !url.host.isEmpty && !url.virtualHost.isEmpty, "\(url)")
        guard let shown = try? BrokerURL(url.description) else { return must(false, "\(url) cannot be read") }
        must(shown.password == "guest" || shown.isExternal, "\(url) has a password")
        must((shown.tls == nil) == (url.tls == nil), "\(url) has lost its TLS")
        must(shown.host == url.host && shown.port == url.port && shown.virtualHost == url.virtualHost, "\(url)")
        must(url.user.isEmpty || shown.user == url.user, "\(url) is another user's")
    }
}

/// Where the targets write.
enum Folder {
    static let path: String = {
        let path = "\(NSTemporaryDirectory())/reload-fuzz-\(getpid())"
        for folder in ["attempts", "artifacts"] {
            try? FileManager.default.createDirectory(
                atPath: "\(state(in: path))/\(folder)", withIntermediateDirectories: true)
        }
        atexit { try? FileManager.default.removeItem(atPath: Folder.path) }
        return path
    }()

    static let state = state(in: path)
    static let candidate = path + "/candidate.so"

    private static func state(in path: String) -> String { path + "/state" }

    static func write(_ bytes: [UInt8], to file: String) {
        let descriptor = unsafe open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        defer { close(descriptor) }
        must(unsafe Glibc.write(descriptor, bytes, bytes.count) == bytes.count, "cannot write \(file)")
    }
}
