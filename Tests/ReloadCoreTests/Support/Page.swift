import Foundation
import Testing

/// A page of Markdown, by its path in the repository.
struct Page: Sendable, CustomTestStringConvertible {
    let path: String
    let lines: [Substring]

    var testDescription: String { path }
    var text: String { lines.joined(separator: "\n") }

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../..").standardizedFileURL

    init(_ path: String) throws {
        self.init(
            path, text: try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8))
    }

    init(_ path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    }

    /// Lines with the language of the block of code they are in; nil outside of one, and for the fences.
    private var marked: [(line: Substring, language: String?, isFence: Bool)] {
        var language: String?
        return lines.map { line in
            let start = line.drop { $0 == " " }
            guard start.hasPrefix("```") else { return (line, language, false) }
            language = language == nil ? String(start.dropFirst(3)) : nil
            return (line, nil, true)
        }
    }

    /// The blocks of code in a language.
    func blocks(_ language: String) -> [String] {
        marked.split { $0.language != language }
            .map { block in block.map { String($0.line) }.joined(separator: "\n") }
    }

    /// The lines that are no code.
    var prose: [Substring] { marked.filter { $0.language == nil && !$0.isFence }.map(\.line) }

    /// The rows of the tables under a heading whose first cell is code, up to the next heading.
    func rows(under heading: String) -> [Substring] {
        guard let start = prose.firstIndex(where: { $0 == heading }) else { return [] }
        return prose[(start + 1)...].prefix { !$0.hasPrefix("#") }.filter { $0.hasPrefix("| `") }
    }

    /// What stands between backticks in the first cell of each of these rows.
    func firstColumn(under heading: String) -> [String] {
        rows(under: heading).flatMap { row in
            row.dropFirst().prefix { $0 != "|" }.matches(of: /`([^`]+)`/).map { String($0.1) }
        }
    }

    /// The anchors of its headings, by GitHub's rule: small letters, no punctuation but `-` and `_`, a hyphen for each blank,
    /// and a number where one comes again.
    var anchors: Set<String> {
        var counts: [String: Int] = [:]
        return Set(
            prose.filter { $0.hasPrefix("#") }.map { heading in
                let text = heading.drop { $0 == "#" }.dropFirst()
                    .replacing(/\[([^\]]*)\]\([^)]*\)/) { $0.1 }.lowercased()
                let anchor = text.filter { $0.isLetter || $0.isNumber || "-_ ".contains($0) }
                    .replacing(" ", with: "-")
                let count = counts[anchor, default: 0]
                counts[anchor] = count + 1
                return count == 0 ? anchor : "\(anchor)-\(count)"
            })
    }

    /// Where its links lead, as they are written.
    var links: [String] {
        prose.flatMap { line in
            line.replacing(/`[^`]*`/, with: "code").matches(of: /\]\(([^)\s]+)\)/).map { String($0.1) }
        }
    }

    /// Why a link of this page leads nowhere; nil when it is good, or leads to another site.
    func problem(of link: String) -> String? {
        if link.contains("://") || link.hasPrefix("mailto:") { return nil }
        let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard !parts[0].isEmpty else { return anchors.contains(parts[1]) ? nil : "\(link): there is no such heading" }
        let folder = Self.root.appendingPathComponent(path).deletingLastPathComponent()
        let target = folder.appendingPathComponent(parts[0]).standardizedFileURL.path
        guard target.hasPrefix(Self.root.path + "/") else { return "\(link) leads out of the repository" }
        guard FileManager.default.fileExists(atPath: target) else { return "\(link): there is no such file" }
        guard parts.count == 2 else { return nil }
        let page = try? Page(String(target.dropFirst(Self.root.path.count + 1)))
        return page?.anchors.contains(parts[1]) == true ? nil : "\(link): there is no such heading"
    }
}
