internal import ArgumentParser
internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what every present instance runs.",
        discussion: """
            Read from the instances' last reports, unless --fresh asks them. With --json each instance is a line \
            {"service", "instance", "state", "at", "user", "modules"}, modules as in a report, user being the login \
            that the report came from.
            """)

    @Option(help: "Only this module.")
    var module: String?

    @Flag(help: "Ask the instances instead of reading their last reports.")
    var fresh = false

    @OptionGroup var destination: DestinationOption
    @OptionGroup var signing: KeyOption
    @OptionGroup var timeout: TimeoutOption
    @OptionGroup var broker: BrokerOptions

    func run() throws {
        guard fresh else {
            return try show(
                broker.ask(timeout) { (fleet) throws(ReloadError) in try fleet.view(matching: destination.parsed) })
        }
        let key = try signing.read()
        let now = Date()
        let request = Request(
            operation: .inventory, origin: Fleet.requestOrigin, issuedAt: now,
            expiresAt: now.addingTimeInterval(Double(timeout.timeout.duration.wholeMilliseconds) / 1000),
            destination: destination.parsed, modules: [])
        var asking = try Requesting(request, wait: .all, key: key, timeout: timeout, broker: broker)
        try asking.send(answersAsJSON: false)
        let run = asking.run
        try show(run.view)
        for instance in run.answers.silent {
            StandardError.line("reloadctl: no response from \(instance); its last report is shown")
        }
        for (instance, answer) in run.answers.given where !answer.state.isSuccess {
            StandardError.line("reloadctl: \(instance) refused to answer: \(Answers.reason(answer))")
        }
        try asking.finish(because: run.problem, endedBy: run.wasCancelled ? asking.watch.signal : nil).check()
    }

    private func show(_ view: FleetView) throws {
        let present = view.present(matching: destination.parsed).sorted { $0.key < $1.key }
        if present.isEmpty {
            StandardError.line("reloadctl: no instance present")
        } else if let module, present.allSatisfy({ $0.value.modules[module] == nil }) {
            return StandardError.line("reloadctl: no present instance has a module \(module)")
        }
        if broker.json {
            for (instance, entry) in present {
                let modules = entry.modules.values.filter { module == nil || $0.name == module }
                guard module == nil || !modules.isEmpty else { continue }
                StandardOutput.line(InstanceLine(instance, entry, modules))
            }
        } else if !present.isEmpty {
            let now = Date()
            var table = Table(header: StatusRow.header)
            for (instance, entry) in present {
                table.rows += StatusRow.rows(instance, entry, only: module, now: now)
            }
            StandardOutput.write(table.lines.map { $0 + "\n" }.joined())
        }
    }
}

/// One instance as `status --json` shows it.
private struct InstanceLine: Encodable {
    let service: String
    let instance: String
    let state: ReportState
    let at: String?
    let user: String?
    let modules: [ModuleReport]

    init(_ instance: Instance, _ entry: FleetView.Entry, _ modules: [ModuleReport]) {
        service = instance.service
        self.instance = instance.name
        state = entry.state
        at = entry.at.map(ReloadJSON.text)
        user = entry.user
        self.modules = modules.sorted { $0.name < $1.name }
    }
}

/// The rows of `status` for people.
enum StatusRow {
    static let header = [
        "INSTANCE", "MODULE", "STATE", "RUNNING", "DESIRED", "VERSION", "GEN", "DIGEST", "LINGERING", "AGE",
    ]

    /// A row for each module. `behind` marks one that does not run what was asked.
    static func rows(_ instance: Instance, _ entry: FleetView.Entry, only name: String?, now: Date) -> [[String]] {
        let milliseconds = entry.at.flatMap { Int64(exactly: (now.timeIntervalSince($0) * 1000).rounded()) }
        let age = milliseconds.map { Duration.milliseconds($0).age } ?? "?"
        let modules = entry.modules.values.filter { name == nil || $0.name == name }.sorted { $0.name < $1.name }
        guard !modules.isEmpty || name != nil else {
            return [["\(instance)", "-", "-", "-", "-", "-", "-", "-", "-", age]]
        }
        return modules.map { module in
            let running = module.running
            let desired = module.desired?.revision
            let isBehind = desired != nil && desired != running?.revision
            let digest = running?.digest.map { $0.replacing(Digest.prefix, with: "").prefix(12) }
            let calls = module.lingering.map(\.inFlight).reduce(0) { $0.addingReportingOverflow($1).partialValue }
            return [
                "\(instance)", module.name, isBehind ? "behind" : "current", running.map { "\($0.revision)" } ?? "-",
                desired.map { "\($0)" } ?? "-", running?.version ?? "-", running?.generation.map { "\($0)" } ?? "-",
                digest.map(String.init) ?? "-",
                module.lingering.isEmpty ? "-" : "\(module.lingering.count) (\(calls) calls)", age,
            ]
        }
    }
}
