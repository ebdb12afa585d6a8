internal import CBench
internal import Glibc

/// Requests that concern other services, from a full queue: how many a second, and at what cost to the client.
enum OtherServices: Row {
    static let name = "other-services"

    /// What one side did with all messages.
    private struct Run {
        var rate: Double
        /// Nanoseconds a message.
        var cpu: Double
    }

    static func measure(_ lab: Lab) throws {
        var perC = Line(
            name: "requests for other services", against: "bare C, ack each", unit: .perSecond,
            goal: .timesAtLeast(1))
        var perPika = Line(
            name: "requests for other services", against: "pika + `json.loads`", unit: .perSecond,
            goal: .timesAtLeast(2.5))
        var cpu = Line(
            name: "… client CPU a message", against: "pika + `json.loads`", unit: .time, goal: .times(0.1))
        for round in 1...lab.rounds {
            lab.note("round \(round)")
            let (ours, c, pika) = try (agent(lab), bareC(lab), python(lab))
            perC.ours.append(ours.rate)
            perC.theirs.append(c.rate)
            perPika.ours.append(ours.rate)
            perPika.theirs.append(pika.rate)
            cpu.ours.append(ours.cpu)
            cpu.theirs.append(pika.cpu)
        }
        lab.add(perC, perPika, cpu)
    }

    private static func agent(_ lab: Lab) throws -> Run {
        let program = try lab.agent(name, delivery: "queue", configs: ["rules"], ["--heartbeat", "60"])
        // ReloadAgent.Settings.queueName
        return try run(lab, program, queue: lab.queue("reload.agent.\(name).bench"), end: "config")
    }

    private static func bareC(_ lab: Lab) throws -> Run {
        let queue = lab.queue("bench.\(name).c")
        try lab.link().declareQueue(queue)
        let arguments = ["--queue", queue, "--count", "\(count(lab) + 1)", "--ack", "each", "--heartbeat", "60"]
        return try run(lab, try lab.bareC("discard", arguments), queue: queue, end: "done")
    }

    private static func python(_ lab: Lab) throws -> Run {
        let queue = lab.queue("bench.\(name).py")
        try lab.link().declareQueue(queue)
        let arguments = ["--queue", queue, "--count", "\(count(lab) + 1)", "--destination", "\(name):bench"]
        return try run(lab, try lab.python("discard.py", arguments), queue: queue, end: "done")
    }

    private static func count(_ lab: Lab) -> Int { lab.count(50_000, brief: 2000) }

    /// Fills the queue while the program is stopped and lets it go on; the last message is one for the agent.
    ///
    /// - Parameter end: first word of the line that says that it has come there.
    private static func run(_ lab: Lab, _ program: Program, queue: String, end: String) throws -> Run {
        _ = try program.time(of: "ready")
        // What comes with being new is over then.
        usleep(300_000)
        program.signal(SIGSTOP)
        let link = try lab.link()
        try link.confirm()
        for _ in 0..<count(lab) { try link.publish(.other(), to: "", key: queue) }
        let last = Request.config("rules", revision: lab.nextRevision(), for: name + ":*")
        try link.publish(last, to: "", key: queue)
        try link.flush()
        let (cpu, start) = (program.cpu, cbench_now())
        program.signal(SIGCONT)
        let time = try program.time(of: end, within: 120)
        defer { program.stop() }
        let messages = Double(count(lab))
        return Run(rate: messages / Double(time - start) * 1e9, cpu: (program.cpu - cpu) / messages)
    }
}
