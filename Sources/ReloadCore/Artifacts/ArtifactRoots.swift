internal import Foundation
internal import Glibc

/// The folders a request's `path` may lead into.
package struct ArtifactRoots: Sendable {
    /// As given; a folder need not exist before a path is resolved.
    private let folders: [String]

    package init(_ folders: [String]) {
        var seen = Set<String>()
        self.folders = folders.filter { seen.insert($0).inserted }
    }

    /// The real path of `path`, which is relative to a root or lies under one. The caller opens what is returned, so that
    /// what was checked is what is used.
    ///
    /// - Throws: `artifact.outside_roots`, also for a link that leads out; `artifact.missing`.
    package func resolve(_ path: String) throws(ReloadError) -> String {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw ReloadError(.artifactOutsideRoots, "the path is empty or has a NUL byte")
        }
        let roots = folders.map(Self.real)
        var isInside = false
        for candidate in path.hasPrefix("/") ? [path] : roots.map({ "\($0)/\(path)" }) {
            let real = Self.real(candidate)
            guard roots.contains(where: { real == $0 || real.hasPrefix($0 == "/" ? "/" : $0 + "/") }) else { continue }
            isInside = true
            if unsafe access(real, F_OK) == 0 { return real }
        }
        throw isInside
            ? ReloadError(.artifactMissing, "no file \(path.excerpt) under \(folders.joined(separator: ", "))")
            : ReloadError(
                .artifactOutsideRoots,
                "\(path.excerpt) is not under an artifact root (\(folders.joined(separator: ", ")))")
    }

    /// `realpath(3)`; for what does not exist the absolute path without `.` and `..`.
    private static func real(_ path: String) -> String {
        if let real = unsafe realpath(path, nil) {
            defer { unsafe free(real) }
            return unsafe String(cString: real)
        }
        return URL(fileURLWithPath: path).standardizedFileURL.path
    }
}
