internal import Foundation

/// What the rows measure with: the broker, the programs, a folder, and how much of everything.
final class Lab {
    let broker: String
    let rounds: Int
    let isBrief: Bool
    /// For the files of one row, made anew for each.
    private(set) var folder = ""
    private let root: String
    private let binaries: String
    private let peers: String
    private let bareCPath: String
    private let host: String
    private let port: Int
    private(set) var table = Table()
    private var revision = 0
    private var programs: [Program] = []
    private var exchanges: [String] = []
    private var queues: [String] = []

    init(broker: String, folder: String, peers: String, bareC: String, rounds: Int, isBrief: Bool) throws {
        guard let url = URL(string: broker), let host = url.host, let port = url.port else {
            throw Failure("a broker URL has a host and a port")
        }
        self.broker = broker
        self.host = host
        self.port = port
        self.rounds = rounds
        self.isBrief = isBrief
        self.peers = peers
        bareCPath = bareC
        root = folder
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        binaries = URL(fileURLWithPath: own).deletingLastPathComponent().path
    }

    /// Runs one row with a folder of its own; whatever it started ends, whatever it declared is deleted. A row that cannot be
    /// measured says so in the table, below the lines it came to.
    func run(_ row: any Row.Type) {
        note("-- \(row.name)")
        defer { cleanUp() }
        do {
            try run(row, in: "\(root)/\(row.name)")
        } catch {
            note("\(row.name): \(error)")
            table.add(failed: row.name, error)
        }
    }

    private func run(_ row: any Row.Type, in folder: String) throws {
        self.folder = folder
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try row.measure(self)
    }

    func add(_ lines: Line...) { table.add(lines) }

    private func cleanUp() {
        for program in programs { program.stop() }
        programs = []
        // Every agent binds the two streams to the exchanges it is given.
        if let link = try? link() {
            for queue in queues + ["reload.journal", "reload.reports"] { _ = try? link.deleteQueue(queue) }
            for exchange in exchanges { _ = try? link.deleteExchange(exchange) }
        }
        (queues, exchanges) = ([], [])
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// One number for the table and one for a run that only shows that all works.
    func count(_ full: Int, brief: Int) -> Int { isBrief ? brief : full }

    /// Sends so many messages, each when the one before has arrived and a little later; returns the nanoseconds of each.
    ///
    /// - Parameters:
    ///   - pause: how much later, in milliseconds.
    ///   - one: sends one; returns when it was sent and when it arrived.
    func paced(_ count: Int, pause: UInt32 = 2, _ one: () throws -> (sent: Int64, arrived: Int64)) throws -> [Double] {
        try (0..<count).map { _ in
            let times = try one()
            usleep(pause * 1000)
            return Double(times.arrived - times.sent)
        }
    }

    /// A revision that is newer than all before.
    func nextRevision() -> Int {
        revision += 1
        return revision
    }

    /// Says what is being done.
    func note(_ text: String) {
        FileHandle.standardError.write(Data("   \(text)\n".utf8))
    }

    // MARK: Broker

    func link() throws -> Link { try Link(host: host, port: port) }

    /// An exchange that lasts as long as the row.
    func exchange(_ name: String, type: String = "fanout") throws -> String {
        let name = "bench." + name
        guard !exchanges.contains(name) else { return name }
        try link().declareExchange(name, type: type)
        exchanges.append(name)
        return name
    }

    /// A queue that lasts as long as the row. It need not be there yet.
    func queue(_ name: String) -> String {
        queues.append(name)
        return name
    }

    // MARK: Programs

    /// Agents; what they hear, report to and keep is the row's own.
    func agent(
        _ name: String, instance: String = "bench", delivery: String = "ephemeral", configs: [String] = [],
        plugins: [String: String] = [:], _ more: [String] = []
    ) throws -> Program {
        var arguments = [
            "--broker", broker, "--service", name, "--instance", instance, "--delivery", delivery,
            "--control-exchange", try exchange(name),
            "--status-exchange", try exchange(name + ".status", type: "topic"),
            "--state-dir", "\(folder)/state-\(name)-\(instance)", "--artifacts", folder,
        ]
        for config in configs {
            let file = "\(folder)/\(config).yaml"
            try write(Request.rules(0), to: "\(config).yaml")
            arguments += ["--config", "\(config)=\(file)"]
        }
        for (plugin, file) in plugins { arguments += ["--plugin", "\(plugin)=\(file)"] }
        return try start("\(binaries)/bench-agent", arguments + more)
    }

    func bareC(_ command: String, _ arguments: [String]) throws -> Program {
        try start(bareCPath, [command, "--broker", "\(host):\(port)"] + arguments)
    }

    func python(_ file: String, _ arguments: [String]) throws -> Program {
        try start("python3", ["\(peers)/\(file)", "--broker", broker] + arguments)
    }

    func hotPath(_ arguments: [String]) throws -> Program {
        try start("\(binaries)/hot-path", arguments)
    }

    /// It ends with the row at the latest.
    private func start(_ path: String, _ arguments: [String]) throws -> Program {
        let program = try Program(path, arguments)
        programs.append(program)
        return program
    }

    // MARK: Files

    /// Puts a plugin into the row's folder, with `variant` behind its code so that its digest differs; returns its path.
    func plugin(_ product: String, variant: Int? = nil) throws -> String {
        var bytes = try Data(contentsOf: URL(fileURLWithPath: "\(binaries)/lib\(product).so"))
        if let variant { bytes += Data("variant \(variant)".utf8) }
        let path = "\(folder)/\(product)\(variant.map { "-\($0)" } ?? "").so"
        try bytes.write(to: URL(fileURLWithPath: path))
        return path
    }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
    }
}

/// Something a service pays for being reloadable, beside what it would pay without.
protocol Row: SendableMetatype {
    /// For `--only`.
    static var name: String { get }
    static func measure(_ lab: Lab) throws
}
