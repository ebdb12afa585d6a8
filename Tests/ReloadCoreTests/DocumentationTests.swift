import Foundation
import ReloadCore
import ReloadProtocol
import Testing

@Suite(.timeLimit(.minutes(5))) struct DocumentationTests {
    @Test func docsListEveryCodeOnce() throws {
        let listed = try Page("docs/codes.md").text.matches(of: /\| `([a-z_.]+)` \|/).map { String($0.1) }
        #expect(listed == ReloadCode.all.map(\.rawValue))
    }

    @Test(arguments: [("README.md", "Embedding"), ("docs/embedding.md", "EmbeddingMore")])
    func theExampleIsTheOneThatIsCompiled(page: String, file: String) throws {
        let compiled = try String(
            contentsOf: Page.root.appendingPathComponent("Tests/EndToEndTests/\(file).swift"), encoding: .utf8)
        #expect(try Page(page).text.contains("```swift\n\(compiled)```"))
    }

    @Test func theReadmeIsRead() throws {
        #expect(try Page("README.md").lines.count <= 131)
    }

    // MARK: Links

    /// Every page that people are led to.
    private static let pages: [Page] = {
        let files = FileManager.default
        func pages(in folder: String) -> [String] {
            let names = try? files.contentsOfDirectory(atPath: Page.root.appendingPathComponent(folder).path)
            return (names ?? []).filter { $0.hasSuffix(".md") }.sorted().map { folder.isEmpty ? $0 : "\(folder)/\($0)" }
        }
        let folders = ["", "docs", "Benchmarks", "Benchmarks/peers", "Examples/crawler", "Fuzzing"]
        return folders.flatMap(pages).compactMap { try? Page($0) }
    }()

    @Test(arguments: pages) func linksLeadSomewhere(page: Page) {
        #expect(page.links.compactMap(page.problem) == [])
    }

    @Test func theReadmeLeadsToEveryPageOfTheDocs() throws {
        let readme = try Page("README.md")
        let reached = Set(readme.links.map { $0.prefix { $0 != "#" } }.map(String.init))
        let docs = Self.pages.map(\.path).filter { $0.hasPrefix("docs/") }
        #expect(docs.count > 9)
        #expect(docs.filter { !reached.contains($0) } == [])
    }

    @Test func aLinkThatLeadsNowhereIsSeen() {
        let page = Page(
            "docs/page.md",
            text: """
                # One `two`, [three](x.md): four-five_six!
                ## Again
                ## Again
                [good](codes.md), [good](../README.md), [good](#again-1), [good](https://example.org/no)
                [bad](none.md), [bad](codes.md#none), [bad](#again-2), [bad](../../etc/passwd), `[no](link)`
                ```
                [no](link)
                ```
                """)
        #expect(page.anchors == ["one-two-three-four-five_six", "again", "again-1"])
        #expect(
            page.links.filter { page.problem(of: $0) != nil } == [
                "x.md", "none.md", "codes.md#none", "#again-2", "../../etc/passwd",
            ])
    }

    // MARK: Metrics

    @Test func theMetricsAreThoseOfTheCode() throws {
        let listed = try Page("docs/metrics.md").text.matches(of: /\| `(reload_agent_[a-z_]+)` \|/).map { String($0.1) }
        var made: Set<String> = []
        for source in try Self.sources() {
            made.formUnion(source.matches(of: /"(reload_agent_[a-z_]+)"/).map { String($0.1) })
        }
        #expect(made.count > 9)
        #expect(Set(listed).count == listed.count)
        #expect(Set(listed) == made)
    }

    private static func sources() throws -> [String] {
        let folder = Page.root.appendingPathComponent("Sources")
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".swift") }
        return try names.map { try String(contentsOf: folder.appendingPathComponent($0), encoding: .utf8) }
    }
}
