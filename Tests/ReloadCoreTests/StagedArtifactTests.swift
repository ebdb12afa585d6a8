import Foundation
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

@Suite(.timeLimit(.minutes(5))) struct StagedArtifactTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
    private let directory: StateDirectory

    init() throws {
        directory = try StateDirectory(path: folder.path, artifactLimit: 1 << 20)
    }

    @Test func aSmallOneIsNotReadBackFromItsCopy() throws {
        let bytes = Array("depth: 2".utf8)
        let artifact = try directory.stage(bytes: bytes, module: "rules")
        #expect(try Data(contentsOf: URL(fileURLWithPath: artifact.path)) == Data(bytes))
        try FileManager.default.removeItem(atPath: artifact.path)
        #expect(try artifact.bytes() == bytes)
        // Once is enough.
        #expect(throws: ReloadError.self) { try artifact.bytes() }
    }

    @Test(arguments: [1, StagedArtifact.heldBytes, StagedArtifact.heldBytes + 1, 300_000])
    func itsBytesAreThoseOfTheFile(count: Int) throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }
        let file = folder.appendingPathComponent("source")
        try Data(bytes).write(to: file)
        let artifact = try directory.stage(fileAt: file.path, module: "rules")
        for _ in 0..<2 { #expect(try artifact.bytes() == bytes) }
        #expect(artifact.digest == Digest.of(bytes))
        let again = try directory.stage(fileAt: file.path, module: "rules")
        try FileManager.default.removeItem(atPath: again.path)
        #expect((try? again.bytes() == bytes) == (count <= StagedArtifact.heldBytes ? true : nil))
    }

    @Test(arguments: [
        ("crawler.rules-9", "crawler.rules_9"), ("a/../b\u{0}", "a_.._b_"), ("küche.µ", "k_che._"),
        (String(repeating: "x", count: 100), String(repeating: "x", count: 80)),
    ])
    func namesOfFilesAreHarmless(module: String, name: String) {
        #expect(module.fileName == name)
    }
}
