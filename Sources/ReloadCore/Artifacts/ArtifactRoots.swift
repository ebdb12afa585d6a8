internal import CReloadTrial
internal import FoundationEssentials
internal import Glibc
package import ReloadProtocol

/// The folders a request's `path` may lead into. Each is opened once and stays the same folder for a whole request, even when
/// another one takes its name. For one thread.
///
/// The kernel finds the file and sees that it stays below the root (`openat2`). Where it has no such call, and for absolute links
/// that lead back into the root, which it refuses, the path is walked here: one name at a time, each link read and its names
/// walked in turn, so that nothing is ever followed that was not looked at.
package final class ArtifactRoots {
    /// A root, or a folder on the way from it.
    private final class Folder {
        let descriptor: FileDescriptor
        init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    }

    private struct Root {
        let folder: Folder
        /// Its absolute path as given, and without links.
        let names: [String]
        let information: stat?

        init?(_ path: String) {
            guard let descriptor = FileDescriptor(taking: unsafe creload_trial_find(path)) else { return nil }
            names = [URL(fileURLWithPath: path).standardizedFileURL.path, descriptor.path].compactMap { $0 }
            information = descriptor.information
            folder = Folder(descriptor)
        }

        /// What is left of an absolute path that lies under it, going by the text.
        func relative(_ path: String) -> String? {
            for name in names.map({ $0 == "/" ? "" : $0 }) {
                // By bytes: characters would combine across a slash.
                guard path.utf8.starts(with: name.utf8) else { continue }
                let rest = path.utf8.dropFirst(name.utf8.count)
                if rest.isEmpty { return "." }
                if rest.first == UInt8(ascii: "/") { return String(Substring(rest.drop { $0 == UInt8(ascii: "/") })) }
            }
            return nil
        }
    }

    private let given: () -> [String]
    private let usesOpenat2: Bool
    private lazy var folders = given().reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
    private lazy var roots = folders.compactMap { Root($0) }

    /// - Parameters:
    ///   - folders: asked for when a path is looked for; the same one may come twice.
    ///   - usesOpenat2: `false` walks every path here.
    package init(_ folders: @autoclosure @escaping () -> [String], usesOpenat2: Bool = true) {
        given = folders
        self.usesOpenat2 = usesOpenat2
    }

    /// Opens `path`, which is relative to a root or lies under one; the first root that has it decides.
    ///
    /// - Throws: `artifact.outside_roots`, also for a link that leads out; `artifact.missing`; what
    ///   ``OpenArtifact/init(_:at:under:)`` throws.
    package func open(_ path: String) throws(ReloadError) -> OpenArtifact {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw ReloadError(.artifactOutsideRoots, "the path is empty or has a NUL byte")
        }
        guard path.utf8.count < PATH_MAX else {
            throw ReloadError(.artifactMissing, "no path has \(path.utf8.count) bytes")
        }
        var problem: ReloadError?
        for root in roots {
            guard let inside = path.utf8.first == UInt8(ascii: "/") ? root.relative(path) : path else { continue }
            if let found = find(inside.isEmpty ? "." : inside, under: root) {
                return try OpenArtifact(found, at: "\(root.names[0])/\(inside)", under: root.information)
            }
            let cause = errno
            let error =
                switch cause {
                case ENOENT, ENOTDIR, ENAMETOOLONG:
                    ReloadError(
                        .artifactMissing,
                        "no file \(path.excerpt) under \(folders.joined(separator: ", ")): \(systemText(cause))")
                case EXDEV, ELOOP:
                    ReloadError(
                        .artifactOutsideRoots, "\(path.excerpt) leads out of the artifact root \(root.names[0])")
                default: ReloadError(.artifactUnreadable, "cannot open \(path.excerpt): \(systemText(cause))")
                }
            // Prefer any other error to "missing": the file may be in another root.
            if problem == nil || problem?.code == .artifactMissing { problem = error }
        }
        if let problem { throw problem }
        throw ReloadError(
            .artifactOutsideRoots,
            "\(path.excerpt) is not under an artifact root (\(folders.joined(separator: ", ")))")
    }

    /// nil leaves the cause in `errno`, `EXDEV` for what leads out.
    private func find(_ path: String, under root: Root) -> FileDescriptor? {
        // A rename somewhere in the system while `..` is resolved is no reason to give up.
        for _ in 0..<(usesOpenat2 ? 16 : 0) {
            if let found = FileDescriptor(
                taking: unsafe creload_trial_find_beneath(root.folder.descriptor.number, path))
            {
                return found
            }
            guard [EAGAIN, EINTR].contains(errno) else { break }
        }
        guard !usesOpenat2 || [ENOSYS, EPERM, EXDEV, EAGAIN, EINTR].contains(errno) else { return nil }
        return walk(path, under: root)
    }

    /// Each name is found in a folder that is open, and nothing follows links: a link that takes a file's place is found as a
    /// link. `..` goes back to the folder that was open before, never to whatever is above it by now.
    private func walk(_ path: String, under root: Root) -> FileDescriptor? {
        func names(_ path: String) -> [String] {
            path.utf8.split(separator: UInt8(ascii: "/")).reversed().map { String(Substring($0)) }
        }
        var ahead = names(path)
        var way: [Folder] = []
        var links = 0
        while let name = ahead.popLast() {
            if name == ".." {
                guard way.popLast() != nil else {
                    errno = EXDEV
                    return nil
                }
            }
            let here = (way.last ?? root.folder).descriptor.number
            // For `..` it is where the way has come back to.
            guard let found = FileDescriptor(taking: unsafe creload_trial_find_name(here, name == ".." ? "." : name)),
                let type = found.information.map({ $0.st_mode & S_IFMT })
            else { return nil }
            if type == S_IFLNK, let target = FileDescriptor.target("", of: found.number) {
                links += 1
                let isAbsolute = target.utf8.first == UInt8(ascii: "/")
                guard links <= 40, let inside = isAbsolute ? root.relative(target) : target else {
                    errno = links <= 40 ? EXDEV : ELOOP
                    return nil
                }
                if isAbsolute { way = [] }
                ahead += names(inside)
            } else if ahead.isEmpty {
                return found
            } else if type != S_IFDIR {
                errno = ENOTDIR
                return nil
            } else if name != "..", name != "." {
                way.append(Folder(found))
            }
        }
        return FileDescriptor(taking: unsafe creload_trial_find_name(root.folder.descriptor.number, "."))
    }
}
