internal import ArgumentParser
internal import Foundation

/// Measures every row beside its peer and prints the table.
@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures the agent beside its peers. scripts/bench starts what it needs.")

    private static let rows: [any Row.Type] = [
        ConfigServing.self, PluginServing.self, ReportAtPublisher.self, OtherServices.self, ConfigRead.self,
        PluginCall.self, CallLatency.self, Memory.self, FanOut.self, CatchUp.self, Idle.self, Start.self,
    ]

    @Option(help: "URL of a broker that may be filled and emptied.")
    var broker: String

    @Option(help: "An empty folder for state and files.")
    var folder: String

    @Option(help: "The folder of the peers in Python.")
    var peers: String

    @Option(help: "The peer in C.")
    var bareC: String

    @Option(help: "How often each side is measured.")
    var rounds = 5

    @Flag(help: "Little of everything, once: shows that all rows work.")
    var brief = false

    @Option(help: "Rows, with commas: \(Self.rows.map { $0.name }.joined(separator: ", ")).")
    var only: String?

    func validate() throws {
        for name in names where !Self.rows.contains(where: { $0.name == name }) {
            throw ValidationError("no row \(name)")
        }
        guard rounds > 0 else { throw ValidationError("--rounds is at least 1") }
    }

    private var names: [String] {
        only?.split(separator: ",").map(String.init) ?? Self.rows.map { $0.name }
    }

    func run() throws {
        raiseDescriptorLimit()
        // Somebody's pipe ended: that is an error where it is written to.
        signal(SIGPIPE, SIG_IGN)
        let lab = try Lab(
            broker: broker, folder: folder, peers: peers, bareC: bareC, rounds: brief ? 1 : rounds, isBrief: brief)
        for row in Self.rows where names.contains(row.name) { lab.run(row) }
        print(lab.table.text)
        if !lab.table.isComplete { throw ExitCode(1) }
    }

    /// A thousand agents have two connections each.
    private func raiseDescriptorLimit() {
        var limit = rlimit()
        unsafe getrlimit(__rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue)), &limit)
        limit.rlim_cur = limit.rlim_max
        unsafe setrlimit(__rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue)), &limit)
    }
}
