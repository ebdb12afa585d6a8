internal import ArgumentParser
internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

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
        guard since.duration > .zero else { throw ValidationError("--since must be positive") }
    }

    func run() throws {
        let log = try broker.ask(timeout) { (fleet) throws(ReloadError) in try fleet.history(since: since.duration) }
        for entry in log.entries where module == nil || entry.request?.modules.contains(where: isNamed) == true {
            if broker.json {
                StandardOutput.line(HistoryLine(entry))
            } else {
                StandardOutput.write(entry.text.map { $0 + "\n" }.joined())
            }
        }
    }

    private func isNamed(_ wanted: Request.Module) -> Bool { wanted.name == module }
}
