internal import ArgumentParser
internal import ReloadFleet
internal import ReloadProtocol

struct Watch: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows reports as they come, until Ctrl-C.",
        discussion: """
            With --json each line is a report as it was published, reload.status.v1, and "user", the login that it came from.
            """)

    @Option(help: "Only reports that name this module.")
    var module: String?

    @OptionGroup var destination: DestinationOption
    @OptionGroup var broker: BrokerOptions

    func run() throws {
        do {
            var follower = try ReportFollower(try broker.fleet(try SignalWatch(timeout: nil)))
            var recent = RecentReports()
            var isConnected = true
            while true {
                StandardOutput.checkReader()
                let report = try follower.next()
                if isConnected != (follower.problem == nil) {
                    isConnected.toggle()
                    let note = follower.problem.map { "\($0); connecting again" } ?? "connected again"
                    StandardError.line("reloadctl: \(note)")
                }
                guard let report, recent.isNew(report), isWanted(report) else { continue }
                StandardOutput.line(broker.json ? try ReportLine(report: report).jsonLine() : Self.text(report))
            }
        } catch let error as ReloadError where error.code == .brokerCancelled {
            // The way this command ends.
        }
    }

    private func isWanted(_ report: Report) -> Bool {
        destination.parsed?.matches(service: report.service, instance: report.instance) ?? true
            && (module == nil || report.modules.contains { $0.name == module })
    }

    static func text(_ report: Report) -> String {
        let modules = report.modules.map { module in
            module.name + (module.running.map { " \($0.revision)" } ?? "")
        }
        let others = report.superseded.map { "answers \($0.count) superseded requests too" } ?? ""
        let reason = [report.code == .ok ? "" : report.code.rawValue, report.message].filter { !$0.isEmpty }
        return [
            report.at, "\(report.service):\(report.instance)", report.state.rawValue,
            modules.joined(separator: ", "), others, reason.joined(separator: ": "),
        ].filter { !$0.isEmpty }.joined(separator: "  ").printable
    }
}

/// A report as `watch --json` shows it.
struct ReportLine: Encodable {
    let report: Report

    private enum CodingKeys: String, CodingKey {
        case user
    }

    func encode(to encoder: any Encoder) throws {
        try report.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(report.user, forKey: .user)
    }
}

/// Those that were shown last: after a lost connection some come again.
struct RecentReports {
    private static let capacity = 1000
    private var keys: Set<String> = []
    private var order: [String] = []
    private var oldest = 0

    mutating func isNew(_ report: Report) -> Bool {
        let key = "\(report.service):\(report.instance) \(report.sequence) \(report.at)"
        guard keys.insert(key).inserted else { return false }
        if order.count < Self.capacity {
            order.append(key)
        } else {
            keys.remove(order[oldest])
            order[oldest] = key
            oldest = (oldest + 1) % Self.capacity
        }
        return true
    }
}
