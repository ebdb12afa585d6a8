internal import CReloadTrial
internal import Glibc
package import ReloadProtocol

/// A file that was found, looked at and opened. Everything after that is done through its descriptor, so that nobody can put
/// another file in its place.
package struct OpenArtifact: ~Copyable {
    let file: FileDescriptor
    /// Where it was found, for people and for the format its name tells.
    let path: String
    /// Bytes, as far as the file system knows.
    let size: Int

    /// A file that the service named itself. Its folder, links resolved, says who may write it, as an artifact root does.
    ///
    /// - Throws: `artifact.missing`, `artifact.unreadable`, and what ``init(_:at:under:)`` throws.
    package init(registered path: String) throws(ReloadError) {
        guard let found = FileDescriptor(taking: unsafe creload_trial_find(path)) else {
            let code: ReloadCode = errno == ENOENT || errno == ENOTDIR ? .artifactMissing : .artifactUnreadable
            throw ReloadError(code, "cannot open \(path.excerpt): \(systemText())")
        }
        let folder = found.path.map { $0.utf8.prefix(upTo: $0.utf8.lastIndex(of: UInt8(ascii: "/")) ?? $0.startIndex) }
        let opened = folder.flatMap { FileDescriptor(taking: unsafe creload_trial_find("/\(Substring($0))")) }
        try self.init(found, at: path, under: opened?.information)
    }

    /// Opens what was found, if it is a regular file that only those may have written who may write in `folder`: it belongs to
    /// root, to the service's user or to the folder's owner, others may not write it, and a group only when that group may write
    /// in the folder as well. The type is looked at first: to open a device or a pipe has effects of its own.
    ///
    /// - Throws: `artifact.not_a_file`, `artifact.unsafe_permissions`, `artifact.unreadable`.
    init(_ found: borrowing FileDescriptor, at path: String, under folder: stat?) throws(ReloadError) {
        guard let information = found.information else {
            throw ReloadError(.artifactUnreadable, "cannot look at \(path.excerpt): \(systemText())")
        }
        guard information.st_mode & S_IFMT == S_IFREG else {
            throw ReloadError(.artifactNotAFile, "\(path.excerpt) is not a regular file")
        }
        guard Self.isTrusted(information, under: folder, user: geteuid()) else {
            throw ReloadError(
                .artifactUnsafePermissions,
                "others may have written \(path.excerpt): \(information.ownership)"
                    + (folder.map { ", and its folder \($0.ownership)" } ?? ""))
        }
        // This very file, whatever its path leads to by now.
        guard let file = FileDescriptor("/proc/self/fd/\(found.number)", O_RDONLY | O_NONBLOCK | O_NOCTTY) else {
            throw ReloadError(.artifactUnreadable, "cannot open \(path.excerpt): \(systemText())")
        }
        self.file = file
        self.path = path
        size = Int(information.st_size)
    }

    /// The rule of ``init(_:at:under:)``. An access control list shows in the group's bits. Without a folder nobody but root
    /// and the service's user counts.
    static func isTrusted(_ file: stat, under folder: stat?, user: uid_t) -> Bool {
        let owners: Set<uid_t?> = [0, user, folder?.st_uid]
        guard owners.contains(file.st_uid), file.st_mode & S_IWOTH == 0 else { return false }
        guard file.st_mode & S_IWGRP != 0 else { return true }
        return folder.map { $0.st_mode & S_IWGRP != 0 && $0.st_gid == file.st_gid } ?? false
    }
}

extension stat {
    /// `has mode 0664, owner 1000 and group 1000`
    var ownership: String {
        "has mode 0\(String(st_mode & 0o7777, radix: 8)), owner \(st_uid) and group \(st_gid)"
    }
}
