/// One publish → the last of many agents' reports, beside as many bare connections that answer.
enum FanOut: Row {
    static let name = "fan-out"

    static func measure(_ lab: Lab) throws {
        let sizes = lab.isBrief ? [1, 10] : [1, 10, 100, 1000]
        let lines = try sizes.map { size in
            let line = try measure(lab, size)
            lab.add(line)
            return line
        }
        guard let first = lines.first, let last = lines.last, let size = sizes.last else { return }
        lab.add(
            Line(
                name: "… growth from 1 to \(Unit.number(Double(size))), times", against: "bare C, same fan-out",
                unit: .count, ours: zip(last.ours, first.ours).map { $0 / $1 },
                theirs: zip(last.theirs, first.theirs).map { $0 / $1 }, goal: .stated))
    }

    private static func measure(_ lab: Lab, _ size: Int) throws -> Line {
        let processes = min(4, (size + 9) / 10)
        lab.note("\(size): starting")
        let agents = try (0..<processes).map { number in
            let count = size / processes + (number < size % processes ? 1 : 0)
            return try lab.agent(
                "\(name)-\(size)", instance: "bench-\(number)", configs: ["rules"], ["--quiet", "--count", "\(count)"])
        }
        let ours = (exchange: "bench.\(name)-\(size)", status: "bench.\(name)-\(size).status")
        let theirs = try (
            exchange: lab.exchange("\(name)-\(size).c"), status: lab.exchange("\(name)-\(size).c.status", type: "topic")
        )
        let bare = try lab.bareC(
            "fanout",
            [
                "--exchange", theirs.exchange, "--status-exchange", theirs.status, "--connections", "\(size)",
                "--instance-prefix", "bench",
            ])
        for program in agents + [bare] { _ = try program.time(of: "ready", within: 240) }

        let link = try lab.link()
        /// One publish after the other; the nanoseconds to the last answer of each.
        func answers(_ side: (exchange: String, status: String), _ count: Int) throws -> [Double] {
            let reports = try lab.link()
            let queue = try reports.declareOwnQueue()
            try reports.bind(queue: queue, to: side.status, key: "#.applied")
            try reports.consume(queue)
            return try lab.paced(count) {
                let request = Request.config("rules", revision: lab.nextRevision(), for: "\(name)-\(size):*")
                let sent = try link.publish(request, to: side.exchange)
                var (left, last) = (size, sent)
                while left > 0 {
                    guard let message = try reports.next(within: 60) else {
                        throw Failure("\(left) of \(size) answers missing after 60 s")
                    }
                    if message.correlationID == request.id { (left, last) = (left - 1, message.time) }
                }
                return (sent, last)
            }
        }

        var line = Line(
            name: "one publish → last of \(Unit.number(Double(size))) \(size == 1 ? "report" : "reports")",
            against: "bare C, same fan-out", unit: .time, goal: .times(1.5))
        let count = lab.count(size == 1000 ? 5 : 20, brief: 2)
        _ = try (answers(ours, 2), answers(theirs, 2))
        for round in 1...lab.rounds {
            lab.note("\(size), round \(round)")
            line.ours.append(try answers(ours, count).median)
            line.theirs.append(try answers(theirs, count).median)
        }
        for program in agents + [bare] { program.signal(15) }
        for program in agents + [bare] { program.stop() }
        return line
    }
}
