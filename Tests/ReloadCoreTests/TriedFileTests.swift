import Foundation
import ReloadCore
import ReloadProtocol
import Testing

/// What a candidate's file says is judged before anything is opened: here nothing is tried in a process beforehand.
@Suite(.timeLimit(.minutes(5))) struct TriedFileTests {
    private let scene: Scene
    private let parser: PluginTarget
    /// What is loaded stays loaded in the process of all tests: each has a name of its own for the library.
    private let name = "helper-\(UUID().uuidString)"

    init() throws {
        scene = try Scene(trial: nil)
        parser = try scene.parser()
    }

    private func load(_ revision: Int64, _ name: String) async throws -> Report {
        try await scene.apply("parser", revision, kind: "plugin", more: #","path":"\#(name)""#)
    }

    /// A library of one function in a folder of its own.
    private func helper(_ folder: String, answers: Int, soname: String? = nil) throws -> String {
        let folder = scene.folder.appendingPathComponent(folder).path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try PluginSource.compile(
            "int help(void) { return \(answers); }", to: "\(folder)/lib\(name).so",
            ["-Wl,-soname,\(soname ?? "lib\(name).so")"])
        return folder
    }

    /// A plugin that calls it, and looks for it where it is now unless told otherwise.
    private func plugin(_ version: String, with folder: String, runPath: String? = nil) throws {
        let answer = #"if (operation == 5) { uint8_t n = help(); return out->write(out->context, &n, 1); }"#
        _ = try scene.compile(
            PluginSource.good(version: version, top: "int help(void);", call: answer), to: version + ".so",
            ["-L\(folder)", "-l\(name)", "-Wl,-rpath,\(runPath ?? folder)"])
    }

    // MARK: Libraries it needs

    @Test func aLibraryThatIsNotThere() async throws {
        let folder = try helper("one", answers: 1)
        try plugin("two", with: folder)
        try FileManager.default.moveItem(atPath: "\(folder)/lib\(name).so", toPath: folder + "/away")
        let report = try await load(1, "two.so")
        #expect(report.code == .pluginMissingLibrary, "\(report.message)")
        #expect(report.message.contains("lib\(name).so"))
        #expect(try parser.text() == "one")
        // It may be there later: the plugin is not to blame.
        try FileManager.default.moveItem(atPath: folder + "/away", toPath: "\(folder)/lib\(name).so")
        #expect(try await load(2, "two.so").state == .applied)
        #expect(try parser.call([], operation: 5) == [1])
    }

    @Test func aLibraryThatIsNotThereByPath() async throws {
        let folder = try helper("one", answers: 1, soname: "\(scene.folder.path)/one/lib\(name).so")
        try plugin("two", with: folder)
        #expect(try await load(1, "two.so").state == .applied)
        try FileManager.default.removeItem(atPath: "\(folder)/lib\(name).so")
        try plugin("three", with: try helper("other", answers: 1, soname: "\(scene.folder.path)/nowhere/lib\(name).so"))
        #expect(try await load(2, "three.so").code == .pluginMissingLibrary)
    }

    /// The dynamic linker would bind the second version to the first one's library.
    @Test func aPrivateLibraryWhoseNameIsTaken() async throws {
        try plugin("two", with: try helper("one", answers: 1))
        #expect(try await load(1, "two.so").state == .applied)
        try plugin("three", with: try helper("other", answers: 3))
        let report = try await load(2, "three.so")
        #expect(report.code == .pluginLibraryInUse, "\(report.message)")
        #expect(report.message.contains("/other/lib\(name).so") && report.message.contains("/one/lib\(name).so"))
        #expect(try parser.call([], operation: 5) == [1])
        // A copy of the one that is loaded does no harm; nor does one with another name.
        try plugin("four", with: try helper("copy", answers: 1))
        #expect(try await load(3, "four.so").state == .applied)
        try plugin("five", with: try helper("renamed", answers: 5, soname: "lib5-\(name).so"))
        let folder = scene.folder.path + "/renamed"
        try FileManager.default.moveItem(atPath: "\(folder)/lib\(name).so", toPath: folder + "/lib5-\(name).so")
        #expect(try await load(4, "five.so").state == .applied)
        #expect(try parser.call([], operation: 5) == [5])
    }

    @Test(arguments: ["$LIB", "${PLATFORM}/x"])
    func whereOnlyTheDynamicLinkerKnowsItIsAsked(token: String) async throws {
        let folder = try helper("one", answers: 1)
        try plugin("two", with: folder, runPath: "/nowhere/\(token)")
        #expect(try await load(1, "two.so").code == .pluginNotOpened)
        try plugin("three", with: folder, runPath: "/nowhere/\(token):\(folder)")
        #expect(try await load(2, "three.so").state == .applied)
    }

    /// Whoever puts a library there has the service.
    @Test func whereEverybodyMayPutALibrary() async throws {
        let folder = try helper("one", answers: 1)
        func permit(_ mode: Int, _ path: String) throws {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        }
        try plugin("two", with: folder)
        try permit(0o777, folder)
        let report = try await load(1, "two.so")
        #expect(report.code == .pluginUnsafeLibraryFolder && report.message.contains(folder), "\(report.message)")
        try permit(0o755, folder)
        try permit(0o666, "\(folder)/lib\(name).so")
        #expect(try await load(2, "two.so").code == .pluginUnsafeLibraryFolder)
        try permit(0o644, "\(folder)/lib\(name).so")
        // In a folder such as /tmp what is there is its owner's; what is not there yet would be anybody's.
        try permit(0o1777, scene.folder.path)
        try plugin("three", with: folder, runPath: "\(scene.folder.path)/later:\(folder)")
        #expect(try await load(3, "three.so").code == .pluginUnsafeLibraryFolder)
        #expect(try await load(4, "two.so").state == .applied)
    }

    @Test(arguments: ["relative", "", ".", "$LIB"])
    func whatDependsOnTheWorkingDirectory(runPath: String) async throws {
        let folder = try helper("one", answers: 1)
        try plugin("two", with: folder, runPath: "\(runPath):\(folder)")
        let report = try await load(1, "two.so")
        #expect(report.code == .pluginUnsafeLibraryFolder, "\(report.message)")
        #expect(try parser.text() == "one")
        // The file is not to blame: elsewhere it may be fine.
        #expect(try await load(2, "two.so").code == .pluginUnsafeLibraryFolder)
    }

    // MARK: Code that can be written

    @Test(arguments: [
        ("", ["-Wl,-z,execstack"], "executable stack"),
        (#"__asm__(".text\n.quad reload_plugin_entry\n");"#, ["-Wl,-z,notext"], "TEXTREL"),
    ])
    func codeThatCanBeWritten(top: String, arguments: [String], reason: String) async throws {
        _ = try scene.compile(PluginSource.good(version: "two", top: top), to: "two.so", arguments)
        let report = try await load(1, "two.so")
        #expect(report.code == .pluginWritableCode, "\(report.message)")
        #expect(report.message.contains(reason))
        #expect(try parser.text() == "one")
    }

    // MARK: Damage

    /// A library whose bytes can be changed where its headers say.
    private struct Image {
        var bytes: Data

        init(_ path: String) throws { bytes = try Data(contentsOf: URL(fileURLWithPath: path)) }

        func integer(_ offset: Int, _ width: Int = 8) -> Int {
            bytes[offset..<(offset + width)].reversed().reduce(0) { $0 << 8 | Int($1) }
        }

        mutating func set(_ offset: Int, to value: UInt64, _ width: Int = 8) {
            for index in 0..<width { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(index))) }
        }

        var segments: [Int] { (0..<integer(56, 2)).map { integer(32) + $0 * integer(54, 2) } }
        var sections: [Int] { (0..<integer(60, 2)).map { integer(40) + $0 * integer(58, 2) } }

        /// Where the entries of the dynamic section are, by tag.
        var entries: [(tag: Int, offset: Int)] {
            guard let segment = segments.first(where: { integer($0, 4) == 2 }) else { return [] }
            let start = integer(segment + 8)
            return (0..<(integer(segment + 32) / 16)).map { (integer(start + $0 * 16), start + $0 * 16) }
        }
    }

    @Test(arguments: [(4, 1), (5, 2), (16, 2), (18, 0)] as [(Int, UInt8)])
    func aFileOfAnotherKindOrForAnotherMachine(offset: Int, value: UInt8) async throws {
        #expect(try await damaged { $0.bytes[offset] = value }.code == .pluginNotALibrary)
    }

    private func damaged(_ damage: (inout Image) -> Void) async throws -> Report {
        let folder = try helper("one", answers: 1)
        try plugin("two", with: folder)
        let path = scene.folder.appendingPathComponent("artifacts/two.so").path
        var image = try Image(path)
        damage(&image)
        try image.bytes.write(to: URL(fileURLWithPath: path))
        return try await load(1, "two.so")
    }

    @Test func aTableOfSymbolsForEachSection() async throws {
        let report = try await damaged { image in
            let size = UInt64(image.bytes.count)
            for section in image.sections {
                image.set(section + 4, to: 11, 4)
                image.set(section + 24, to: 0)
                image.set(section + 32, to: size)
            }
        }
        #expect(report.code == .pluginNotALibrary)
        #expect(report.message.contains("two tables"), "\(report.message)")
    }

    @Test(arguments: [
        (10, UInt64(0), "does not end"), (10, 3, "does not end"), (5, UInt64.max, "outside the file"),
        (5, 1 << 40, "outside the file"), (1, UInt64.max, "lies beyond"), (1, 1 << 40, "does not end"),
        (29, 1 << 40, "does not end"),
    ])
    func namesThatDoNotEnd(tag: Int, value: UInt64, reason: String) async throws {
        let report = try await damaged { image in
            for entry in image.entries where entry.tag == tag { image.set(entry.offset + 8, to: value) }
        }
        #expect([.pluginNotALibrary, .pluginTruncated].contains(report.code), "\(report.message)")
        #expect(report.message.contains(reason), "\(report.message)")
    }

    @Test func aThousandLibraries() async throws {
        let report = try await damaged { image in
            // All of the file is its dynamic section, and each entry a name.
            guard let segment = image.segments.first(where: { image.integer($0, 4) == 2 }) else { return }
            let start = UInt64(image.bytes.count)
            for _ in 0..<1001 { image.bytes.append(contentsOf: [1] + [UInt8](repeating: 0, count: 15)) }
            image.set(segment + 8, to: start)
            image.set(segment + 32, to: 1001 * 16)
        }
        #expect(report.message.contains("1001 libraries"), "\(report.message)")
    }

    @Test func noStackHeaderIsAnExecutableStack() async throws {
        let report = try await damaged { image in
            for segment in image.segments where image.integer(segment, 4) == 0x6474_e551 {
                image.set(segment, to: 0, 4)
            }
        }
        #expect(report.code == .pluginWritableCode)
    }

    @Test func noDynamicSection() async throws {
        let report = try await damaged { image in
            for segment in image.segments where image.integer(segment, 4) == 2 { image.set(segment, to: 0, 4) }
        }
        #expect(report.message.contains("no dynamic section"), "\(report.message)")
    }
}
