/// An agent comes back and finds many requests, beside reading them all in bare C.
enum CatchUp: Row {
    static let name = "catch-up"

    static func measure(_ lab: Lab) throws {
        let modules = (0..<lab.count(100, brief: 10)).map { "rules\($0)" }
        let revisions = lab.count(100, brief: 20)
        let total = modules.count * revisions
        var line = Line(
            name: "catch-up of \(Unit.number(Double(total))) missed requests over \(modules.count) modules",
            against: "bare C reads the same stream", unit: .time, goal: .times(2))
        // Kept by the state directory: where the agent is in the stream.
        let first = try lab.agent(name, delivery: "stream", configs: modules)
        _ = try first.time(of: "ready")
        first.stop()
        let link = try lab.link()
        try link.confirm()
        for round in 1...lab.rounds {
            lab.note("round \(round): publishing")
            let stream = lab.queue("bench.\(name).\(round)")
            try lab.link().declareQueue(stream, isStream: true)
            var newest: [String: String] = [:]
            for _ in 0..<revisions {
                for module in modules {
                    let revision = lab.nextRevision()
                    newest[module] = "\(revision)"
                    let request = Request.config(module, revision: revision, for: name + ":*")
                    try link.publish(request, to: "bench." + name)
                    try link.publish(request, to: "", key: stream)
                }
            }
            try link.flush()

            lab.note("round \(round): reading")
            let agent = try lab.agent(name, delivery: "stream", configs: modules)
            let start = try agent.time(of: "ready")
            var time = start
            while !newest.isEmpty {
                let words = try agent.expect("config", within: 120)
                guard words.count == 4, newest[String(words[1])] == String(words[2]) else { continue }
                newest[String(words[1])] = nil
                time = Int64(words[3]) ?? time
            }
            line.ours.append(Double(time - start))
            agent.stop()

            let bare = try lab.bareC("read", ["--stream", stream, "--count", "\(total)"])
            let begin = try bare.time(of: "ready")
            line.theirs.append(Double(try bare.time(of: "done", within: 120) - begin))
            bare.stop()
        }
        lab.add(line)
    }
}
