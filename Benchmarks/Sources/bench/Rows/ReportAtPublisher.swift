/// publish → the report is back at the publisher, beside Python with a reply.
enum ReportAtPublisher: Row {
    static let name = "report"

    static func measure(_ lab: Lab) throws {
        let agent = try lab.agent(name, configs: ["rules"], ["--quiet"])
        let article = try Article(lab, name, ["--reply"])
        _ = try agent.time(of: "ready")
        let (link, replies) = try (lab.link(), lab.link())
        let queue = try replies.declareOwnQueue()
        try replies.consume(queue)

        func ours(_ count: Int) throws -> [Double] {
            try lab.paced(count) {
                let request = Request.config("rules", revision: lab.nextRevision(), for: name + ":*")
                let sent = try link.publish(request, to: "bench." + name, replyTo: queue)
                return (sent, try replies.answers(to: [request]))
            }
        }
        func theirs(_ count: Int) throws -> [Double] {
            try lab.paced(count) {
                try article.program.skipLines()
                let request = try article.change()
                let sent = try link.publish(request, to: article.exchange, replyTo: queue)
                return (sent, try replies.answers(to: [request]))
            }
        }

        var line = Line(
            name: "publish → report at the publisher, p50", against: "pika + reload + reply", unit: .time,
            goal: .times(0.5))
        _ = try (ours(10), theirs(10))
        for round in 1...lab.rounds {
            lab.note("round \(round)")
            let count = lab.count(200, brief: 20)
            line.ours.append(try ours(count).median)
            line.theirs.append(try theirs(count).median)
        }
        lab.add(line)
    }
}
