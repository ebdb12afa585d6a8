internal import Foundation
internal import Glibc
internal import Synchronization

/// The folder an instance owns: its lock and the private copies of the artifacts it runs.
///
/// Every version is copied before it is looked at: what is hashed, vetted and opened is the copy, and what happens to the
/// file it came from afterwards does not matter. The dynamic linker needs that as well: the same path or inode opened
/// twice gives the old code, and a library that is overwritten in place crashes its process.
package final class StateDirectory: Sendable {
    /// Absolute path, mode 0700.
    package let path: String
    /// Largest artifact in bytes.
    package let artifactLimit: Int
    /// Held for the life of this object: `flock` ends with the descriptor, so a crash leaves no lock behind.
    private let lock: FileDescriptor
    private let copies = Atomic<UInt64>(0)

    /// Opens the folder, makes it where it is missing, and takes its lock.
    ///
    /// - Throws: `state.locked` when another live instance has it, `state.unusable` with the system's text.
    package init(path: String, artifactLimit: Int) throws(ReloadError) {
        let path = URL(fileURLWithPath: path).standardizedFileURL.path
        self.path = path
        self.artifactLimit = artifactLimit
        do {
            try FileManager.default.createDirectory(
                atPath: path + "/artifacts", withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700])
        } catch {
            throw ReloadError(.stateUnusable, "cannot make the state directory \(path): \(error)", underlying: error)
        }
        guard let lock = FileDescriptor(path + "/lock", O_RDWR | O_CREAT, mode: 0o600) else {
            throw ReloadError(.stateUnusable, "cannot open \(path)/lock: \(systemText())")
        }
        guard flock(lock.number, LOCK_EX | LOCK_NB) == 0 else {
            throw errno == EWOULDBLOCK
                ? ReloadError(
                    .stateLocked,
                    "another live instance uses the state directory \(path); give each its own instance name or folder")
                : ReloadError(.stateUnusable, "cannot lock \(path)/lock: \(systemText())")
        }
        self.lock = lock
        // Nothing refers to the copies of an earlier process.
        for name in (try? FileManager.default.contentsOfDirectory(atPath: path + "/artifacts")) ?? [] {
            try? FileManager.default.removeItem(atPath: "\(path)/artifacts/\(name)")
        }
    }

    /// Copies the file at `source`, read through one descriptor, and computes the digest of what was written.
    package func stage(fileAt source: String, module: String) throws(ReloadError) -> StagedArtifact {
        // O_NONBLOCK: opening a pipe that nobody writes to must not hang before its type is looked at.
        guard let input = FileDescriptor(source, O_RDONLY | O_NONBLOCK) else {
            let code: ReloadCode = errno == ENOENT || errno == ENOTDIR ? .artifactMissing : .artifactUnreadable
            throw ReloadError(code, "cannot open \(source): \(systemText())")
        }
        var information = stat()
        guard unsafe fstat(input.number, &information) == 0 else {
            throw ReloadError(.artifactUnreadable, "cannot look at \(source): \(systemText())")
        }
        guard information.st_mode & S_IFMT == S_IFREG else {
            throw ReloadError(.artifactNotAFile, "\(source) is not a regular file")
        }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        return try write(module: module, from: source) { () throws(ReloadError) -> ArraySlice<UInt8>? in
            guard let count = input.read(into: &buffer) else {
                throw ReloadError(.artifactUnreadable, "cannot read \(source): \(systemText())")
            }
            return count == 0 ? nil : buffer[..<count]
        }
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
        let number = copies.add(1, ordering: .relaxed).newValue
        let safeName = String(module.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".") ? $0 : "_" })
        let temporary = "\(path)/artifacts/\(safeName.prefix(80))-\(number)"
        guard let output = FileDescriptor(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o500) else {
            throw ReloadError(.artifactNotStaged, "cannot make \(temporary): \(systemText())")
        }
        do throws(ReloadError) {
            var digest = DigestAccumulator()
            var size = 0
            while let chunk = try next() {
                size += chunk.count
                guard size <= artifactLimit else {
                    throw ReloadError(.artifactTooLarge, "\(origin) has more than \(artifactLimit) bytes")
                }
                digest.update(chunk)
                guard output.write(chunk) else {
                    throw ReloadError(.artifactNotStaged, "cannot write \(temporary): \(systemText())")
                }
            }
            let text = digest.finish()
            let final = "\(temporary)-\(text.dropFirst(Digest.prefix.count).prefix(16)).so"
            guard unsafe rename(temporary, final) == 0 else {
                throw ReloadError(.artifactNotStaged, "cannot rename \(temporary): \(systemText())")
            }
            return StagedArtifact(path: final, digest: text, size: size, origin: origin)
        } catch {
            unsafe unlink(temporary)
            throw error
        }
    }
}

/// A private copy of one version's bytes. The file goes when the last reference does.
package final class StagedArtifact: Sendable {
    /// The copy, mode 0500.
    package let path: String
    /// `sha256:<hex>` of the copy.
    package let digest: String
    /// Bytes.
    package let size: Int
    /// Where it came from, for people: a path or `inline`.
    package let origin: String

    init(path: String, digest: String, size: Int, origin: String) {
        self.path = path
        self.digest = digest
        self.size = size
        self.origin = origin
    }

    deinit { unsafe unlink(path) }

    /// The bytes of the copy.
    package func bytes() throws(ReloadError) -> [UInt8] {
        do {
            return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw ReloadError(.artifactUnreadable, "cannot read the copy \(path): \(error)", underlying: error)
        }
    }
}
