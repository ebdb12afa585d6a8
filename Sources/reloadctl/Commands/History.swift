internal import ArgumentParser
internal import Foundation
internal import ReloadAMQP
internal import ReloadCore

struct History: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows who published what, and how each instance answered.",
        discussion: """
            With --json each request is a line {"request", "at", "origin", "operation", "destination", "modules", \
            "answers"}, answers as publish shows them, with "user", the login each came from; "problem" says why nobody \
            can read it.
            """)

    @Option(help: "Only requests that name this module.")
    var module: String?

    @Option(help: "How far back, such as 30m, 1d; the journal keeps 30 days, the reports 7.")
    var since = DurationArgument(.seconds(86_400))

    @OptionGroup var timeout: TimeoutOption
    @OptionGroup var broker: BrokerOptions

    func validate() throws {
        guard since.duration > .zero else { throw ValidationError("--since must be longer than nothing") }
    }

    func run() throws {
        let link = try Link(broker, timeout: timeout.timeout.duration)
        var log = RequestLog()
        do {
            try readJournal(link, into: &log)
            try readReports(link, into: &log)
        } catch let error as Interrupted {
            throw ExitStatus.signal(error.signal)
        }
        for entry in log.entries where module == nil || entry.request?.modules.contains(where: isNamed) == true {
            if broker.json {
                StandardOutput.line(HistoryLine(entry))
            } else {
                StandardOutput.write(entry.text.map { $0 + "\n" }.joined())
            }
        }
    }

    private func isNamed(_ wanted: Request.Module) -> Bool { wanted.name == module }

    private func readJournal(_ link: Link, into log: inout RequestLog) throws {
        var reader = try StreamReader(link, link.topology.journal, from: .age(since.duration))
        try reader.readToPresent { log.add($0.envelope, isOversized: $0.isOversized) }
        reader.close()
    }

    private func readReports(_ link: Link, into log: inout RequestLog) throws {
        var reader = try StreamReader(link, link.topology.reports, from: .age(since.duration))
        try reader.readToPresent { delivery in
            // Of a day's reports nearly all only say that an instance is there; the routing key tells them without
            // decoding.
            guard !delivery.routingKey.hasSuffix(".online"), !delivery.routingKey.hasSuffix(".offline"),
                let report = delivery.report()
            else { return }
            log.add(report)
        }
        reader.close()
    }
}
