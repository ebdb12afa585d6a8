internal import Foundation

/// A read of a config, beside a plain load and beside a copy out of a `Mutex`.
enum ConfigRead: Row {
    static let name = "config-read"

    static func measure(_ lab: Lab) throws {
        let results = try HotPath.run(lab, "config")
        func lines(
            _ name: String, _ way: String, load: String, mutex: String, _ goal: Line.Goal, _ lockedGoal: Line.Goal
        ) {
            for threads in [1, 2] {
                let ours = HotPath.line(results, threads, name, way, against: "plain load", load, goal)
                let locked = HotPath.line(
                    results, threads, name, way, against: "`Mutex` snapshot", mutex, threads == 2 ? lockedGoal : .stated
                )
                lab.add(ours, locked)
            }
        }
        lines(
            "`config.current`, three numbers", "small current", load: "small load", mutex: "small mutex", .more(2),
            .times(0.1))
        lines(
            "`config.withCurrent`, a field beside text and a list", "withCurrent", load: "load", mutex: "mutex",
            .more(2), .times(0.1))
        lines(
            "`config.current`, with text and a list", "current", load: "load", mutex: "mutex", .more(nil), .stated)
    }
}

/// A call of a plugin's empty function, beside a direct call of it.
enum PluginCall: Row {
    static let name = "plugin-call"

    static func measure(_ lab: Lab) throws {
        let results = try HotPath.run(lab, "plugin")
        for threads in [1, 2] {
            for (name, way) in [("`plugin.call(_:into:)`, empty", "into"), ("`plugin.call`, empty", "call")] {
                let line = HotPath.line(
                    results, threads, name, way, against: "C function pointer", "direct", .more(3))
                lab.add(line)
            }
        }
    }
}

/// The rare slow calls while the plugin is reloaded as fast as it answers, beside those while it is not.
enum CallLatency: Row {
    static let name = "call-latency"

    static func measure(_ lab: Lab) throws {
        let files = try ["EmptyPluginA", "EmptyPluginB"].map { try lab.plugin($0) }
        let exchange = try lab.exchange(name)
        let seconds = lab.isBrief ? 0.3 : 5
        let program = try HotPath.start(
            lab, "latency", file: files[0],
            [
                "--seconds", "\(seconds)", "--broker", lab.broker, "--artifacts", lab.folder, "--control-exchange",
                exchange, "--status-exchange", try lab.exchange(name + ".status", type: "topic"),
            ])
        let (link, replies) = try (lab.link(), lab.link())
        let queue = try replies.declareOwnQueue()
        try replies.consume(queue)

        /// Of each kind, by round.
        var (p9999, p99, longest): ([String: [Double]], [String: [Double]], [String: [Double]]) = ([:], [:], [:])
        var swaps: [Double] = []
        while swaps.count < lab.rounds {
            let begin = try HotPath.result(program, within: 60)
            var end: HotPath.Result?
            var count = 0
            while begin.begin != "quiet", end == nil {
                let request = Request.plugin(
                    "empty", path: files[count % 2], revision: lab.nextRevision(), for: "hot-path:*",
                    operation: begin.begin == "swaps" ? "apply" : "validate")
                count += 1
                try link.publish(request, to: exchange, replyTo: queue)
                _ = try replies.answers(to: [request])
                end = try program.line(within: 0).map(HotPath.decode)
            }
            let result = try end ?? HotPath.result(program, within: seconds + 60)
            guard let kind = result.variant, let p50 = result.p50, let slow = result.p99, let slowest = result.p9999,
                let most = result.max
            else { throw Failure("no latencies in \(result)") }
            lab.note("\(kind): p50 \(Int(p50)) ns, \(result.count ?? 0) calls, \(count) requests")
            p99[kind, default: []].append(slow)
            p9999[kind, default: []].append(slowest)
            longest[kind, default: []].append(most)
            if kind == "swaps" { swaps.append(Double(count) / seconds) }
        }
        func line(_ name: String, _ values: [String: [Double]], _ other: String, _ against: String, _ goal: Line.Goal) {
            lab.add(
                Line(
                    name: name, against: against, unit: .time, ours: values["swaps"] ?? [], theirs: values[other] ?? [],
                    goal: goal))
        }
        line("call latency p99.99 while swapping", p9999, "quiet", "the same without swaps", .times(1.5))
        line("… p99.99", p9999, "validates", "requests that do all but the swap", .stated)
        line("… p99", p99, "quiet", "the same without swaps", .stated)
        line("… longest call", longest, "quiet", "the same without swaps", .stated)
        line("… longest call", longest, "validates", "requests that do all but the swap", .stated)
        let rate = Line(name: "… swaps meanwhile", against: "", unit: .perSecond, ours: swaps, goal: .stated)
        lab.add(rate)
    }
}

/// What the program `hot-path` says.
private enum HotPath {
    struct Result: Decodable {
        var begin: String?
        var variant: String?
        var threads: Int?
        var ns: Double?
        var p50: Double?
        var p99: Double?
        var p9999: Double?
        var max: Double?
        var count: Int?
    }

    static func start(_ lab: Lab, _ mode: String, file: String, _ arguments: [String]) throws -> Program {
        try lab.hotPath(
            [mode, "--folder", lab.folder + "/hot-path", "--plugin", file, "--rounds", "\(lab.rounds)"] + arguments)
    }

    static func run(_ lab: Lab, _ mode: String) throws -> [Result] {
        let operations = lab.count(5_000_000, brief: 100_000)
        let program = try start(
            lab, mode, file: try lab.plugin("EmptyPluginA"), ["--operations", "\(operations)"])
        var results: [Result] = []
        while true {
            let result = try result(program, within: 60)
            if result.begin == "end" { return results }
            results.append(result)
        }
    }

    static func result(_ program: Program, within seconds: Double) throws -> Result {
        guard let words = try program.line(within: seconds) else { throw Failure("hot-path is silent") }
        return try decode(words)
    }

    static func decode(_ words: [Substring]) throws -> Result {
        try JSONDecoder().decode(Result.self, from: Data(words.joined(separator: " ").utf8))
    }

    static func line(
        _ results: [Result], _ threads: Int, _ name: String, _ variant: String, against: String, _ other: String,
        _ goal: Line.Goal
    ) -> Line {
        func values(_ variant: String) -> [Double] {
            results.filter { $0.threads == threads && $0.variant == variant }.compactMap(\.ns)
        }
        return Line(
            name: "\(name), \(threads == 1 ? "1 thread" : "\(threads) threads")", against: against, unit: .time,
            ours: values(variant), theirs: values(other), goal: goal)
    }
}
