import Foundation
import ReloadAMQP
import Testing

/// Random faults for minutes, against ten instances and a publisher: `scripts/soak MINUTES`.
@Suite(
    .withBroker,
    .enabled(
        if: Repository.isReady && EndToEnd.Faults.hasFaultPoints && Soak.minutes > 0, "scripts/soak says for how long"),
    .timeLimit(.minutes(Soak.minutes + 5)))
struct SoakTests {
    @Test func soak() async throws {
        try await row("soak of \(Soak.minutes) minutes, seed \(Soak.seed)") { world, row in
            let target = try BrokerURL(world.broker.url)
            let proxy = try Proxy(to: (target.host, target.port))
            defer { proxy.stop() }
            var soak = try await Soak(world, row, proxy)
            let end = ContinuousClock.now + .seconds(60 * Soak.minutes)
            while ContinuousClock.now < end { try await soak.round() }
            try await soak.finish()
        }
    }
}

/// A fleet, and what is done to it. What is done comes from the seed; when it meets what, does not.
struct Soak {
    /// What happens to the broker, or to the way there.
    enum BrokerFault: String, CaseIterable {
        case restart = "broker restarted"
        case kill = "broker kill -9"
        case pause = "broker SIGSTOP"
        case memory = "memory alarm"
        case connections = "connections closed"
        case password = "password changed"
        case stream = "stream deleted"
        case stall = "network stalled"
        case reset = "network reset"
        case refuse = "network refused"
        case cut = "network cut"
    }

    /// What happens to an instance.
    enum AgentFault: String, CaseIterable {
        case kill = "instance kill -9"
        case step = "instance kill -9 at a step"
        case stop = "instance restarted"
        case freeze = "instance SIGSTOP"
    }

    static let minutes = number("RELOAD_SOAK_MINUTES") ?? 0
    static let seed = number("RELOAD_SOAK_SEED") ?? Int.random(in: 0..<1_000_000)

    private static func number(_ name: String) -> Int? { ProcessInfo.processInfo.environment[name].flatMap { Int($0) } }

    private static let configs = (1...9).map { "rules-\($0)" }
    private static let steps = [
        "staged", "tried", "marked", "opened", "switched", "proven", "saved", "reported", "acknowledged",
    ]

    private let world: World
    private let row: FaultRow
    private let proxy: Proxy
    private let agents: [TestAgent]
    private let before: [TestAgent.Event]
    private let began = ContinuousClock.now
    private var random = Generator(state: UInt64(seed))
    private var rounds = 0
    private var faults: [String: Int] = [:]
    private var told = ContinuousClock.now
    /// What was done since it was told.
    private var done: [String] = []

    /// Starts the fleet: eight instances that read the stream, two with a queue of their own.
    init(_ world: World, _ row: FaultRow, _ proxy: Proxy) async throws {
        (self.world, self.row, self.proxy) = (world, row, proxy)
        print("soak | seed \(Self.seed) | RELOAD_SOAK_SEED sets it")
        let broker = world.broker
        try await broker.run("ctl", "add_user", world.service, "right")
        try await broker.run("ctl", "set_permissions", world.service, ".*", ".*", ".*")
        agents = (1...10).map { number in
            world.agent("\(number)") {
                $0.configs = Self.configs
                $0.plugins = ["parser": "CParserV1"]
                $0.delivery = number % 5 == 0 ? "queue" : "stream"
                $0.heartbeat = 5
                // An error that repeats itself is said there alone.
                $0.logLevel = "debug"
                $0.broker = "amqp://\(world.service):right@\(proxy.address):\(proxy.port)/"
            }
        }
        for agent in agents {
            try await agent.start()
            // A queue hears nothing before it is bound.
            try await agent.logs("connected to the broker", times: 2)
        }
        // The first loads of everything are no growth.
        try await row.publish(90, configs: Self.configs)
        try await row.answered(by: agents)
        var before: [TestAgent.Event] = []
        for agent in agents { before.append(try await agent.status()) }
        self.before = before
    }

    // MARK: Rounds

    /// Publishes, breaks this and that meanwhile, and waits until everything is answered.
    mutating func round() async throws {
        rounds += 1
        let count = Int.random(in: 10...60, using: &random)
        let configs = Self.configs.shuffled(using: &random)
        let isBrokerMeant = Int.random(in: 0..<10, using: &random) < 7
        let fault = isBrokerMeant ? BrokerFault.allCases.randomElement(using: &random) : nil
        // What is on a stream that goes has to be answered before.
        let most = fault == .stream ? 0 : 3
        let shuffled = agents.shuffled(using: &random)
        let victims = shuffled.prefix(Int.random(in: 0...most, using: &random)).map { agent in
            let fault = AgentFault.allCases.randomElement(using: &random) ?? .freeze
            let step = Self.steps.randomElement(using: &random) ?? "staged"
            // The memory of two shows whether it grows.
            let isOld = agent === agents[0] || agent === agents[4]
            return (agent: agent, fault: isOld ? .freeze : fault, step: step)
        }
        let suffering = BrokerSuffering(
            world: world, row: row, proxy: proxy, witness: shuffled[9], cut: Int.random(in: 0..<20_000, using: &random))
        if let fault { note(fault.rawValue) }
        for victim in victims { note(victim.fault.rawValue + (victim.fault == .step ? " \(victim.step)" : "")) }

        let requests = row.next(count, configs: configs) + [try nextPlugin()]
        if fault == .stream { try await world.broker.deleteJournal() }
        let publishing = row.publishing(requests, inBatchesOf: 5)
        let soak = self
        try await withThrowingTaskGroup(of: Void.self) { group in
            if let fault { group.addTask { try await suffering.suffer(fault) } }
            for victim in victims {
                group.addTask { try await soak.suffer(victim.fault, victim.step, victim.agent) }
            }
            try await group.waitForAll()
        }
        try await publishing.value
        try await row.answered(by: agents)
        tell()
    }

    private func nextPlugin() throws -> NumberedRequest {
        try row.next(plugin: "parser") { try world.plugin("CParserV2", variant: $0) }
    }

    private struct BrokerSuffering {
        let world: World
        let row: FaultRow
        let proxy: Proxy
        /// An instance to which nothing else happens.
        let witness: TestAgent
        let cut: Int

        func suffer(_ fault: BrokerFault) async throws {
            let broker = world.broker
            let seen = try witness.command.lines.count
            switch fault {
            case .restart: try await broker.run("restart")
            case .kill:
                try await broker.crash()
                try await broker.run("start")
            case .pause:
                try await broker.run("pause")
                try await whileBroken {
                    try await witness.logs("the broker is not available", times: 2, from: seen)
                } mend: {
                    try await broker.run("cont")
                }
            case .memory:
                try await broker.run("ctl", "set_vm_memory_high_watermark", "0")
                let publishing = row.publishing(5, configs: Soak.configs)
                try await whileBroken {
                    try await broker.isBlocked("test")
                } mend: {
                    try await broker.run("ctl", "set_vm_memory_high_watermark", "0.4")
                }
                try await publishing.value
            case .connections: try await broker.run("ctl", "close_all_connections", "because")
            case .password:
                try await broker.run("ctl", "change_password", world.service, "wrong")
                try await whileBroken {
                    proxy.reset()
                    try await witness.logs("ACCESS_REFUSED", from: seen)
                } mend: {
                    try await broker.run("ctl", "change_password", world.service, "right")
                }
            // That has happened before anything was published.
            case .stream: break
            case .stall:
                proxy.stall()
                try await whileBroken {
                    try await witness.logs("the broker is not available", from: seen)
                } mend: {
                    proxy.forward()
                }
            case .reset: proxy.reset()
            case .refuse:
                proxy.refuse()
                try await whileBroken {
                    try await witness.logs("cannot connect", from: seen)
                } mend: {
                    proxy.forward()
                }
            case .cut: proxy.cut(after: cut, cut % 2 == 0 ? .toBroker : .toClient)
            }
        }
    }

    private func suffer(_ fault: AgentFault, _ step: String, _ agent: TestAgent) async throws {
        switch fault {
        case .kill:
            try await agent.kill()
            try await agent.start()
        case .step:
            try await agent.kill()
            try await agent.start(["RELOAD_FAULT": "\(step):kill"])
            // Newer than everything, so that it gets as far as that.
            try await row.publishing(row.next(1, configs: Self.configs) + [try nextPlugin()]).value
            #expect(await (try agent.command).outcome().status == 128 + SIGKILL)
            try await agent.start()
        case .stop:
            try await agent.stop()
            try await agent.start()
        case .freeze:
            try agent.pause()
            try await row.publishing(row.next(5, configs: Self.configs) + [try nextPlugin()]).value
            try agent.goOn()
        }
    }

    // MARK: Telling

    private mutating func note(_ fault: String) {
        faults[fault, default: 0] += 1
        done.append(fault)
    }

    private mutating func tell() {
        guard told.duration(to: .now) > .seconds(10) else { return }
        told = .now
        let seconds = Int(began.duration(to: .now) / .seconds(1))
        let tally = row.outcomes.tally
        print(
            "soak | \(seconds) s | \(rounds) rounds | \(row.requests.count) published | "
                + "\(tally.answered(row.requests, by: agents.map(\.instance))) answered | "
                + "\(tally.appliedTwice.count) twice | \(done.joined(separator: ", "))")
        done = []
    }

    /// Every instance runs the newest revision of every module, and has not grown.
    func finish() async throws {
        row.healed()
        try await row.publish(9, configs: Self.configs)
        try await Wire(broker: world.broker).publish([try nextPlugin()])
        try await row.finish(agents)
        for (agent, before) in zip(agents, before) {
            let after = try await agent.status()
            let (usedBefore, used) = (try #require(before.allocatedKilobytes), try #require(after.allocatedKilobytes))
            print(
                "soak | instance \(agent.instance) | \(usedBefore) KiB in use before, \(used) KiB after | "
                    + "\(before.descriptors ?? 0) descriptors before, \(after.descriptors ?? 0) after")
            #expect(used - usedBefore < 4 * 1024)
            #expect((after.descriptors ?? .max) - (before.descriptors ?? 0) < 10)
        }
        print(
            "soak | \(rounds) rounds | "
                + faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))
    }

    /// SplitMix64.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
            return value ^ (value >> 31)
        }
    }
}
