import Foundation
import ReloadCore
import Testing

@Suite(.timeLimit(.minutes(5))) struct DocumentationTests {
    private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../..").standardizedFileURL

    @Test func docsListEveryCodeOnce() throws {
        let text = try String(contentsOf: root.appendingPathComponent("docs/codes.md"), encoding: .utf8)
        let listed = text.matches(of: /\| `([a-z_.]+)` \|/).map { String($0.1) }
        #expect(listed == ReloadCode.all.map(\.rawValue))
    }

    @Test(arguments: ["Embedding", "EmbeddingMore"]) func theReadmesExampleIsTheOneThatIsCompiled(file: String) throws {
        let readme = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
        let compiled = try String(
            contentsOf: root.appendingPathComponent("Tests/EndToEndTests/\(file).swift"), encoding: .utf8)
        #expect(readme.contains("```swift\n\(compiled)```"))
    }
}
