internal import CReloadHost
internal import Foundation

/// Whether the dynamic linker has what a library needs, and takes nothing else in its place.
///
/// It goes by what it certainly does; where it may find a library in another way (`$LIB`, folders for a kind of
/// processor) that is left to the trial.
struct NeededLibraries {
    /// Path of the library that needs others.
    private let path: String
    private let file: ELFFile

    /// - Throws: `plugin.missing_library`, `plugin.library_in_use`.
    static func check(_ file: ELFFile, at path: String) throws(ReloadError) {
        _ = ofTheService  // as long as it is true
        let needed = NeededLibraries(path: path, file: file)
        for name in file.needed { try needed.check(name) }
    }

    private func check(_ name: String) throws(ReloadError) {
        guard !name.isEmpty, !name.contains("$") else { return }
        let own = ownLibrary(name)
        if let loaded = unsafe Self.paths({ unsafe creload_find_loaded(name, $0, $1) }).first {
            guard let own, !Self.ofTheService.contains(loaded), !isSame(own, loaded) else { return }
            throw ReloadError(
                .pluginLibraryInUse,
                """
                it needs \(own.excerpt), but would get \(loaded.excerpt), which is loaded already: link it statically, or \
                give each version of it a name of its own
                """)
        }
        guard own == nil, !file.searchFolders.contains(where: { expanded($0) == nil }), !mayBeElsewhere(name) else {
            return
        }
        throw ReloadError(.pluginMissingLibrary, "it needs \(name.excerpt), which is not there")
    }

    /// The file in the library's own folders, or where its name leads.
    private func ownLibrary(_ name: String) -> String? {
        let paths = name.contains("/") ? [name] : file.searchFolders.compactMap(expanded).map { "\($0)/\(name)" }
        return paths.first { FileManager.default.fileExists(atPath: $0) }
    }

    /// With `$ORIGIN` replaced; nil for what only the dynamic linker knows.
    private func expanded(_ folder: String) -> String? {
        let origin = URL(fileURLWithPath: path).deletingLastPathComponent().path
        let expanded = folder.replacing("${ORIGIN}", with: origin).replacing("$ORIGIN", with: origin)
        return expanded.contains("$") ? nil : expanded
    }

    private func mayBeElsewhere(_ name: String) -> Bool {
        if name.contains("/") { return false }
        for folder in Self.folders {
            let paths = ["\(folder)/\(name)", "\(folder)/glibc-hwcaps"]
            if paths.contains(where: FileManager.default.fileExists(atPath:)) { return true }
        }
        let cache = try? Data(contentsOf: URL(fileURLWithPath: "/etc/ld.so.cache"), options: .alwaysMapped)
        return cache?.range(of: Data("/\(name)\0".utf8)) != nil
    }

    private func isSame(_ one: String, _ other: String) -> Bool {
        one == other || FileManager.default.contentsEqual(atPath: one, andPath: other)
    }

    /// What is loaded before the first plugin: every version of one gets that.
    private static let ofTheService = unsafe Set(paths { unsafe creload_each_loaded($0, $1) })

    private static let folders = unsafe paths { unsafe creload_each_library_folder($0, $1) }

    /// What a C function names.
    private static func paths(
        _ nameAll: (UnsafeMutableRawPointer, @escaping creload_path_function) -> Void
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
