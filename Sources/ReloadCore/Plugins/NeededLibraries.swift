internal import CReloadTrial
internal import FoundationEssentials
internal import Glibc
internal import ReloadProtocol

/// Whether the dynamic linker has what a library needs, and takes nothing else in its place.
///
/// It goes by what it certainly does; where it may find a library in another way (`$LIB`, folders for a kind of
/// processor) that is left to the trial.
struct NeededLibraries {
    /// Path of the library that needs others.
    private let path: String
    private let file: ELFFile

    /// - Throws: `plugin.missing_library`, `plugin.library_in_use`, `plugin.unsafe_library_folder`.
    static func check(_ file: ELFFile, at path: String) throws(ReloadError) {
        _ = ofTheService  // as long as it is true
        let needed = NeededLibraries(path: path, file: file)
        for name in file.needed { try needed.check(name) }
    }

    private func check(_ name: String) throws(ReloadError) {
        guard !name.isEmpty, !name.contains("$") else { return }
        let own = ownLibrary(name)
        if let loaded = unsafe Self.paths({ unsafe creload_trial_find_loaded(name, $0, $1) }).first {
            guard let own, !Self.ofTheService.contains(loaded), !isSame(own, loaded) else { return }
            throw ReloadError(
                .pluginLibraryInUse,
                """
                it needs \(own.excerpt), but would get \(loaded.excerpt), which is loaded already: link it statically, or \
                give each version of it a name of its own
                """)
        }
        if let open = ownPaths(name).first(where: isOpenToAll) {
            throw ReloadError(
                .pluginUnsafeLibraryFolder,
                "it looks for \(name.excerpt) at '\(open.excerpt)': everybody may put one there, or it is not absolute")
        }
        guard own == nil, !ownPaths(name).contains(where: { $0.contains("$") }), !mayBeElsewhere(name) else { return }
        throw ReloadError(.pluginMissingLibrary, "it needs \(name.excerpt), which is not there")
    }

    /// The file in the library's own folders, or where its name leads.
    private func ownLibrary(_ name: String) -> String? {
        ownPaths(name).first { !$0.contains("$") && FileManager.default.fileExists(atPath: $0) }
    }

    /// Where the library has it looked for, with `$ORIGIN` replaced. Another `$` is for the dynamic linker alone.
    private func ownPaths(_ name: String) -> [String] {
        name.contains("/") ? [name] : file.searchFolders.map { "\(withOrigin($0))/\(name)" }
    }

    private func withOrigin(_ folder: String) -> String {
        let origin = URL(fileURLWithPath: path).deletingLastPathComponent().path
        return folder.replacing("${ORIGIN}", with: origin).replacing("$ORIGIN", with: origin)
    }

    /// Whether more than those who own the folders on its way may decide what is found at a path; so what is not absolute is.
    /// In a folder where everybody may make entries (`/tmp`) only one that is there already, and belongs to root or the service's
    /// user, is nobody else's.
    private func isOpenToAll(_ path: String) -> Bool {
        guard path.utf8.first == UInt8(ascii: "/") else { return true }
        var here = ""
        for name in path.utf8.split(separator: UInt8(ascii: "/")) {
            var (folder, entry) = (stat(), stat())
            guard unsafe stat(here + "/", &folder) == 0 else { return false }
            here += "/\(Substring(name))"
            guard folder.st_mode & S_IWOTH != 0 else { continue }
            guard folder.st_mode & S_ISVTX != 0, unsafe lstat(here, &entry) == 0,
                entry.st_uid == 0 || entry.st_uid == geteuid()
            else { return true }
        }
        var library = stat()
        return unsafe stat(here, &library) == 0 && library.st_mode & S_IWOTH != 0
    }

    private func mayBeElsewhere(_ name: String) -> Bool {
        if name.contains("/") { return false }
        for folder in Self.folders {
            let paths = ["\(folder)/\(name)", "\(folder)/glibc-hwcaps"]
            if paths.contains(where: FileManager.default.fileExists(atPath:)) { return true }
        }
        let cache = try? Data(contentsOf: URL(fileURLWithPath: "/etc/ld.so.cache"), options: .alwaysMapped)
        let end = Array("/\(name)".utf8)
        return cache.map { [UInt8]($0).split(separator: 0).contains { $0.suffix(end.count) == end[...] } } == true
    }

    private func isSame(_ one: String, _ other: String) -> Bool {
        one == other || FileManager.default.contentsEqual(atPath: one, andPath: other)
    }

    /// What is loaded before the first plugin: every version of one gets that.
    private static let ofTheService = unsafe Set(paths { unsafe creload_trial_each_loaded($0, $1) })

    private static let folders = unsafe paths { unsafe creload_trial_each_library_folder($0, $1) }

    /// What a C function names.
    private static func paths(
        _ nameAll: (UnsafeMutableRawPointer, @escaping creload_trial_path_function) -> Void
    ) -> [String] {
        var paths: [String] = []
        unsafe withUnsafeMutablePointer(to: &paths) { paths in
            unsafe nameAll(paths) { context, path in
                unsafe context.assumingMemoryBound(to: [String].self).pointee.append(String(cString: path))
            }
        }
        return paths
    }
}
