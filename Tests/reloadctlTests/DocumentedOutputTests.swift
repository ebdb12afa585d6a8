internal import ArgumentParser
internal import Foundation
internal import ReloadProtocol
internal import Testing

@testable internal import ReloadFleet
@testable internal import reloadctl

/// What the pages of the repository say of the command line.
struct DocumentedOutputTests {
    private func page(_ path: String) throws -> String {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
        return try String(contentsOf: root.appendingPathComponent(path).standardizedFileURL, encoding: .utf8)
    }

    /// The block at the top of README.md is what `publish` prints for these answers.
    @Test func theReadmeShowsWhatPublishPrints() throws {
        let readme = try page("README.md")
        let block = try #require(readme.firstMatch(of: /```console\n\$ reloadctl (.*)\n((?:.*\n)*?)```/))
        let command = try #require(
            try Reloadctl.parseAsRoot(block.1.split(separator: " ").map(String.init)) as? Publish)
        let lines = block.2.split(separator: "\n").map(String.init)
        try #require(lines.count > 3)
        let first = try #require(lines[0].wholeMatch(of: /apply (\S+) revision (\d+), request ([0-9a-f-]{36})/))
        #expect(command.module == first.1)

        let instances = try lines.dropFirst().dropLast().map { line in
            try #require(line.wholeMatch(of: #/  (\w+) +crawler:(\S+)(?:  (\S+): (.*))?/#), "\(line)")
        }
        let names = instances.map { Instance(service: "crawler", name: String($0.2)) }
        var answers = Answers(request: "r", goal: .all(Set(names)))
        for line in instances {
            let state = try #require(ReportState(rawValue: String(line.1)))
            let code = line.3.map { ReloadCode(rawValue: String($0)) } ?? .ok
            _ = answers.fold(
                report(String(line.2), state, request: "r", code: code, message: line.4.map(String.init) ?? ""))
            #expect(ReloadCode.all.contains(code))
        }
        #expect(answers.text == Array(lines.dropFirst()))
    }

    @Test func theVersionIsTheOneOfTheChangelog() throws {
        #expect(Reloadctl.configuration.version == Version.current)
        let changelog = try page("CHANGELOG.md")
        let released = changelog.firstMatch(of: /\n## \[(\d+\.\d+\.\d+)\]/).map { String($0.1) }
        let planned = changelog.firstMatch(of: /the first release will be (\d+\.\d+\.\d+),/).map { String($0.1) }
        #expect(released ?? planned == Version.current)
        for path in ["README.md", "docs/embedding.md"] {
            for match in try page(path).matches(of: /from: "(\d+\.\d+\.\d+)"/) { #expect(match.1 == Version.current) }
        }
    }
}
