/// publish → the new config serves, beside publish → received in bare C.
enum ConfigServing: Row {
    static let name = "config-serving"

    static func measure(_ lab: Lab) throws {
        for delivery in ["ephemeral", "stream"] { try measure(lab, delivery: delivery) }
    }

    private static func measure(_ lab: Lab, delivery: String) throws {
        let service = "config-\(delivery)"
        let agent = try lab.agent(service, delivery: delivery, configs: ["rules"])
        let other = try lab.exchange(service + ".c")
        var arguments = ["--kind", delivery, "--exchange", other]
        if delivery == "stream" { arguments += ["--stream", lab.queue(other)] }
        let bare = try lab.bareC("receive", arguments)
        _ = try (agent.time(of: "ready"), bare.time(of: "ready"))
        let link = try lab.link()

        func ours(_ count: Int) throws -> [Double] {
            try lab.paced(count) {
                let request = Request.config("rules", revision: lab.nextRevision(), for: service + ":*")
                return (try link.publish(request, to: "bench." + service), try agent.time(of: "config"))
            }
        }
        func theirs(_ count: Int) throws -> [Double] {
            try lab.paced(count) {
                let request = Request.config("rules", revision: lab.nextRevision(), for: service + ":*")
                return (try link.publish(request, to: other), try bare.time(of: "got"))
            }
        }

        var half = Line(
            name: "publish → new config serving, `\(delivery)`, p50", against: "bare C, received", unit: .time,
            goal: .times(1.5))
        var most = half
        most.name = half.name.replacing("p50", with: "p99")
        _ = try (ours(10), theirs(10))
        for round in 1...lab.rounds {
            lab.note("\(delivery), round \(round)")
            let count = lab.count(500, brief: 20)
            let (ours, theirs) = try (ours(count), theirs(count))
            half.ours.append(ours.median)
            half.theirs.append(theirs.median)
            most.ours.append(ours.quantile(0.99))
            most.theirs.append(theirs.quantile(0.99))
        }
        agent.stop()
        bare.stop()
        lab.add(half, most)
    }
}
