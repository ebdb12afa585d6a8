internal import FoundationEssentials
internal import Glibc
internal import Logging
internal import Reloading

/// What a service's own threads pay: a read of a config, a call into a plugin.
///
///     hot-path config|plugin --folder DIR --plugin FILE --rounds N --operations N
///     hot-path latency --folder DIR --plugin FILE --rounds N --seconds S --broker URL --control-exchange X
///         --status-exchange X --artifacts DIR
///
/// One JSON object a line; `{"begin":"end"}` is the last. `latency` says `{"begin":"quiet"}`, `{"begin":"validates"}` or
/// `{"begin":"swaps"}` before each measurement.
@main
enum HotPath {
    struct Mistake: Error {}

    static func main() {
        do {
            try run(CommandLine.arguments.dropFirst())
        } catch {
            Line.write("hot-path: \(error)", to: 2)
            exit(1)
        }
    }

    private static func run(_ words: ArraySlice<String>) throws {
        var words = words
        guard let mode = words.popFirst() else { throw Mistake() }
        var options: [String: String] = [:]
        while let name = words.popFirst() { options[name] = words.popFirst() }
        func option(_ name: String) throws -> String {
            guard let value = options[name] else { throw Mistake() }
            return value
        }
        let folder = try option("--folder")
        let plugin = try option("--plugin")
        guard let rounds = Int(try option("--rounds")) else { throw Mistake() }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        var settings = ReloadAgent.Settings(service: "hot-path")
        settings.instance = "hot-path"
        settings.stateDirectory = folder + "/state"

        switch mode {
        case "config":
            guard let operations = Int(try option("--operations")) else { throw Mistake() }
            try configReads(make(settings), folder, rounds, operations)
        case "plugin":
            guard let operations = Int(try option("--operations")) else { throw Mistake() }
            try pluginCalls(make(settings), plugin, rounds, operations)
        case "latency":
            guard let seconds = Double(try option("--seconds")) else { throw Mistake() }
            settings.broker = try option("--broker")
            settings.controlExchange = try option("--control-exchange")
            settings.statusExchange = try option("--status-exchange")
            settings.artifactRoots = [try option("--artifacts")]
            settings.delivery = .ephemeral
            settings.trialTimeout = nil
            let log = ConsumerLog()
            let agent = try ReloadAgent(settings, logger: Logger(label: "agent") { _ in log })
            try latency(agent, consumes: log.consumes, plugin, rounds, seconds)
        default: throw Mistake()
        }
    }

    private static func make(_ settings: ReloadAgent.Settings) throws -> ReloadAgent {
        try ReloadAgent(settings, logger: Logger(label: "agent") { _ in SwiftLogNoOpLogHandler() })
    }
}

/// One line of output.
struct Line: Encodable {
    var begin: String?
    var variant: String?
    var threads: Int?
    /// Nanoseconds for each operation.
    var ns: Double?
    var p50: Double?
    var p99: Double?
    var p9999: Double?
    var max: Double?
    var count: Int?

    func say() {
        guard let line = try? JSONEncoder().encode(self) else { return }
        Self.write(String(decoding: line, as: UTF8.self))
    }

    /// Writes it at once.
    static func write(_ text: String, to descriptor: CInt = 1) {
        var text = text + "\n"
        text.withUTF8 { unsafe _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}
