internal import CBench
internal import Glibc

/// What an agent takes that has nothing to do, beside a bare consumer with the same heartbeat.
enum Idle: Row {
    static let name = "idle"

    static func measure(_ lab: Lab) throws {
        let plugin = try lab.plugin("EmptyPluginA")
        let agent = try lab.agent(name, delivery: "stream", configs: ["rules"], plugins: ["empty": plugin])
        let bare = try lab.bareC("idle", ["--exchange", try lab.exchange(name + ".c")])
        _ = try (agent.time(of: "ready"), bare.time(of: "ready"))
        // What comes with being new is over then.
        sleep(UInt32(lab.count(10, brief: 1)))

        var wakeUps = Line(
            name: "idle: wake-ups a minute", against: "bare C consumer", unit: .count, goal: .times(2))
        var cpu = Line(name: "idle: CPU a minute", against: "bare C consumer", unit: .time, goal: .times(2))
        var resident = Line(
            name: "idle: resident memory", against: "bare C consumer", unit: .bytes, goal: .value(25 * Unit.megabyte))
        let seconds = Double(lab.count(60, brief: 6))
        for round in 1...lab.rounds {
            lab.note("round \(round): \(Int(seconds)) s")
            let before = [agent, bare].map { ($0.switches, $0.cpu) }
            let start = cbench_now()
            usleep(UInt32(seconds * 1e6))
            let perMinute = 60e9 / Double(cbench_now() - start)
            let after = [agent, bare].map { ($0.switches, $0.cpu) }
            let switches = zip(before, after).map { ($1.0 - $0.0) * perMinute }
            let times = zip(before, after).map { ($1.1 - $0.1) * perMinute }
            wakeUps.ours.append(switches[0])
            wakeUps.theirs.append(switches[1])
            cpu.ours.append(times[0])
            cpu.theirs.append(times[1])
            resident.ours.append(agent.resident)
            resident.theirs.append(bare.resident)
        }
        lab.add(wakeUps, cpu, resident)
    }
}
