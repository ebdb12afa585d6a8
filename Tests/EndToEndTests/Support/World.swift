import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

/// The repository's folders and what was built of it.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../..").standardizedFileURL.path
    static let scripts = root + "/scripts"
    static let example = root + "/Examples/crawler"
    /// Where the crawler, its plugins and reloadctl were built: `scripts/test` builds them.
    static let binaries =
        ProcessInfo.processInfo.environment["RELOAD_TEST_BINARIES"] ?? example + "/.build/release"

    /// Whether what is missing is a failure and no skip: in CI, and where scripts/test has built it.
    static var mustBeReady: Bool {
        ["CI", "RELOAD_TEST_BINARIES"].contains { ProcessInfo.processInfo.environment[$0] != nil }
    }

    /// Without them nothing can be tested end to end.
    static var isReady: Bool { mustBeReady || FileManager.default.isExecutableFile(atPath: binaries + "/crawler") }
}

/// A private RabbitMQ node in a folder of its own.
struct Broker: Sendable {
    let directory: String
    let url: String

    /// The broker that the suite's trait started.
    @TaskLocal static var shared: Broker?

    static func start(_ options: String...) async throws -> Broker { try await start(options) }

    static func start(_ options: [String]) async throws -> Broker {
        let base = ProcessInfo.processInfo.environment["RELOAD_TEST_DIR"] ?? "/tmp"
        let directory = "\(base)/broker-\(UUID().uuidString.prefix(8))"
        let outcome = try await run(["start"] + options, in: directory)
        guard let url = outcome.output.split(whereSeparator: \.isWhitespace).last, url.hasPrefix("amqp://") else {
            throw TestFailure("no broker: \(outcome.output)\(outcome.errors)")
        }
        return Broker(directory: directory, url: String(url))
    }

    /// Runs one of the script's commands.
    @discardableResult
    func run(_ arguments: String...) async throws -> Outcome { try await run(arguments) }

    @discardableResult
    func run(_ arguments: [String]) async throws -> Outcome {
        let outcome = try await Self.run(arguments, in: directory)
        guard outcome.status == 0 else { throw TestFailure("broker \(arguments): \(outcome.errors)") }
        return outcome
    }

    func stop() async throws {
        try await run("stop")
        try FileManager.default.removeItem(atPath: directory)
    }

    private static func run(_ arguments: String..., in directory: String) async throws -> Outcome {
        try await run(arguments, in: directory)
    }

    private static func run(_ arguments: [String], in directory: String) async throws -> Outcome {
        try await Command(Repository.scripts + "/broker", ["--dir", directory] + arguments).outcome()
    }
}

/// Lets a few suites run at a time: their tests drive several processes each, and two cores are enough for a few that wait.
struct InTurn: SuiteTrait, TestScoping {
    private static let places = Places(
        ProcessInfo.processInfo.environment["RELOAD_SUITES_AT_ONCE"].flatMap(Int.init) ?? 6)

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable @concurrent () async throws -> Void
    ) async throws {
        await Self.places.take()
        let result: Result<Void, any Error>
        do {
            result = .success(try await function())
        } catch {
            result = .failure(error)
        }
        Self.places.giveBack()
        try result.get()
    }

    /// Places that are taken in the order in which they were asked for.
    private final class Places: Sendable {
        private struct State {
            var free: Int
            var waiting: [CheckedContinuation<Void, Never>] = []
        }

        private let state: Mutex<State>

        init(_ count: Int) { state = Mutex(State(free: count)) }

        func take() async {
            await withCheckedContinuation { continuation in
                let isFree = state.withLock { state in
                    if state.free == 0 {
                        state.waiting.append(continuation)
                        return false
                    }
                    state.free -= 1
                    return true
                }
                if isFree { continuation.resume() }
            }
        }

        func giveBack() {
            let next = state.withLock { state in
                if state.waiting.isEmpty {
                    state.free += 1
                    return nil as CheckedContinuation<Void, Never>?
                }
                return state.waiting.removeFirst()
            }
            next?.resume()
        }
    }
}

extension Trait where Self == InTurn {
    static var inTurn: InTurn { InTurn() }
}

/// Gives a suite one broker, from its first test to its last, when it is its turn.
struct WithBroker: SuiteTrait, TestScoping {
    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable @concurrent () async throws -> Void
    ) async throws {
        try await InTurn().provideScope(for: test, testCase: testCase) { try await withBroker(function) }
    }

    private func withBroker(_ function: @Sendable @concurrent () async throws -> Void) async throws {
        let broker = try await Broker.start()
        let result: Result<Void, any Error>
        do {
            result = .success(try await Broker.$shared.withValue(broker) { try await function() })
        } catch {
            result = .failure(error)
        }
        try await broker.stop()
        try result.get()
    }
}

extension Trait where Self == WithBroker {
    static var withBroker: WithBroker { WithBroker() }
}

/// One test's folder, processes and service name on a broker.
final class World: Sendable {
    let broker: Broker
    let folder: String
    /// A name of its own, so that tests on one broker do not hear one another.
    let service: String

    /// Runs a test in a world of its own and ends every process it started.
    static func run(on broker: Broker? = Broker.shared, _ body: (World) async throws -> Void) async throws {
        guard let broker else { throw TestFailure("no broker") }
        let world = try World(broker)
        do {
            try await body(world)
        } catch {
            await world.end()
            throw error
        }
        await world.end()
    }

    private let commands = Commands()

    private actor Commands {
        var all: [Command] = []
        func add(_ command: Command) { all.append(command) }
    }

    private init(_ broker: Broker) throws {
        self.broker = broker
        service = "crawler-\(UUID().uuidString.prefix(8).lowercased())"
        folder = (ProcessInfo.processInfo.environment["RELOAD_TEST_DIR"] ?? "/tmp") + "/\(service)"
        try FileManager.default.createDirectory(atPath: folder + "/artifacts", withIntermediateDirectories: true)
    }

    private func end() async {
        for command in await commands.all { await command.stop() }
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// Starts a process that ends with the test.
    func start(_ path: String, _ arguments: [String], environment: [String: String] = [:]) async throws -> Command {
        let command = try Command(path, arguments, environment: environment)
        await commands.add(command)
        return command
    }

    /// A file under the folder the crawlers take artifacts from.
    @discardableResult
    func write(_ text: String, to name: String) throws -> String {
        let path = "\(folder)/artifacts/\(name)"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    /// Copies a built plugin into the folder the crawlers take artifacts from.
    @discardableResult
    func plugin(_ product: String) throws -> String {
        let path = "\(folder)/artifacts/lib\(product).so"
        if !FileManager.default.fileExists(atPath: path) {
            try FileManager.default.copyItem(atPath: "\(Repository.binaries)/lib\(product).so", toPath: path)
        }
        return path
    }

    /// The sample site; its address.
    func site() async throws -> String {
        let server = try await start(
            "/usr/bin/env", ["python3", Repository.example + "/site/serve.py", "--host", "127.0.0.1", "--port", "0"])
        return try await server.line { JSON($0)?["url"]?.text }
    }

    /// Runs reloadctl to its end.
    func reloadctl(_ arguments: String...) async throws -> Outcome {
        try await Command(Repository.binaries + "/reloadctl", arguments, environment: ["AMQP_URL": broker.url])
            .outcome()
    }

    /// Waits until so many instances are there for `reloadctl`: whose answers a request awaits.
    func areThere(_ count: Int) async throws {
        while try await reloadctl("status", "--json", "--destination", "\(service):*").objects.count != count {}
    }

    /// Publishes for this world's service and waits for all.
    func publish(_ module: String, _ arguments: String...) async throws -> Outcome {
        try await Command(
            Repository.binaries + "/reloadctl",
            ["publish", module, "--destination", "\(service):*", "--json"] + arguments,
            environment: ["AMQP_URL": broker.url]
        ).outcome()
    }
}
