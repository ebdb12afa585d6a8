internal import Foundation

/// What the file of a candidate says of itself, read before anything is opened: `dlopen` of a file that ends too early
/// kills its process with SIGBUS, and a library whose code may not be unmapped shows it in its sections.
///
/// Follows the System V ABI's ELF-64 object file format. Every offset comes from the file and is checked against its size.
struct ELFFile {
    /// The library must stay mapped once it was opened: it has Swift metadata, which the runtime keeps pointers to, or
    /// unique symbols, which the dynamic linker never unloads, or no section headers to tell from.
    let mustStayMapped: Bool

    /// Looks at the file at `path`.
    ///
    /// - Throws: `plugin.not_a_library`, `plugin.truncated`.
    init(path: String) throws(ReloadError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
        } catch {
            throw ReloadError(.artifactUnreadable, "cannot map \(path): \(error)", underlying: error)
        }
        let file = Reader(data: data)
        guard file.size >= 64 else {
            let isELF = data.starts(with: Self.magic)
            throw ReloadError(
                isELF ? .pluginTruncated : .pluginNotALibrary, "\(file.size) bytes are no shared library")
        }
        guard data.prefix(4).elementsEqual(Self.magic) else {
            throw ReloadError(.pluginNotALibrary, "not an ELF file")
        }
        guard data[data.startIndex + 4] == 2, data[data.startIndex + 5] == 1 else {
            throw ReloadError(.pluginNotALibrary, "not a 64-bit little-endian ELF file")
        }
        let type = try file.integer(UInt16.self, at: 16)
        let machine = try file.integer(UInt16.self, at: 18)
        guard type == 3 else {
            throw ReloadError(.pluginNotALibrary, "ELF type \(type) is no shared library (3)")
        }
        guard machine == Self.hostMachine else {
            throw ReloadError(
                .pluginNotALibrary, "built for ELF machine \(machine), this one is \(Self.hostMachine)")
        }
        try Self.checkSegments(file)
        mustStayMapped = try Self.mustStayMapped(file)
    }

    private static let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46]

    #if arch(x86_64)
        private static let hostMachine: UInt16 = 62
    #elseif arch(arm64)
        private static let hostMachine: UInt16 = 183
    #else
        #error("Tell the ELF machine number of this architecture here.")
    #endif

    private static func checkSegments(_ file: Reader) throws(ReloadError) {
        let start = try file.integer(UInt64.self, at: 32)
        let entrySize = UInt64(try file.integer(UInt16.self, at: 54))
        let count = UInt64(try file.integer(UInt16.self, at: 56))
        guard count > 0, entrySize >= 56 else {
            throw ReloadError(.pluginNotALibrary, "it has no program headers")
        }
        for index in 0..<count {
            let header = try file.offset(start, index * entrySize)
            let isLoaded = try file.integer(UInt32.self, at: header) == 1
            let offset = try file.integer(UInt64.self, at: header + 8)
            let size = try file.integer(UInt64.self, at: header + 32)
            let (end, overflow) = offset.addingReportingOverflow(size)
            guard !isLoaded || (!overflow && end <= file.size) else {
                throw ReloadError(
                    .pluginTruncated, "segment \(index) ends at byte \(end), the file has \(file.size)")
            }
        }
    }

    private static func mustStayMapped(_ file: Reader) throws(ReloadError) -> Bool {
        let start = try file.integer(UInt64.self, at: 40)
        let entrySize = UInt64(try file.integer(UInt16.self, at: 58))
        let count = UInt64(try file.integer(UInt16.self, at: 60))
        let namesIndex = UInt64(try file.integer(UInt16.self, at: 62))
        guard start > 0, count > 0 else { return true }
        guard entrySize >= 64, namesIndex < count else {
            throw ReloadError(.pluginNotALibrary, "its section headers are damaged")
        }
        let names = try Section(file, try file.offset(start, namesIndex * entrySize))
        for index in 0..<count {
            let section = try Section(file, try file.offset(start, index * entrySize))
            if section.size > 0, try file.text(at: names.offset, section.name, has: "swift5_") { return true }
            if section.type == Section.dynamicSymbols, try hasUniqueSymbol(file, section) { return true }
        }
        return false
    }

    /// GNU unique symbols (binding 10) pin their library for good.
    private static func hasUniqueSymbol(_ file: Reader, _ section: Section) throws(ReloadError) -> Bool {
        let symbolSize: UInt64 = 24
        for index in 0..<(section.size / symbolSize) {
            let information = try file.integer(UInt8.self, at: try file.offset(section.offset, index * symbolSize) + 4)
            if information >> 4 == 10 { return true }
        }
        return false
    }

    private struct Section {
        static let dynamicSymbols: UInt32 = 11
        let name: UInt64
        let type: UInt32
        let offset: UInt64
        let size: UInt64

        init(_ file: Reader, _ header: UInt64) throws(ReloadError) {
            _ = try file.integer(UInt64.self, at: header + 56)  // the entry is whole
            name = UInt64(try file.integer(UInt32.self, at: header))
            type = try file.integer(UInt32.self, at: header + 4)
            offset = try file.integer(UInt64.self, at: header + 24)
            let noBits: UInt32 = 8
            size = try file.integer(UInt64.self, at: header + 32)
            let (end, overflow) = offset.addingReportingOverflow(size)
            guard type == noBits || (!overflow && end <= file.size) else {
                throw ReloadError(
                    .pluginTruncated, "a section ends at byte \(end), the file has \(file.size)")
            }
        }
    }

    private struct Reader {
        let data: Data
        var size: UInt64 { UInt64(data.count) }

        func integer<Integer: FixedWidthInteger>(_: Integer.Type, at offset: UInt64) throws(ReloadError) -> Integer {
            let width = UInt64(MemoryLayout<Integer>.size)
            guard offset <= size, size - offset >= width else {
                throw ReloadError(.pluginTruncated, "a header lies at byte \(offset), the file has \(size)")
            }
            let start = data.startIndex + Int(offset)
            return data[start..<(start + Int(width))].reversed().reduce(0) { $0 << 8 | Integer($1) }
        }

        func offset(_ base: UInt64, _ distance: UInt64) throws(ReloadError) -> UInt64 {
            let (sum, overflow) = base.addingReportingOverflow(distance)
            // Fields are read at most 64 bytes into an entry.
            guard !overflow, sum <= UInt64(Int.max) - 64 else {
                throw ReloadError(.pluginTruncated, "a header lies beyond the end of the file")
            }
            return sum
        }

        func text(at base: UInt64, _ distance: UInt64, has prefix: String) throws(ReloadError) -> Bool {
            let start = try offset(base, distance)
            guard start <= size, size - start >= UInt64(prefix.utf8.count) else { return false }
            return data[(data.startIndex + Int(start))...].starts(with: prefix.utf8)
        }
    }
}
