/// publish → the new plugin serves, beside publish → reloaded by Python.
enum PluginServing: Row {
    static let name = "plugin-serving"

    static func measure(_ lab: Lab) throws {
        let files = try ["EmptyPluginA", "EmptyPluginB"].map { try lab.plugin($0) }
        let agent = try lab.agent(name, plugins: ["empty": files[1]], ["--watch-plugin", "empty"])
        let article = try Article(lab, name)
        _ = try agent.time(of: "ready")
        let link = try lab.link()
        var next = 0

        func ours(_ count: Int) throws -> [Double] {
            try lab.paced(count, pause: 100) {
                let request = Request.plugin(
                    "empty", path: files[next], revision: lab.nextRevision(), for: name + ":*")
                next = 1 - next
                return (try link.publish(request, to: "bench." + name), try agent.time(of: "plugin"))
            }
        }
        func theirs(_ count: Int) throws -> [Double] {
            try lab.paced(count, pause: 100) {
                let request = try article.change()
                return (try link.publish(request, to: article.exchange), try article.program.time(of: "got"))
            }
        }

        var line = Line(
            name: "publish → new C plugin serving, vetted, p50", against: "pika + `importlib.reload`", unit: .time,
            goal: .times(1))
        _ = try (ours(4), theirs(4))
        for round in 1...lab.rounds {
            lab.note("round \(round)")
            let count = lab.count(50, brief: 5)
            line.ours.append(try ours(count).median)
            line.theirs.append(try theirs(count).median)
        }
        lab.add(line)
    }
}

/// The source article's consumer in Python 3, with a module that it reloads.
struct Article {
    let exchange: String
    let program: Program
    private let lab: Lab
    private let module: String

    init(_ lab: Lab, _ name: String, _ arguments: [String] = []) throws {
        self.lab = lab
        module = "rules_" + name.replacing("-", with: "_")
        exchange = try lab.exchange(name + ".py")
        program = try lab.python("article.py", ["--exchange", exchange] + arguments)
        _ = try program.time(of: "ready")
    }

    /// Writes a new version of the module; returns the message that makes it reload.
    func change() throws -> Request {
        let revision = lab.nextRevision()
        // Python takes a file of the same second and size for the one that it has compiled.
        let padding = String(repeating: "#", count: revision % 100 + 1)
        try lab.write("R = \(revision)\n\n\ndef answer():\n    return R\n\(padding)\n", to: module + ".py")
        return .article(module, folder: lab.folder)
    }
}
