internal import CBench
internal import Dispatch
internal import Glibc
internal import Logging
internal import Reloading
internal import Synchronization

/// Agents as a service has them, which say in lines when they serve something new:
///
///     ready NANOSECONDS                          all agents consume
///     config AGENT MODULE REVISION NANOSECONDS   the new value is current
///     plugin MODULE ANSWER NANOSECONDS           a call was answered differently than the one before
@main
enum BenchAgent {
    static func main() {
        do {
            try serve(try Arguments(CommandLine.arguments.dropFirst()))
        } catch let error as Arguments.Mistake {
            end(2, "usage: \(error.text)")
        } catch {
            end(1, "\(error)")
        }
    }

    private static func end(_ status: Int32, _ reason: String) -> Never {
        Line.write("bench-agent: \(reason)\n", to: 2)
        exit(status)
    }

    private static func serve(_ arguments: Arguments) throws {
        // Before the first thread, so that every thread blocks it and it waits for this one.
        var wanted = sigset_t()
        unsafe sigemptyset(&wanted)
        unsafe sigaddset(&wanted, SIGTERM)
        unsafe pthread_sigmask(SIG_BLOCK, &wanted, nil)

        let fleet = Fleet(count: arguments.count)
        var agents: [ReloadAgent] = []
        for index in 0..<arguments.count {
            fleet.waitForTurn()
            let agent = try ReloadAgent(
                arguments.settings(of: index), logger: Logger(label: "agent") { _ in ConnectLog(fleet: fleet) })
            try register(arguments, agent, index)
            try agent.start()
            agents.append(agent)
        }
        var signal: Int32 = 0
        unsafe sigwait(&wanted, &signal)
        for agent in agents { agent.stop() }
    }

    private static func register(_ arguments: Arguments, _ agent: ReloadAgent, _ index: Int) throws {
        for (name, file) in arguments.configs {
            let config = try agent.config(name, file: file, as: Rules.self)
            guard !arguments.isQuiet else { continue }
            config.onChange { _, new in
                let time = cbench_now()
                Line.write("config \(index) \(name) \(new.revision) \(time)\n")
            }
        }
        for (name, file) in arguments.plugins {
            let plugin = try agent.plugin(name, file: file)
            if name == arguments.watched { watch(plugin, name) }
        }
    }

    /// Calls it all the time.
    private static func watch(_ plugin: PluginHandle, _ name: String) {
        let queue = DispatchQueue(label: "watch")
        queue.async {
            cbench_sleep_exactly()
            var last: [UInt8] = []
            while true {
                let answer = (try? plugin.call([1])) ?? Array("failed".utf8)
                if answer != last {
                    let time = cbench_now()
                    Line.write("plugin \(name) \(String(decoding: answer, as: UTF8.self)) \(time)\n")
                    last = answer
                }
                usleep(20)
            }
        }
    }
}

/// What every config is decoded into: of the size of a real one.
struct Rules: Decodable, Sendable {
    var revision: Int64
    var depth: Int
    var agent: String
    var hosts: [String]
}

/// How far the agents of this process are.
final class Fleet: Sendable {
    /// Agents that connect at the same time; each has two connections.
    private let turns = DispatchSemaphore(value: 20)
    private let missing: Atomic<Int>

    init(count: Int) {
        missing = Atomic(count)
    }

    func waitForTurn() { turns.wait() }

    func consumes() {
        turns.signal()
        if missing.subtract(1, ordering: .relaxed).newValue == 0 { Line.write("ready \(cbench_now())\n") }
    }
}

/// A line of output, written at once.
enum Line {
    static func write(_ text: String, to descriptor: Int32 = 1) {
        var text = text
        text.withUTF8 { unsafe _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}

/// Hears in the log when the consumer has its connection, and passes on what goes wrong.
struct ConnectLog: LogHandler {
    let fleet: Fleet
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.notice

    init(fleet: Fleet) {
        self.fleet = fleet
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        if event.level >= .warning {
            Line.write("\(event.level): \(event.message) \(event.metadata ?? [:])\n", to: 2)
        } else if "\(event.message)" == "connected to the broker", unsafe cbench_thread_is("reload-consumer") {
            // The thread that publishes says the same.
            fleet.consumes()
        }
    }
}
