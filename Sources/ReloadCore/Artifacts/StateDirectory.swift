internal import FoundationEssentials
internal import Glibc
internal import Synchronization

/// The folder an instance owns: its lock, its journal, and the private copies of the artifacts it runs or may go back to.
///
/// Every version is copied before it is looked at: what is hashed, vetted and opened is the copy, and what happens to the
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
    private let state: Mutex<State>

    private struct State: ~Copyable {
        /// On the folder itself; `flock` ends with the descriptor, so a crash leaves none behind. nil after ``close()``.
        var lock: FileDescriptor?
        /// Names of copies that somebody in this process refers to.
        var inUse: Set<String> = []
        /// Names of copies that the journal refers to.
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
    enum Part { case folder, folderWithin, journal }

    /// Whether nobody but root and the service's user may change it. The folder itself may be writable by a group, as the volumes
    /// of Kubernetes are: its members could rename what is in it, so they are trusted as they are with an artifact root.
    /// It may be writable by all if its sticky bit keeps them from that. What the agent made in it may not.
    static func isTrusted(_ file: stat, as part: Part, user: uid_t) -> Bool {
        guard file.st_uid == user || file.st_uid == 0 else { return false }
        guard part == .folder else {
            return file.st_mode & S_IFMT == (part == .journal ? S_IFREG : S_IFDIR)
                && file.st_mode & (S_IWGRP | S_IWOTH) == 0
        }
        return file.st_mode & S_IWOTH == 0 || file.st_mode & S_ISVTX != 0
    }

    /// Why the folder, or what is in it, may be somebody else's; nil if it is not.
    private static func distrust(_ folder: borrowing FileDescriptor, at path: String) -> String? {
        let parts: [(String, Part)] = [
            (".", .folder), ("artifacts", .folderWithin), ("attempts", .folderWithin), ("journal", .journal),
            ("journal.previous", .journal),
        ]
        for (name, part) in parts {
            let file = name == "." ? path : "\(path)/\(name)"
            var information = stat()
            guard unsafe fstatat(folder.number, name, &information, AT_SYMLINK_NOFOLLOW) == 0 else {
                if errno == ENOENT { continue }
                return "cannot look at \(file): \(systemText())"
            }
            guard isTrusted(information, as: part, user: geteuid()) else {
                let kind = part == .journal ? "file" : "folder"
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

    private static func names(in folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    }

    /// The journal to write, and the one to read.
    var journal: (write: JournalFile, read: JournalFile) {
        let file = JournalFile(path: path + "/journal")
        guard let insteadOf, !file.exists else { return (file, file) }
        return (file, JournalFile(path: insteadOf + "/journal"))
    }

    /// Folder of the marks of attempts under way; see ``AttemptMark``.
    var attempts: String { path + "/attempts" }

    // MARK: Staging

    /// Copies a file of the service's own, wherever it is; see ``OpenArtifact``.
    package func stage(fileAt source: String, module: String) throws(ReloadError) -> StagedArtifact {
        try stage(OpenArtifact(registered: source), module: module)
    }

    /// Copies a file, read through one descriptor, and computes the digest of what was written.
    package func stage(_ source: borrowing OpenArtifact, module: String) throws(ReloadError) -> StagedArtifact {
        let (input, path) = (source.file.number, source.path)
        guard source.size <= artifactLimit else { throw tooLarge(path) }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        return try write(module: module, from: path) { () throws(ReloadError) -> ArraySlice<UInt8>? in
            guard let count = FileDescriptor.read(input, into: &buffer) else {
                throw ReloadError(.artifactUnreadable, "cannot read \(path): \(systemText())")
            }
            return count == 0 ? nil : buffer[..<count]
        }
    }

    private func tooLarge(_ origin: String) -> ReloadError {
        ReloadError(.artifactTooLarge, "\(origin.excerpt) has more than \(artifactLimit) bytes")
    }

    /// Writes bytes that came in a request.
    package func stage(bytes: [UInt8], module: String) throws(ReloadError) -> StagedArtifact {
        var rest: ArraySlice<UInt8>? = bytes[...]
        return try write(module: module, from: "inline") { () throws(ReloadError) -> ArraySlice<UInt8>? in
            defer { rest = nil }
            return rest
        }
    }

    private func write(
        module: String, from origin: String, next: () throws(ReloadError) -> ArraySlice<UInt8>?
    ) throws(ReloadError) -> StagedArtifact {
        let number = state.withLock { state in
            // It comes from a file's name, which may hold the largest.
            state.last &+= 1
            return state.last
        }
        let stem = "\(module.fileName)-\(number)"
        let temporary = "\(path)/artifacts/\(stem)"
        var held: [UInt8]? = []
        guard let output = FileDescriptor(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o500) else {
            throw ReloadError(.artifactNotStaged, "cannot make \(temporary): \(systemText())")
        }
        do throws(ReloadError) {
            var digest = DigestAccumulator()
            var size = 0
            while let chunk = try next() {
                size += chunk.count
                guard size <= artifactLimit else { throw tooLarge(origin) }
                digest.update(chunk)
                held = size > StagedArtifact.heldBytes ? nil : held.map { $0.isEmpty ? Array(chunk) : $0 + chunk }
                guard output.write(chunk) else {
                    throw ReloadError(.artifactNotStaged, "cannot write \(temporary): \(systemText())")
                }
            }
            let text = digest.finish()
            let name = "\(stem)-\(text.dropFirst(Digest.prefix.count).prefix(16)).so"
            guard unsafe rename(temporary, "\(path)/artifacts/\(name)") == 0 else {
                throw ReloadError(.artifactNotStaged, "cannot rename \(temporary): \(systemText())")
            }
            return use(name, digest: text, size: size, origin: origin, holding: held)
        } catch {
            unsafe unlink(temporary)
            throw error
        }
    }

    private func use(
        _ name: String, digest: String, size: Int, origin: String, holding bytes: [UInt8]?
    ) -> StagedArtifact {
        state.withLock { _ = $0.inUse.insert(name) }
        return StagedArtifact(
            directory: self, name: name, digest: digest, size: size, origin: origin, holding: bytes)
    }

    // MARK: Keeping

    /// Takes up a copy that an earlier process made; throws when it is gone or has changed.
    func adopt(_ version: JournalRecord.Version, module: String) throws(ReloadError) -> StagedArtifact {
        guard let name = version.artifact, let digest = version.digest, !name.contains("/") else {
            throw ReloadError(.artifactMissing, "no copy of revision \(version.revision) was kept")
        }
        let isHere = unsafe insteadOf == nil || access("\(path)/artifacts/\(name)", F_OK) == 0
        let source = "\(isHere ? path : insteadOf ?? path)/artifacts/\(name)"
        let bytes: [UInt8]
        do {
            bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: source)))
        } catch {
            throw ReloadError(.artifactMissing, "cannot read the copy \(source): \(error)", underlying: error)
        }
        let found = Digest.of(bytes)
        guard found == digest else {
            throw ReloadError(.artifactDigestMismatch, "the copy \(source) has \(found), the journal names \(digest)")
        }
        let origin = version.origin ?? "inline"
        guard !isHere else {
            return use(name, digest: digest, size: bytes.count, origin: origin, holding: bytes)
        }
        var rest: ArraySlice<UInt8>? = bytes[...]
        return try write(module: module, from: origin) { () throws(ReloadError) -> ArraySlice<UInt8>? in
            defer { rest = nil }
            return rest
        }
    }

    /// Makes copies durable that the journal is about to name.
    func flush(_ names: Set<String>) {
        for name in names.subtracting(state.withLock { $0.kept }) {
            _ = FileDescriptor("\(path)/artifacts/\(name)", O_RDONLY)?.flush()
        }
    }

    /// Keeps the copies that the journal names when nobody in this process uses them, and removes those that it no longer names.
    func keep(_ names: Set<String>) {
        let dropped = state.withLock { state -> Set<String> in
            guard state.lock != nil else { return [] }
            defer { state.kept = names }
            return state.kept.subtracting(names).subtracting(state.inUse)
        }
        for name in dropped { remove(name) }
    }

    /// Removes the copies that neither the journal nor anybody in this process refers to: an earlier process left them.
    func removeOthers() {
        let known = state.withLock { $0.kept.union($0.inUse) }
        for name in Self.names(in: path + "/artifacts") where !known.contains(name) { remove(name) }
    }

    fileprivate func release(_ name: String) {
        let isKept = state.withLock { state in
            state.inUse.remove(name)
            return state.kept.contains(name) || state.lock == nil
        }
        if !isKept { remove(name) }
    }

    private func remove(_ name: String) {
        unsafe unlink("\(path)/artifacts/\(name)")
    }
}

extension String {
    /// As part of a file's name: ASCII letters, digits and dots, at most 80 of them.
    var fileName: String {
        guard utf8.allSatisfy({ $0 < 0x80 }) else {
            return String(prefix(80).map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".") ? $0 : "_" })
        }
        let isKept = { (byte: UInt8) in
            let small = byte | 0x20
            return UInt8(ascii: "a")...UInt8(ascii: "z") ~= small || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                || byte == UInt8(ascii: ".")
        }
        return String(decoding: utf8.prefix(80).map { isKept($0) ? $0 : UInt8(ascii: "_") }, as: UTF8.self)
    }
}

/// A private copy of one version's bytes. The file goes when the last reference does, unless the journal names it.
package final class StagedArtifact: Sendable {
    private let directory: StateDirectory
    /// Name of the copy in the folder `artifacts`.
    let name: String
    /// `sha256:<hex>` of the copy.
    package let digest: String
    /// Bytes.
    package let size: Int
    /// Where it came from, for people: a path or `inline`.
    package let origin: String
    /// What was hashed, until somebody wants it: a small config need not be read back from the file that was just written.
    private let held: Mutex<[UInt8]?>
    /// The most that is held.
    static let heldBytes = 64 << 10

    fileprivate init(
        directory: StateDirectory, name: String, digest: String, size: Int, origin: String, holding bytes: [UInt8]?
    ) {
        self.directory = directory
        self.name = name
        self.digest = digest
        self.size = size
        self.origin = origin
        held = Mutex(bytes.flatMap { $0.count <= Self.heldBytes ? $0 : nil })
    }

    /// The copy, mode 0500.
    package var path: String { "\(directory.path)/artifacts/\(name)" }

    deinit { directory.release(name) }

    /// The bytes of the copy.
    package func bytes() throws(ReloadError) -> [UInt8] {
        let bytes = held.withLock { held in
            defer { held = nil }
            return held
        }
        if let bytes { return bytes }
        do {
            return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw ReloadError(.artifactUnreadable, "cannot read the copy \(path): \(error)", underlying: error)
        }
    }
}
