internal import FoundationEssentials
internal import ReloadProtocol

/// What the file of a candidate says of itself, read before anything is opened: `dlopen` of a file that ends too early
/// kills its process with SIGBUS, and a library whose code may not be unmapped shows it in its sections.
///
/// Follows the System V ABI's ELF-64 object file format. Every offset comes from the file and is checked against its size.
struct ELFFile {
    /// The library must stay mapped once it was opened: it has Swift metadata, which the runtime keeps pointers to, or
    /// unique symbols, which the dynamic linker never unloads, or no section headers to tell from.
    let mustStayMapped: Bool
    /// The libraries it needs, as the dynamic linker is told (`DT_NEEDED`).
    let needed: [String]
    /// Folders where those are looked for first (`DT_RUNPATH`, else `DT_RPATH`), each with what is to be expanded in it.
    let searchFolders: [String]

    /// Looks at the file at `path`.
    ///
    /// - Throws: `plugin.not_a_library`, `plugin.truncated`, `plugin.writable_code`.
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
        let segments = try Self.segments(file)
        let dynamic = try Dynamic(file, segments)
        // Without that header the stack is executable as well.
        guard segments.last(where: { $0.type == Segment.stack })?.isExecutable == false else {
            throw ReloadError(.pluginWritableCode, "it needs an executable stack")
        }
        guard !dynamic.writesToCode else {
            throw ReloadError(.pluginWritableCode, "it has relocations in its code (TEXTREL)")
        }
        needed = dynamic.needed
        searchFolders = dynamic.searchFolders
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

    private static func segments(_ file: Reader) throws(ReloadError) -> [Segment] {
        let start = try file.integer(UInt64.self, at: 32)
        let entrySize = UInt64(try file.integer(UInt16.self, at: 54))
        let count = UInt64(try file.integer(UInt16.self, at: 56))
        guard count > 0, entrySize >= 56 else {
            throw ReloadError(.pluginNotALibrary, "it has no program headers")
        }
        var segments: [Segment] = []
        for index in 0..<count {
            let segment = try Segment(file, try file.offset(start, index * entrySize))
            let (end, overflow) = segment.offset.addingReportingOverflow(segment.size)
            guard segment.type != Segment.load || (!overflow && end <= file.size) else {
                throw ReloadError(
                    .pluginTruncated, "segment \(index) ends at byte \(end), the file has \(file.size)")
            }
            segments.append(segment)
        }
        return segments
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
        var hasSymbols = false
        for index in 0..<count {
            let section = try Section(file, try file.offset(start, index * entrySize))
            if section.size > 0, try file.text(at: names.offset, section.name, has: "swift5_") { return true }
            guard section.type == Section.dynamicSymbols else { continue }
            // A table for each of 65,535 sections would be read for hours.
            guard !hasSymbols else { throw ReloadError(.pluginNotALibrary, "it has two tables of dynamic symbols") }
            hasSymbols = true
            if try hasUniqueSymbol(file, section) { return true }
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

    private struct Segment {
        static let load: UInt32 = 1
        static let dynamic: UInt32 = 2
        static let stack: UInt32 = 0x6474_e551
        let type: UInt32
        let isExecutable: Bool
        let offset: UInt64
        let address: UInt64
        let size: UInt64

        init(_ file: Reader, _ header: UInt64) throws(ReloadError) {
            type = try file.integer(UInt32.self, at: header)
            isExecutable = try file.integer(UInt32.self, at: header + 4) & 1 != 0
            offset = try file.integer(UInt64.self, at: header + 8)
            address = try file.integer(UInt64.self, at: header + 16)
            size = try file.integer(UInt64.self, at: header + 32)
        }
    }

    /// What the dynamic linker is told.
    private struct Dynamic {
        var needed: [String] = []
        var searchFolders: [String] = []
        var writesToCode = false

        private enum Tag: UInt64 {
            case needed = 1
            case names = 5
            case namesSize = 10
            case path = 15
            case textRelocations = 22
            case runPath = 29
            case flags = 30
        }

        init(_ file: Reader, _ segments: [Segment]) throws(ReloadError) {
            guard let segment = segments.first(where: { $0.type == Segment.dynamic }) else {
                throw ReloadError(.pluginNotALibrary, "it has no dynamic section")
            }
            var entries: [(tag: Tag?, value: UInt64)] = []
            for index in 0..<(segment.size / 16) {
                let entry = try file.offset(segment.offset, index * 16)
                let tag = try file.integer(UInt64.self, at: entry)
                if tag == 0 { break }
                entries.append((Tag(rawValue: tag), try file.integer(UInt64.self, at: entry + 8)))
            }
            func value(_ tag: Tag) -> UInt64? { entries.last { $0.tag == tag }?.value }
            writesToCode = value(.textRelocations) != nil || (value(.flags) ?? 0) & 4 != 0
            let names = entries.filter { $0.tag == .needed }.map(\.value)
            guard names.count <= 1000 else {
                throw ReloadError(.pluginNotALibrary, "it needs \(names.count) libraries")
            }
            let folders = value(.runPath) ?? value(.path)
            guard !names.isEmpty || folders != nil else { return }
            let (table, tableSize) = (value(.names) ?? 0, value(.namesSize) ?? 0)
            guard
                let load = segments.first(where: {
                    $0.type == Segment.load && table >= $0.address && table - $0.address < $0.size
                })
            else { throw ReloadError(.pluginNotALibrary, "its table of names is outside the file") }
            let start = try file.offset(load.offset, table - load.address)
            for name in names { needed.append(try file.text(at: start, name, within: tableSize)) }
            if let folders {
                let text = try file.text(at: start, folders, within: tableSize)
                // An empty one among several is the working directory.
                let folders = text.isEmpty ? [] : text.split(separator: ":", omittingEmptySubsequences: false)
                searchFolders = folders.map { $0.isEmpty ? "." : String($0) }
            }
        }
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

        /// The text that ends with a zero byte in a table of `limit` bytes.
        func text(at base: UInt64, _ distance: UInt64, within limit: UInt64) throws(ReloadError) -> String {
            let start = try offset(base, distance)
            let end = min(try offset(base, min(limit, size)), size)
            let longest: UInt64 = 1 << 16
            let bytes =
                start < end ? data[(data.startIndex + Int(start))...].prefix(Int(min(end - start, longest))) : Data()
            guard let zero = bytes.firstIndex(of: 0) else {
                throw ReloadError(.pluginNotALibrary, "a name in its dynamic section does not end")
            }
            return String(decoding: bytes[..<zero], as: UTF8.self)
        }

        func text(at base: UInt64, _ distance: UInt64, has prefix: String) throws(ReloadError) -> Bool {
            let start = try offset(base, distance)
            guard start <= size, size - start >= UInt64(prefix.utf8.count) else { return false }
            return data[(data.startIndex + Int(start))...].starts(with: prefix.utf8)
        }
    }
}
