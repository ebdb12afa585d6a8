import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

extension EndToEnd {
    /// Whatever a publisher puts into a message costs an agent at most one refusal.
    @Suite(.serialized, .withBroker) struct PoisonTests {
        /// An agent that gets tables in tables through a queue, where a stream would take them out, on a thread whose stack
        /// would be a megabyte; and one that reads the stream.
        @Test(arguments: ["stream", "queue"])
        func hostileMessagesLeaveItAliveAndItsMemoryFlat(delivery: String) async throws {
            try await HostileRun(count: min(HostileRun.count, 20_000), delivery: delivery).run()
        }

        /// The same to one that takes only what is signed, where nothing of a message counts before that is known.
        @Test(arguments: ["stream", "queue"])
        func hostileMessagesThatNobodySigned(delivery: String) async throws {
            try await HostileRun(count: min(HostileRun.count, 8_000), delivery: delivery, isSigned: true).run()
        }

        /// What fills a frame: after the offset that a stream adds, it is larger than any that both sides agreed on.
        @Test func aHeaderThatFillsItsFrameIsNoEndOfTheConnection() async throws {
            try await World.run { world in
                let agent = world.agent("one") { $0.configs = ["rules", "victim"] }
                let answers = try await HostileAnswers.start(world, count: 1000)
                try await agent.start()
                try answers.follow(agent)
                try await answers.awaitOnline()
                let publisher = try HostilePublisher(world, seed: 1)
                try await publisher.publish(0, quarter: 1) { $0.fillingFrames() }
                #expect(try await answers.state(of: "good-1") == .applied)
                // The journal is that of the whole suite: a reply queue in it makes the broker close the publisher's connection.
                let lost = try agent.events.compactMap(\.message).filter {
                    $0.hasPrefix("the broker is not available") && !$0.contains("INTERNAL_ERROR")
                }
                #expect(lost == [])
            }
        }

        /// What librabbitmq cannot decode, as from 0.14 on a table in a hundred others: here any value, garbled on the way. It
        /// ends the connection, and would come again for ever.
        @Test(arguments: ["stream", "queue"]) func aHeaderThatCannotBeDecoded(delivery: String) async throws {
            try await World.run { world in
                try await world.broker.deleteJournal()
                let proxy = try Proxy(to: world.broker)
                defer { proxy.stop() }
                proxy.garble("x-garbled")
                let url = try proxy.url(of: world.broker)
                let agent = world.agent("one") {
                    $0.delivery = delivery
                    $0.broker = url
                }
                let wire = Wire(broker: world.broker)
                func good(_ revision: Int64) -> NumberedRequest {
                    NumberedRequest(id: UUID().uuidString, service: world.service, config: "rules", revision: revision)
                }
                func publishGarbled() async throws {
                    var message = good(1000).envelope
                    message.headers["x-garbled"] = .string("x")
                    try await wire.send(message, exchange: "reload.control", routingKey: "")
                }
                try await agent.start()
                try await agent.logs("connected to the broker", times: 2)
                try await wire.publish([good(1)])
                try await agent.change(to: 1)
                for revision in Int64(2)...4 {
                    for _ in 0..<revision { try await publishGarbled() }
                    try await wire.publish([good(revision)])
                    try await agent.change(to: revision)
                }
                try await agent.logs("broker.unreadable_message")
                // Now the last message is one, where the end of the backlog is looked for.
                for revision in Int64(5)...6 {
                    try await agent.kill()
                    try await publishGarbled()
                    try await agent.start()
                    try await agent.logs("broker.unreadable_message")
                    try await wire.publish([good(revision)])
                    try await agent.change(to: revision)
                }
                try await agent.stop()
            }
        }

        /// What an operator's terminal gets of hostile requests and reports is text.
        @Test func nothingThatMovesTheTerminalReachesIt() async throws {
            try await World.run { world in
                let agent = world.agent("one") { $0.configs = ["rules", "victim"] }
                let answers = try await HostileAnswers.start(world, count: 2000)
                try await agent.start()
                try answers.follow(agent)
                try await answers.awaitOnline()
                try await HostilePublisher(world, seed: 2).publish(500, quarter: 1)
                #expect(try await answers.state(of: "good-1") == .applied)
                try await onThread { [url = world.broker.url] in
                    let reports = try RawPublisher(url, exchange: "reload.status")
                    for number in 0..<20 { try reports.publish(Self.hostileReport(number)) }
                    try reports.awaitConfirms()
                }
                for arguments in [["status"], ["status", "--json"], ["history"], ["history", "--json"]] {
                    let outcome = try await Command(
                        Repository.binaries + "/reloadctl", arguments, environment: ["AMQP_URL": world.broker.url]
                    ).outcome()
                    #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
                    let text = outcome.output + outcome.errors
                    #expect(text.utf8.count > 100)
                    let commands = text.unicodeScalars.filter { scalar in
                        scalar != "\n"
                            && (scalar.properties.generalCategory == .control || scalar.properties.isBidiControl)
                    }
                    #expect(commands.isEmpty, "\(arguments): \(Set(commands.map(\.value)))")
                    #expect(text.utf8.split(separator: UInt8(ascii: "\n")).allSatisfy { $0.count < 1 << 20 })
                }
            }
        }

        private static func hostileReport(_ number: Int) -> RawMessage {
            let nasty =
                #"\u001b]0;pwned\u0007\u001b[2J\u009b31m\u202egnihtemos\n\r"#
                + String(repeating: "e\u{301}", count: 1000)
            let most = #"9223372036854775807"#
            let at = number % 2 == 0 ? "2026-11-21T03:00:00Z" : "999999999-01-01T00:00:00Z"
            let lingering = #"{"generation":1,"in_flight":\#(most),"age_ms":\#(most)}"#
            let body = """
                {"protocol":"reload.status.v1","request":"hostile-1","service":"\(nasty)","instance":"\(number)\(nasty)",
                "sequence":1,"state":"\(number % 3 == 0 ? "refused" : "online")","code":"\(nasty)","message":"\(nasty)","at":"\(at)",
                "modules":[{"name":"\(nasty)","state":"online","code":"ok","message":"\(nasty)","timings_ms":{},
                "desired":{"revision":\(most),"version":"\(nasty)"},"running":{"revision":1,"digest":"\(nasty)","generation":1},
                "lingering":[\(lingering),\(lingering)]}]}
                """
            return RawMessage(
                body: number == 19 ? Array(repeating: UInt8(ascii: "["), count: 1 << 20) : Array(body.utf8))
        }
    }
}

/// As many as `$RELOAD_HOSTILE_MESSAGES` says, for longer than tests may take otherwise.
@Suite(
    .serialized, .withBroker, .enabled(if: HostileRun.count > 20_000, "$RELOAD_HOSTILE_MESSAGES asks for it"),
    .timeLimit(.minutes(max(1, HostileRun.count / 10_000))))
struct LongPoisonTests {
    @Test(arguments: ["stream", "queue"])
    func hostileMessagesLeaveItAliveAndItsMemoryFlat(delivery: String) async throws {
        try await HostileRun(count: HostileRun.count, delivery: delivery).run()
    }
}

/// A row of hostile messages to one agent, with good ones between them.
struct HostileRun {
    let count: Int
    let delivery: String
    /// The good ones are signed, and the agent asks for that.
    var isSigned = false

    /// How many are asked for.
    static let count = Int(ProcessInfo.processInfo.environment["RELOAD_HOSTILE_MESSAGES"] ?? "") ?? 20_000

    /// To see a run again.
    private static let seed = ProcessInfo.processInfo.environment["RELOAD_HOSTILE_SEED"].flatMap { UInt64($0) }

    /// What is in use may grow by so much in the last quarter, in KiB. What leaks `growthLimit * 1024 / (count / 4)` bytes for each
    /// message is above it: 4.2 of a million, 210 of 20,000.
    private let growthLimit = 1024

    func run() async throws {
        try await World.run { world in
            // Ids that nobody signed are not remembered: those of the run before would be answered again.
            try await world.broker.deleteJournal()
            let secret = world.folder + "/key.pem"
            let keys = try await world.reloadctl("keygen", secret, "--module", "rules", "--kind", "config").output
            let keyFile = try world.write(keys, to: "keys.yaml")
            let agent = world.agent("one") { settings in
                if isSigned { settings.environment["RELOAD_TRUSTED_KEYS"] = keyFile }
                settings.configs = ["rules", "victim"]
                settings.delivery = delivery
                settings.logLevel = "critical"
                settings.stackKilobytes = 1024
                // What the address sanitizer keeps of freed memory would count.
                let options = ProcessInfo.processInfo.environment["ASAN_OPTIONS"] ?? ""
                settings.environment["ASAN_OPTIONS"] =
                    options + ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
            }
            let answers = try await HostileAnswers.start(world, count: count + 1000)
            try await agent.start()
            try answers.follow(agent)
            try await answers.awaitOnline()
            let seed = HostileRun.seed ?? UInt64.random(in: 0...UInt64.max)
            print("hostile messages: \(count) by \(delivery)\(isSigned ? ", unsigned" : ""), seed \(seed)")
            let publisher = try HostilePublisher(world, seed: seed, key: isSigned ? SigningKey(file: secret) : nil)
            var inUse: [Int] = []
            for quarter in 1...4 {
                let start = ContinuousClock.now
                try await publisher.publish(count / 4, quarter: quarter)
                // Dead letters are answered in their order.
                #expect(try await answers.state(of: "end-\(quarter)") == .refused)
                #expect(try await answers.state(of: "good-\(quarter)") == .applied)
                var status = try await agent.status()
                #expect(status.modules?["rules"]?.revision == Int64(quarter))
                // Reports on their way come and go; what leaks stays.
                for _ in 0..<4 {
                    let again = try await agent.status()
                    if let less = again.allocatedKilobytes, less < status.allocatedKilobytes ?? 0 { status = again }
                }
                inUse.append(try #require(status.allocatedKilobytes))
                print(
                    "  quarter \(quarter): \(inUse.last ?? 0) KiB in use, \(status.residentKilobytes ?? 0) KiB resident,",
                    "\(status.trimmedKilobytes ?? 0) KiB without what the allocator keeps,",
                    "\(status.descriptors ?? 0) descriptors,",
                    "\(answers.answered) answered, \(start.duration(to: .now))")
            }
            #expect(inUse[3] > 0 && inUse[3] - inUse[2] < growthLimit, "\(inUse) KiB, seed \(seed)")
            #expect(answers.answered > count / 2, "seed \(seed)")
            #expect(answers.answeredAgain == [], "seed \(seed)")
            try await agent.stop()
        }
    }
}

private func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread { continuation.resume(with: Result { try body() }) }.start()
    }
}

/// Publishes hostile messages to the instances of a world, and good ones between them.
private struct HostilePublisher {
    private final class Row: Sendable {
        let messages: Mutex<HostileMessages>
        init(_ messages: HostileMessages) { self.messages = Mutex(messages) }
    }

    private let row: Row
    private let broker: Broker
    private let service: String
    /// What good ones are signed with.
    private let key: SigningKey?

    init(_ world: World, seed: UInt64, key: SigningKey? = nil) throws {
        row = Row(HostileMessages(seed: seed, service: world.service))
        (broker, service, self.key) = (world.broker, world.service, key)
    }

    /// Publishes those made by hand, `count` at random, one that nobody can read and a good one.
    func publish(
        _ count: Int, quarter: Int,
        byHand: @escaping @Sendable (inout HostileMessages) -> [RawMessage] = { $0.byHand() + [$0.oversized()] }
    ) async throws {
        try await onThread { [self] in
            let publisher = try RawPublisher(broker.url)
            for message in row.messages.withLock({ byHand(&$0) }) { try publisher.publish(message) }
            for number in 0..<count {
                try publisher.publish(row.messages.withLock { $0.next() })
                // Nobody else reads them, and a million of them would be a gigabyte.
                if number % 50_000 == 49_999 { try publisher.purge("reload.dead") }
            }
            let end = [RawMessage.messageID: Array("end-\(quarter)".utf8)]
            try publisher.publish(RawMessage(properties: end, body: [0x7b]))
            try publisher.awaitConfirms()
        }
        let request = NumberedRequest(
            id: "good-\(quarter)", service: service, config: "rules", revision: Int64(quarter))
        var good = request.envelope
        if let key {
            good.body = Array(#"{"issued_at":"\#(ReloadJSON.text(Date()))","#.utf8) + good.body.dropFirst()
            good.timestamp = UInt64(Date().timeIntervalSince1970)
            try key.sign(&good, exchange: "reload.control")
        }
        try await Wire(broker: broker).send(good, exchange: "reload.control", routingKey: "")
    }
}

/// Counts the answers to hostile messages as they come, and waits for others.
private final class HostileAnswers: Sendable {
    private struct State {
        /// How often each number was answered.
        var counts: [UInt8]
        /// The report that answered it, which may come twice: it is sent again when the broker has not confirmed it.
        var reports: [Int]
        var answered = 0
        var isOnline = false
        var states: [String: ReportState] = [:]
        var waiting: [CheckedContinuation<Void, Never>] = []
        var failure: String?
    }

    private let state: Mutex<State>

    private init(count: Int) {
        state = Mutex(
            State(counts: [UInt8](repeating: 0, count: count), reports: [Int](repeating: 0, count: count)))
    }

    /// How many numbers were answered.
    var answered: Int { state.withLock { $0.answered } }
    /// Those that were answered more than once.
    var answeredAgain: [Int] { state.withLock { state in state.counts.indices.filter { state.counts[$0] > 1 } } }

    /// Follows the reports of a world's service until the broker ends.
    static func start(_ world: World, count: Int) async throws -> HostileAnswers {
        let answers = HostileAnswers(count: count)
        let (url, service) = (world.broker.url, world.service)
        try await withCheckedThrowingContinuation { (bound: CheckedContinuation<Void, any Error>) in
            Thread {
                var isBound = false
                do {
                    var connection = try Connection.open(ConnectionSettings(url: try BrokerURL(url), name: "answers"))
                    try Topology().declare(on: &connection)
                    let queue = try connection.declareQueue("", durable: false, exclusive: true, autoDelete: true)
                    try connection.bind(queue: queue.name, to: "reload.status", routingKey: "\(service).#")
                    _ = try connection.consume(queue.name, noAcknowledge: true)
                    isBound = true
                    bound.resume()
                    while true {
                        while let event = try connection.next() {
                            guard case .delivery(let delivery) = event,
                                let report = try? Report.decode(delivery.envelope.body)
                            else { continue }
                            answers.take(report, delivery.envelope.messageID.hashValue)
                        }
                        connection.wait(timeoutMilliseconds: 1000)
                    }
                } catch {
                    if !isBound { return bound.resume(throwing: error) }
                    answers.change { $0.failure = "\(error)" }
                }
            }.start()
        }
        return answers
    }

    private func take(_ report: Report, _ name: Int) {
        change { state in
            state.isOnline = state.isOnline || report.state == .online
            guard report.state.isFinal else { return }
            for id in [report.request].compactMap({ $0 }) + (report.superseded ?? []) {
                if let number = HostileMessages.number(of: id), state.counts.indices.contains(number) {
                    guard state.reports[number] != name else { continue }
                    state.reports[number] = name
                    state.counts[number] = min(2, state.counts[number] + 1)
                    if state.counts[number] == 1 { state.answered += 1 }
                } else if !id.hasPrefix("hostile-") {
                    state.states[id] = report.state
                }
            }
        }
    }

    /// Waits no longer for answers than the agent lives.
    func follow(_ agent: TestAgent) throws {
        let command = try agent.command
        Task {
            let outcome = await command.outcome()
            // The thread that crashed, if one did.
            let crash = outcome.errors.range(of: " crashed:\n").map { outcome.errors[$0.upperBound...] }
            let errors = (crash ?? outcome.errors[...]).prefix(3000)
            change { $0.failure = "the agent ended with \(outcome.status): \(errors)" }
        }
    }

    func awaitOnline() async throws {
        _ = try await first { $0.isOnline ? true : nil }
    }

    /// How a request was answered, when it is.
    func state(of id: String) async throws -> ReportState {
        try await first { $0.states[id] }
    }

    private func first<Value: Sendable>(_ pick: (State) -> Value?) async throws -> Value {
        while true {
            let (value, failure) = state.withLock { (pick($0), $0.failure) }
            if let value { return value }
            if let failure { throw TestFailure("no more reports: \(failure)") }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let isThere = state.withLock { state in
                        guard pick(state) == nil, state.failure == nil else { return true }
                        state.waiting.append(continuation)
                        return false
                    }
                    if isThere { continuation.resume() }
                }
            } onCancel: {
                change { $0.failure = "the test has taken too long" }
            }
        }
    }

    private func change(_ body: (inout State) -> Void) {
        let waiting = state.withLock { state in
            body(&state)
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}
