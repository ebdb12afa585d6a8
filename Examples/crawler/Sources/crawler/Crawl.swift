import Dispatch
import Reloading
import Synchronization

/// The crawl of one site by some workers, each a thread with a connection of its own.
///
/// Rules and parser are asked for at every page, so a reload takes effect at the next one.
final class Crawl: Sendable {
    struct Counters {
        /// Pages fetched.
        var pages = 0
        /// Pages that could not be fetched, parsed or written.
        var failed = 0
        /// Records made, and written where there is a file for them.
        var records = 0
        /// What the newest failure was, until somebody has read it.
        var newestFailure: String?
    }

    /// A worker waits at least this long after a failure: a site that is down is not asked without a pause.
    private static let pauseAfterFailure = 0.25

    private let site: PageAddress
    private let rules: Config<CrawlRules>
    private let parser: PluginHandle
    private let file: RecordFile?
    private let stop: StopSignal
    private let frontier: Frontier
    private let counters = Mutex(Counters())

    init(
        site: PageAddress, rules: Config<CrawlRules>, parser: PluginHandle, file: RecordFile?, stop: StopSignal
    ) {
        self.site = site
        self.rules = rules
        self.parser = parser
        self.file = file
        self.stop = stop
        frontier = Frontier(site: site)
    }

    /// Starts the workers.
    func start(workers: Int) throws -> [WorkerThread] {
        try (1...workers).map { number in try WorkerThread(name: "crawler-\(number)") { self.work() } }
    }

    /// Lets every worker finish the page it has, and no other.
    func close() {
        frontier.close()
    }

    /// The counters now; the newest failure is given out once.
    func takeCounters() -> Counters {
        counters.withLock { counters in
            defer { counters.newestFailure = nil }
            return counters
        }
    }

    private func work() {
        let fetcher = PageFetcher(site: site)
        while let visit = frontier.take(maxDepth: rules.current.maxDepth) {
            var links: [PageAddress] = []
            var pause = Double(rules.current.delayMS) / 1000
            do {
                links = try self.visit(visit, fetcher)
            } catch {
                pause = max(pause, Self.pauseAfterFailure)
                counters.withLock {
                    $0.failed += 1
                    $0.newestFailure = "\(visit.address): \(error)"
                }
            }
            frontier.finish(visit, links: links)
            if pause > 0, stop.wait(until: .now() + pause) { return }
        }
    }

    /// Fetches, parses and records one page; returns its links.
    private func visit(_ visit: Frontier.Visit, _ fetcher: PageFetcher) throws -> [PageAddress] {
        guard let page = try fetcher.fetch(visit.address, userAgent: rules.current.userAgent) else {
            guard visit.depth > 0 else { throw CrawlFailure("the first page is no HTML page of this site") }
            return []
        }
        guard page.address == visit.address || frontier.claim(page.address) else { return [] }
        counters.withLock { $0.pages += 1 }
        let input = PageRecord.input(url: page.address.description, html: page.html)
        let output = try parser.call(input, operation: PageRecord.operation)
        let record = try PageRecord(output: output)
        try file?.append(output)
        counters.withLock { $0.records += 1 }
        return record.links.compactMap { PageAddress($0) }
    }
}
