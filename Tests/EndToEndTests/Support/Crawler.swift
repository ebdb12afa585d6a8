import Foundation

/// A crawler process and what it says each second.
struct Crawler: Sendable {
    let command: Command
    let out: String
    let instance: String

    struct Line: Decodable, Sendable {
        struct Module: Decodable, Sendable {
            var revision: Int64
            var version: String?
            var generation: UInt64
        }

        var pages: Int
        var failed: Int
        var records: Int
        var parser: Module
        var rules: Module
    }

    struct Record: Decodable {
        var url: String
        var title: String
        var parserVersion: String

        enum CodingKeys: String, CodingKey {
            case url, title
            case parserVersion = "parser_version"
        }
    }

    /// Waits for the first line from now on that `isWanted` accepts.
    @discardableResult
    func line(_ isWanted: (Line) -> Bool = { _ in true }) async throws -> Line {
        try await command.line(from: command.lines.count) { text in
            guard let line = try? JSONDecoder().decode(Line.self, from: Data(text.utf8)), isWanted(line) else {
                return nil
            }
            return line
        }
    }

    /// The whole file of records; a line that is no record throws.
    func records() throws -> [Record] {
        try String(contentsOfFile: out, encoding: .utf8).split(separator: "\n").map {
            try JSONDecoder().decode(Record.self, from: Data($0.utf8))
        }
    }
}

extension World {
    /// Starts a crawler on `site`, by default with the first C parser and a pause of 5 ms after each page.
    func crawler(
        _ instance: String = "web-1", site: String, parser: String = "CParserV1", delivery: String = "stream",
        delay: Int = 5
    ) async throws -> Crawler {
        let rules = try write("max_depth: 8\ndelay_ms: \(delay)\n", to: "rules.yaml")
        let out = "\(folder)/\(instance).jsonl"
        let command = try await start(
            Repository.binaries + "/crawler",
            [
                "--site", site, "--rules", rules, "--parser", try plugin(parser), "--service", service,
                "--instance", instance, "--broker", broker.url, "--delivery", delivery,
                "--state-dir", "\(folder)/state-\(instance)", "--out", out, "--workers", "4",
            ])
        return Crawler(command: command, out: out, instance: instance)
    }
}
