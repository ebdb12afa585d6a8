import Foundation
import Synchronization
import Testing

/// One instance of the service `test-agent`: a process that can die and come back.
final class TestAgent: Sendable {
    /// What the service has, and how it is started. The rest comes from the test's world.
    struct Settings: Sendable {
        var configs = ["rules"]
        /// Names of plugins, and the products they come up with.
        var plugins: [String: String] = [:]
        var delivery = "stream"
        var heartbeat = 10
        var reportInterval = 7
        /// Seconds that a plugin may take in its trial.
        var trialTimeout = 10
        /// nil: the world's broker.
        var broker: String?
        /// nil: a folder of its own.
        var stateDirectory: String?
        var environment: [String: String] = [:]
        var logLevel = "notice"
        /// Stack of the main thread and of others that ask for none of their own; nil: as the test's.
        var stackKilobytes: Int?
        /// nil: it sees the files that the test sees.
        var mounts: Mounts?
    }

    /// A module in a line of the service.
    struct Module: Decodable, Sendable, Equatable {
        var revision: Int64
        var digest: String?
        var generation: UInt64
    }

    /// A line of the service.
    struct Event: Decodable, Sendable {
        var event: String
        var modules: [String: Module]?
        var module: String?
        var revision: Int64?
        var generation: UInt64?
        var residentKilobytes: Int?
        /// Resident when the allocator has given back what it kept for later.
        var trimmedKilobytes: Int?
        var allocatedKilobytes: Int?
        var descriptors: Int?
        var level: String?
        var message: String?
        var point: String?

        enum CodingKeys: String, CodingKey {
            case event, modules, module, revision, generation, descriptors, level, message, point
            case residentKilobytes = "rss_kb"
            case trimmedKilobytes = "trimmed_kb"
            case allocatedKilobytes = "allocated_kb"
        }
    }

    let instance: String
    let stateDirectory: String
    private let world: World
    private let settings: Settings
    private let process = Mutex<Command?>(nil)

    /// `test-agent`, which is built beside the test bundle.
    static let path: String = {
        let bundle = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return URL(fileURLWithPath: bundle).deletingLastPathComponent().appendingPathComponent("test-agent").path
    }()

    init(_ world: World, _ instance: String, _ settings: Settings) {
        self.world = world
        self.instance = instance
        self.settings = settings
        stateDirectory = settings.stateDirectory ?? "\(world.folder)/state-\(instance)"
    }

    // MARK: Life

    /// Starts the service and waits until its modules are there and its threads run; returns what it came up with.
    @discardableResult
    func start(_ environment: [String: String] = [:]) async throws -> [String: Module] {
        try await launch(environment)
        return try await event { $0.event == "started" ? $0.modules : nil }
    }

    /// Starts the service.
    @discardableResult
    func launch(_ environment: [String: String] = [:]) async throws -> Command {
        var arguments = [
            "--service", world.service, "--instance", instance, "--broker", settings.broker ?? world.broker.url,
            "--state-dir", stateDirectory, "--artifacts", world.folder + "/artifacts", "--delivery", settings.delivery,
            "--heartbeat", "\(settings.heartbeat)", "--report-interval", "\(settings.reportInterval)",
            "--vet-timeout", "\(settings.trialTimeout)",
            "--log-level", settings.logLevel,
        ]
        for name in settings.configs {
            let file = "\(world.folder)/artifacts/\(name).yaml"
            // Another instance may be reading it.
            if !FileManager.default.fileExists(atPath: file) { try world.write("depth: 0\n", to: name + ".yaml") }
            arguments += ["--config", "\(name)=\(file)"]
        }
        for (name, product) in settings.plugins { arguments += ["--plugin", "\(name)=\(try world.plugin(product))"] }
        var program = Self.path
        if let size = settings.stackKilobytes {
            arguments = ["-c", "ulimit -S -s \(size); exec \"$0\" \"$@\"", program] + arguments
            program = "/bin/sh"
        }
        if let mounts = settings.mounts {
            arguments = ["--target", "\(mounts.process)", "--mount", program] + arguments
            program = "/usr/bin/nsenter"
        }
        let command = try await world.start(
            program, arguments, environment: settings.environment.merging(environment) { $1 })
        process.withLock { $0 = command }
        return command
    }

    /// Ends it without a word, as a crash would.
    func kill() async throws {
        let command = try command
        command.signal(SIGKILL)
        _ = await command.outcome()
    }

    /// Ends it in order.
    func stop() async throws {
        let command = try command
        await command.stop()
        #expect(await command.outcome().status == 0, "\(instance) stopped with: \(command.errors)")
    }

    func pause() throws { try command.signal(SIGSTOP) }
    func goOn() throws { try command.signal(SIGCONT) }

    var command: Command {
        get throws {
            guard let command = process.withLock({ $0 }) else { throw TestFailure("\(instance) was not started") }
            return command
        }
    }

    // MARK: Looking

    /// The first line of the present process, from line number `start` on, that `pick` makes something of.
    func event<Value>(from start: Int = 0, _ pick: (Event) -> Value?) async throws -> Value {
        try await command.line(from: start) { line in
            (try? JSONDecoder().decode(Event.self, from: Data(line.utf8))).flatMap(pick)
        }
    }

    /// The lines so far.
    var events: [Event] {
        get throws {
            try command.lines.compactMap { try? JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
        }
    }

    /// Waits for so many lines of its log that hold `text`.
    func logs(_ text: String, times: Int = 1, from start: Int = 0) async throws {
        var left = times
        try await event(from: start) { event -> Void? in
            if event.event == "log", event.message?.contains(text) == true { left -= 1 }
            return left == 0 ? () : nil
        }
    }

    /// What it runs and uses now.
    func status() async throws -> Event {
        let command = try command
        let seen = command.lines.count
        command.signal(SIGUSR1)
        return try await event(from: seen) { $0.event == "status" ? $0 : nil }
    }

    /// Waits until it runs `revision` of a config.
    func change(of module: String = "rules", to revision: Int64) async throws {
        let seen = try command.lines.count
        guard try await status().modules?[module]?.revision != revision else { return }
        try await event(from: seen) {
            $0.event == "changed" && $0.module == module && $0.revision == revision ? () : nil
        }
    }
}

/// A mount namespace, which lasts as long as its process or an agent in it.
struct Mounts: Sendable {
    fileprivate let process: Int32

    /// A path of the namespace as everybody can reach it.
    func outside(_ path: String) -> String { "/proc/\(process)/root\(path)" }
}

extension World {
    /// Makes a mount namespace with these commands. Who may not gets an error that says so.
    func mounts(_ commands: String...) async throws -> Mounts {
        let script = (["set -e"] + commands + ["echo ready", "exec tail -f /dev/null"]).joined(separator: "\n")
        let command = try await start("/usr/bin/unshare", ["--mount", "/bin/sh", "-c", script])
        do {
            try await command.line { $0 == "ready" ? () : nil }
        } catch {
            throw TestFailure("no mount namespace, which takes root or CAP_SYS_ADMIN: \(error)")
        }
        return Mounts(process: command.processIdentifier)
    }

    /// An instance of this world's service; it is not started.
    func agent(_ instance: String, _ change: (inout TestAgent.Settings) -> Void = { _ in }) -> TestAgent {
        var settings = TestAgent.Settings()
        change(&settings)
        return TestAgent(self, instance, settings)
    }

    /// A library of the product's code with bytes of its own: what the dynamic linker does not look at differs.
    func plugin(_ product: String, variant: Int64) throws -> String {
        let name = "lib\(product)-\(variant).so"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: try plugin(product)))
        bytes += Data("variant \(variant)".utf8)
        try bytes.write(to: URL(fileURLWithPath: "\(folder)/artifacts/\(name)"))
        return name
    }
}
