/// A process starts → it consumes.
enum Start: Row {
    static let name = "start"

    static func measure(_ lab: Lab) throws {
        let plugin = try lab.plugin("EmptyPluginA")
        let exchange = try lab.exchange(name + ".c")
        var line = Line(
            name: "process start → consuming", against: "bare C consumer", unit: .time, goal: .times(2))

        func time(_ start: () throws -> Program) throws -> Double {
            let program = try start()
            defer { program.stop() }
            return Double(try program.time(of: "ready") - program.startedAt)
        }
        func ours() throws -> Double {
            try time { try lab.agent(name, delivery: "stream", configs: ["rules"], plugins: ["empty": plugin]) }
        }
        func theirs() throws -> Double {
            try time { try lab.bareC("idle", ["--exchange", exchange]) }
        }
        // The first one makes the state directory.
        _ = try (ours(), theirs())
        for round in 1...lab.rounds {
            lab.note("round \(round)")
            let times = try (0..<lab.count(10, brief: 2)).map { _ in try (ours(), theirs()) }
            line.ours.append(times.map(\.0).median)
            line.theirs.append(times.map(\.1).median)
        }
        lab.add(line)
    }
}
