internal import FoundationEssentials
internal import Glibc
internal import ReloadProtocol

/// Says that a library is about to be opened in the service. If the process dies before the mark is taken away, the next
/// one finds it, and does not open that library again.
///
/// One file for each module. It is not flushed: a process that dies leaves what it wrote to the kernel, and when the whole
/// machine goes down, the library is not to blame.
struct AttemptMark: Codable, Sendable {
    var module: String
    var digest: String
    var revision: Int64
    var version: String?
    /// `message_id` of the request.
    var request: String?
    var replyTo: String?
    var correlationID: String?
    /// For a version that was proven before, opened at a start: one death is not held against it.
    var mayTryAgain = false
    /// It is open and has passed its test, and waits for the other modules of its request: another one is to blame.
    var isPrepared = false
    /// The boot it was made in.
    private var boot = Self.currentBoot

    init(
        module: String, digest: String, revision: Int64, version: String?, request: String? = nil,
        replyTo: String? = nil, correlationID: String? = nil
    ) {
        self.module = module
        self.digest = digest
        self.revision = revision
        self.version = version
        self.request = request
        self.replyTo = replyTo
        self.correlationID = correlationID
    }

    private static let currentBoot =
        (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""

    private static func path(_ module: String, in folder: String) -> String {
        "\(folder)/\(module.fileName)-\(Digest.of(Array(module.utf8)).suffix(8))"
    }

    /// Makes the mark; throws `state.not_saved`, and then the library must not be opened.
    func set(in folder: String) throws(ReloadError) {
        let path = Self.path(module, in: folder)
        do {
            // By a rename: half a mark would say nothing.
            try JSONEncoder().encode(self).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw ReloadError(.stateNotSaved, "cannot mark the attempt in \(path): \(error)", underlying: error)
        }
    }

    static func clear(_ module: String, in folder: String) {
        unsafe unlink(path(module, in: folder))
    }

    /// The marks that an earlier process of this boot left.
    static func left(in folder: String) -> [AttemptMark] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.compactMap { name in
            let data = try? Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)"))
            guard let mark = data.flatMap({ try? JSONDecoder().decode(AttemptMark.self, from: $0) }) else { return nil }
            return mark.boot == currentBoot ? mark : nil
        }
    }

    /// Takes all marks away.
    static func clearAll(in folder: String) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
            unsafe unlink("\(folder)/\(name)")
        }
    }

    /// What is held against the library.
    var error: ReloadError {
        ReloadError(
            .pluginCrashedHost, "the service died while revision \(revision) (\(digest)) was loaded into it")
    }
}
