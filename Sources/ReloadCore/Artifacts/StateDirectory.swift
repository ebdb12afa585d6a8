internal import FoundationEssentials
internal import Glibc
package import ReloadProtocol
internal import Synchronization

/// The folder an instance owns: its lock, its ledger, and the private copies of the artifacts it runs or may go back to.
///
/// Every version is copied before it is looked at: what is hashed, tried and opened is the copy, and what happens to the
/// file it came from afterwards does not matter. The dynamic linker needs that as well: the same path or inode opened
/// twice gives the old code, and a library that is overwritten in place crashes its process.
///
/// The copies are opened by their path, so nobody else may change what is here; see ``isTrusted(_:as:user:)``. The folders above it
/// are not looked at: whoever may rename there has to be trusted by whoever chose the path.
package final class StateDirectory: Sendable {
    /// Absolute path; mode 0700, if it was made here.
    package let path: String
    /// Largest artifact in bytes.
    package let artifactLimit: Int
    /// A folder that can be read and not written, in whose place this one stands until the machine is started again.
    package let insteadOf: String?
    let state: Mutex<State>

    struct State: ~Copyable {
        /// On the folder itself; `flock` ends with the descriptor, so a crash leaves none behind. nil after ``close()``.
        var lock: FileDescriptor?
        /// Names of copies that somebody in this process refers to.
        var inUse: Set<String> = []
        /// Names of copies that the ledger refers to.
        var kept: Set<String> = []
        /// Number of the last copy made.
        var last: UInt64
    }

    /// Opens the folder, makes it where it is missing, and takes its lock.
    ///
    /// - Throws: `state.locked` when another live instance has it, `state.unusable` when others may change it, or with the
    ///   system's text when it cannot be made, locked or written.
    package convenience init(path: String, artifactLimit: Int) throws(ReloadError) {
        try self.init(path: path, insteadOf: nil, artifactLimit: artifactLimit)
    }

    /// A folder for temporary files in the place of one that cannot be used. What that one holds is read as well, unless others
    /// may have written it.
    package static func temporary(insteadOf path: String, artifactLimit: Int) throws(ReloadError) -> StateDirectory {
        let digest = Digest.of(Array(URL(fileURLWithPath: path).standardizedFileURL.path.utf8))
        let place = "\(FileManager.default.temporaryDirectory.path)/reload-agent-\(geteuid())-\(digest.suffix(16))"
        var isReadable = false
        if let folder = FileDescriptor(path, O_RDONLY | O_DIRECTORY) { isReadable = distrust(folder, at: path) == nil }
        return try StateDirectory(
            path: isOurs(place)
                ? place : "\(FileManager.default.temporaryDirectory.path)/reload-agent-\(UUID().uuidString)",
            insteadOf: isReadable ? path : nil, artifactLimit: artifactLimit)
    }

    /// Makes a folder. Where anybody may have made one of that name: whether it is this user's alone.
    private static func isOurs(_ place: String) -> Bool {
        if unsafe mkdir(place, 0o700) == 0 { return true }
        guard let found = FileDescriptor(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)?.information else { return false }
        return found.st_uid == geteuid() && found.st_mode & 0o077 == 0
    }

    /// What is looked at before anything is believed.
    enum Part { case folder, folderWithin, ledger }

    /// Whether nobody but root and the service's user may change it. The folder itself may be writable by a group, as the volumes
    /// of Kubernetes are: its members could rename what is in it, so they are trusted as they are with an artifact root.
    /// It may be writable by all if its sticky bit keeps them from that. What the agent made in it may not.
    static func isTrusted(_ file: stat, as part: Part, user: uid_t) -> Bool {
        guard file.st_uid == user || file.st_uid == 0 else { return false }
        guard part == .folder else {
            return file.st_mode & S_IFMT == (part == .ledger ? S_IFREG : S_IFDIR)
                && file.st_mode & (S_IWGRP | S_IWOTH) == 0
        }
        return file.st_mode & S_IWOTH == 0 || file.st_mode & S_ISVTX != 0
    }

    /// Why the folder, or what is in it, may be somebody else's; nil if it is not.
    private static func distrust(_ folder: borrowing FileDescriptor, at path: String) -> String? {
        let parts: [(String, Part)] = [
            (".", .folder), ("artifacts", .folderWithin), ("attempts", .folderWithin), ("journal", .ledger),
            ("journal.previous", .ledger),
        ]
        for (name, part) in parts {
            let file = name == "." ? path : "\(path)/\(name)"
            var information = stat()
            guard unsafe fstatat(folder.number, name, &information, AT_SYMLINK_NOFOLLOW) == 0 else {
                if errno == ENOENT { continue }
                return "cannot look at \(file): \(systemText())"
            }
            guard isTrusted(information, as: part, user: geteuid()) else {
                let kind = part == .ledger ? "file" : "folder"
                return """
                    others may change \(file), which \(information.ownership): make it a \(kind) of user \(geteuid()) that \
                    only that user may write, or name another state directory
                    """
            }
        }
        return nil
    }

    private init(path: String, insteadOf: String?, artifactLimit: Int) throws(ReloadError) {
        let path = URL(fileURLWithPath: path).standardizedFileURL.path
        self.path = path
        self.insteadOf = insteadOf.map { URL(fileURLWithPath: $0).standardizedFileURL.path }
        self.artifactLimit = artifactLimit
        do {
            for folder in [path, path + "/artifacts", path + "/attempts"] {
                try FileManager.default.createDirectory(
                    atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            }
        } catch {
            throw ReloadError(.stateUnusable, "cannot make the state directory \(path): \(error)", underlying: error)
        }
        guard let lock = FileDescriptor(path, O_RDONLY | O_DIRECTORY) else {
            throw ReloadError(.stateUnusable, "cannot open \(path): \(systemText())")
        }
        if let reason = Self.distrust(lock, at: path) { throw ReloadError(.stateUnusable, reason) }
        guard Self.acquire(lock.number) else {
            throw errno == EWOULDBLOCK
                ? ReloadError(
                    .stateLocked,
                    "another live instance uses the state directory \(path); give each its own instance name or folder")
                : ReloadError(.stateUnusable, "cannot lock \(path): \(systemText())")
        }
        for folder in [path, path + "/artifacts"] where unsafe access(folder, W_OK) != 0 {
            throw ReloadError(.stateUnusable, "cannot write in \(folder): \(systemText())")
        }
        let numbers = Self.names(in: path + "/artifacts").compactMap { name in
            name.split(separator: "-").dropLast().last.flatMap { UInt64($0) }
        }
        state = Mutex(State(lock: lock, last: numbers.max() ?? 0))
    }

    /// Takes the lock. A process that has just died, or one that it forked a moment ago, may still hold it: so it is tried for
    /// a second.
    private static func acquire(_ descriptor: Int32) -> Bool {
        for _ in 0..<50 {
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
            guard errno == EWOULDBLOCK || errno == EINTR else { return false }
            usleep(20_000)
        }
        errno = EWOULDBLOCK
        return false
    }

    /// Gives the folder to whoever comes next; nothing that was there is changed from here on. An attempt that is still under way
    /// ends with the process because that was asked for, not because of its library: so no mark is left.
    package func close() {
        state.withLock { state in
            guard state.lock != nil else { return }
            AttemptMark.clearAll(in: attempts)
            state.lock = nil
        }
    }

    /// Whether it is not closed.
    var isOpen: Bool { state.withLock { $0.lock != nil } }

    /// Makes the mark of an attempt; throws `state.not_saved`, and then the library must not be opened.
    func set(_ mark: AttemptMark) throws(ReloadError) {
        let result = state.withLock { state -> Result<Void, ReloadError> in
            guard state.lock != nil else { return .failure(ReloadError(.stateNotSaved, "the agent has stopped")) }
            return Result { () throws(ReloadError) in try mark.set(in: attempts) }
        }
        try result.get()
    }

    static func names(in folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    }

    /// Folder of the marks of attempts under way; see ``AttemptMark``.
    var attempts: String { path + "/attempts" }
}
