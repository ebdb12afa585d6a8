import ArgumentParser
import Dispatch
import Glibc
import Reloading

@main
enum Main {
    static func main() {
        let command: CrawlCommand
        do {
            command = try CrawlCommand.parse()
        } catch {
            let message = CrawlCommand.fullMessage(for: error)
            guard CrawlCommand.exitCode(for: error) == .success else { end(2, message) }
            print(message)
            return
        }
        do {
            try command.run()
        } catch {
            end(1, "crawler: " + "\(error)".split(whereSeparator: \.isNewline).joined(separator: " "))
        }
    }

    private static func end(_ status: CInt, _ message: String) -> Never {
        StandardStream.error.write(message + "\n")
        exit(status)
    }
}

/// The command line.
struct CrawlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "crawler",
        abstract: "Crawls a web site with rules and a parser that can be replaced while it runs."
    )

    @Option(help: "The first page, an http URL; only its host is crawled.", transform: siteAddress)
    var site: PageAddress

    @Option(help: "The first version of the module crawler.rules (YAML).")
    var rules: String

    @Option(help: "The first version of the module crawler.parser (a shared library).")
    var parser: String

    @Option(help: "The service's name in reload messages.")
    var service = "crawler"

    @Option(help: "This instance's name in reload messages; host and process id if absent.")
    var instance: String?

    @Option(help: "The broker's URL.")
    var broker: String?

    @Option(help: "How reload messages come: stream, queue or ephemeral.")
    var delivery = Delivery.stream

    @Option(help: "Where the agent keeps its journal.")
    var stateDir: String?

    @Option(help: "The file that records are appended to, one JSON object a line.")
    var out: String?

    @Option(help: "How many pages are fetched at once.")
    var workers = 4

    @Option(help: "A file to write anew when pages were tried in the last second: its age is the crawler's health.")
    var health: String?

    @Option(help: "Stop after so many seconds; without it, on SIGINT or SIGTERM.")
    var duration: Double?

    enum Delivery: String, ExpressibleByArgument, CaseIterable {
        case stream
        case queue
        case ephemeral
    }

    func validate() throws {
        guard (1...256).contains(workers) else { throw ValidationError("--workers is 1 to 256") }
        guard duration.map({ $0 > 0 && $0.isFinite }) ?? true else {
            throw ValidationError("--duration is more than 0")
        }
    }

    func run() throws {
        // A reader of our output that went away must not end the crawl.
        _ = signal(SIGPIPE, SIG_IGN)
        let stop = StopSignal()
        let file = try out.map { path in
            try saying(path) { try RecordFile(path: path) }
        }

        var settings = ReloadAgent.Settings(service: service)
        settings.instance = instance
        if let broker { settings.broker = broker }
        settings.delivery =
            switch delivery {
            case .stream: .stream
            case .queue: .queue
            case .ephemeral: .ephemeral
            }
        settings.stateDirectory = stateDir
        let agent = try ReloadAgent(settings)
        let rules = try saying("crawler.rules") {
            try agent.config("crawler.rules", file: self.rules, as: CrawlRules.self) { try $0.validate() }
        }
        let parser = try saying("crawler.parser") { try agent.plugin("crawler.parser", file: self.parser) }
        try agent.start()

        let crawl = Crawl(site: site, rules: rules, parser: parser, file: file, stop: stop)
        let workers = try crawl.start(workers: workers)
        var progress = Progress(crawl: crawl, rules: rules, parser: parser, health: health)
        let end = duration.map { .now() + $0 } ?? DispatchTime.distantFuture
        var next = DispatchTime.now() + 1
        while !stop.wait(until: min(next, end)), next < end {
            progress.print()
            next = max(next + 1, .now())
        }
        stop.set()
        crawl.close()
        for worker in workers { worker.join() }
        let finished = ContinuousClock.now
        agent.stop()
        progress.print(at: finished)
    }
}

private func siteAddress(_ text: String) throws -> PageAddress {
    guard let address = PageAddress(text) else { throw ValidationError("'\(text)' is not an http URL") }
    return address
}

/// Puts what it is about before an error's text.
private func saying<Value>(_ subject: String, _ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch {
        throw CrawlFailure("\(subject): \(error)")
    }
}
