import FoundationEssentials
import Reloading

/// What is printed every second: one JSON object a line.
struct ProgressLine: Encodable {
    let pages: Int
    let failed: Int
    let records: Int
    let pagesPerSecond: Double
    let parser: InUse
    let rules: InUse

    /// Which version of a module is in use.
    struct InUse: Encodable {
        let status: ModuleStatus

        private enum CodingKeys: CodingKey {
            case revision
            case version
            case generation
        }

        func encode(to encoder: any Encoder) throws {
            var keys = encoder.container(keyedBy: CodingKeys.self)
            try keys.encode(status.revision, forKey: .revision)
            try keys.encode(status.version, forKey: .version)  // null when it has none, so that the key is always there
            try keys.encode(status.generation, forKey: .generation)
        }
    }

    private enum CodingKeys: String, CodingKey {
        case pages
        case failed
        case records
        case pagesPerSecond = "pages_per_second"
        case parser
        case rules
    }
}

/// Tells how the crawl goes: a line on standard output, and the newest failure, if there is one, on standard error. While
/// pages are tried, the line is also what the file `health` holds.
struct Progress {
    let crawl: Crawl
    let rules: Config<CrawlRules>
    let parser: PluginHandle
    let health: String?
    private var last = (pages: 0, failed: 0, time: ContinuousClock.now)

    init(crawl: Crawl, rules: Config<CrawlRules>, parser: PluginHandle, health: String?) {
        self.crawl = crawl
        self.rules = rules
        self.parser = parser
        self.health = health
    }

    mutating func print(at now: ContinuousClock.Instant = .now) {
        let counters = crawl.takeCounters()
        let rate = Double(counters.pages - last.pages) / (last.time.duration(to: now) / .seconds(1))
        let hasTried = counters.pages > last.pages || counters.failed > last.failed
        last = (counters.pages, counters.failed, now)
        let line = ProgressLine(
            pages: counters.pages,
            failed: counters.failed,
            records: counters.records,
            pagesPerSecond: (rate * 10).rounded() / 10,
            parser: ProgressLine.InUse(status: parser.status),
            rules: ProgressLine.InUse(status: rules.status)
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let text = String(decoding: (try? encoder.encode(line)) ?? Data(), as: UTF8.self) + "\n"
        StandardStream.output.write(text)
        if hasTried, let health { try? Data(text.utf8).write(to: URL(filePath: health)) }
        if let failure = counters.newestFailure { StandardStream.error.write("crawler: \(failure)\n") }
    }
}
