import Foundation
import Logging
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// A library may change the directory of the whole process at any time. In a process of its own, whose directory nobody else needs.
@Suite(.timeLimit(.minutes(5))) struct WorkingDirectoryTests {
    private struct Rules: Decodable, Sendable { var depth: Int }

    @Test func relativePathsMeanWhatTheyMeantWhenTheAgentWasMade() async {
        await #expect(processExitsWith: .success) {
            let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
            let files = FileManager.default
            for name in ["home/roots", "elsewhere/roots"] {
                try files.createDirectory(
                    at: folder.appendingPathComponent(name), withIntermediateDirectories: true)
            }
            func write(_ text: String, to name: String) throws {
                try text.write(to: folder.appendingPathComponent(name), atomically: true, encoding: .utf8)
            }
            let key = try SigningKey()
            try write("keys: [{key: \(key.publicKey), modules: ['*'], kinds: [config]}]", to: "home/keys.yaml")
            for (name, depth) in [("home", 1), ("elsewhere", 9)] {
                try write("depth: \(depth)", to: "\(name)/rules.yaml")
                try write("depth: \(depth)0", to: "\(name)/roots/new.yaml")
            }
            #expect(files.changeCurrentDirectoryPath(folder.path + "/home"))

            let keys = try TrustedKeysFile(path: "keys.yaml", patience: .zero)
            func reloader(roots: [String]) throws -> Reloader {
                var settings = Reloader.Settings(service: "s", instance: "i")
                settings.artifactRoots = roots
                return Reloader(
                    settings: settings,
                    directory: try StateDirectory(
                        path: "state-\(roots.count)", artifactLimit: 1 << 20),
                    outlets: Reloader.Outlets(report: { _, done in done() }, deadLetter: { _, _, done in done() }),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            }
            let named = try reloader(roots: ["roots"])
            let byDefault = try reloader(roots: [])
            #expect(files.changeCurrentDirectoryPath(folder.path + "/elsewhere"))

            // Registered after that, and read again; the roots; the default roots, which are the folders of registered files.
            for reloader in [named, byDefault] {
                let rules: ConfigTarget<Rules> = try reloader.config("rules", file: "rules.yaml") { _ in }
                #expect(rules.slot.current.value.depth == 1)
                #expect(rules.registeredFile?.hasSuffix("/home/rules.yaml") == true)
            }
            #expect(named.roots.allSatisfy { $0.hasSuffix("/home/roots") } && named.roots.count == 1)
            #expect(byDefault.roots.allSatisfy { $0.hasSuffix("/home") } && byDefault.roots.count == 1)
            #expect(try ArtifactRoots(named.roots).open("new.yaml").path.hasSuffix("/home/roots/new.yaml"))
            #expect(try keys.current().keys.count == 1)
            for reloader in [named, byDefault] { reloader.close() }
            try files.removeItem(at: folder)
        }
    }
}
