/// What stays in memory after many reloads.
enum Memory: Row {
    static let name = "memory"

    static func measure(_ lab: Lab) throws {
        let (few, many) = (lab.count(100, brief: 10), lab.count(10_000, brief: 100))
        let what = "memory after \(Unit.number(Double(many))) config and \(Unit.number(Double(many))) C plugin reloads"
        var resident = Line(
            name: "resident \(what)", against: "after \(few)", unit: .bytes, goal: .more(Unit.megabyte))
        var anonymous = resident
        anonymous.name = "… of it anonymous"
        // What is remembered of so many requests fills up; what leaks goes on.
        var second = resident
        (second.against, second.goal) = ("after \(Unit.number(Double(many / 2)))", .more(nil))
        for round in 1...lab.rounds {
            lab.note("C plugin and config, round \(round)")
            let agent = try Reloads(lab, "\(name)-c-\(round)", product: "EmptyPluginA")
            let files = try ["EmptyPluginB", "EmptyPluginA"].map { try lab.plugin($0) }
            for number in 0..<many {
                if number == few {
                    resident.theirs.append(agent.program.resident)
                    anonymous.theirs.append(agent.program.anonymous)
                }
                if number == many / 2 { second.theirs.append(agent.program.resident) }
                try agent.reload(config: "rules", plugin: files[number % 2])
            }
            resident.ours.append(agent.program.resident)
            anonymous.ours.append(agent.program.anonymous)
            second.ours.append(agent.program.resident)
            agent.program.stop()
        }
        lab.add(resident, anonymous, second)
        try swift(lab)
    }

    /// Each generation of a Swift plugin stays: the runtime knows its types for ever.
    private static func swift(_ lab: Lab) throws {
        var line = Line(
            name: "memory for each generation of a Swift plugin", against: "", unit: .bytes, goal: .stated)
        let (few, many) = (lab.count(10, brief: 2), lab.count(210, brief: 12))
        for round in 1...lab.rounds {
            lab.note("Swift plugin, round \(round)")
            let agent = try Reloads(lab, "\(name)-swift-\(round)", product: "SwiftPlugin")
            var before = 0.0
            for number in 1...many {
                try agent.reload(plugin: try lab.plugin("SwiftPlugin", variant: number))
                if number == few { before = agent.program.resident }
            }
            line.ours.append((agent.program.resident - before) / Double(many - few))
            agent.program.stop()
        }
        lab.add(line)
    }
}

/// An agent with a config and a plugin, without vetting, that is reloaded as fast as it answers.
private struct Reloads {
    let program: Program
    private let lab: Lab
    private let service: String
    private let link: Link
    private let replies: Link
    private let queue: String

    init(_ lab: Lab, _ service: String, product: String) throws {
        self.lab = lab
        self.service = service
        program = try lab.agent(
            service, configs: ["rules"], plugins: ["plugin": try lab.plugin(product)], ["--no-vet", "--quiet"])
        _ = try program.time(of: "ready")
        (link, replies) = try (lab.link(), lab.link())
        queue = try replies.declareOwnQueue()
        try replies.consume(queue)
    }

    /// Returns when both are answered.
    func reload(config: String? = nil, plugin path: String) throws {
        let destination = service + ":*"
        var requests = [Request.plugin("plugin", path: path, revision: lab.nextRevision(), for: destination)]
        if let config { requests.append(.config(config, revision: lab.nextRevision(), for: destination)) }
        for request in requests { try link.publish(request, to: "bench." + service, replyTo: queue) }
        _ = try replies.answers(to: requests)
    }
}
