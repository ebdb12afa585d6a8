internal import Reloading

/// The command line: how many agents, their settings, and the modules each of them has.
struct Arguments {
    struct Mistake: Error {
        var text: String
    }

    /// Of the first agent; the others differ in instance and state directory.
    var settings = ReloadAgent.Settings(service: "bench")
    var count = 1
    var configs: [(name: String, file: String)] = []
    var plugins: [(name: String, file: String)] = []
    /// Name of the plugin whose answers are watched.
    var watched: String?
    /// Whether changes go unsaid.
    var isQuiet = false
    private var instance = "agent"

    init(_ words: ArraySlice<String>) throws(Mistake) {
        var words = words
        while let option = words.popFirst() {
            if option == "--no-vet" {
                settings.trialTimeout = nil
                continue
            }
            if option == "--quiet" {
                isQuiet = true
                continue
            }
            guard let value = words.popFirst() else { throw Mistake(text: "\(option) needs a value") }
            switch option {
            case "--broker": settings.broker = value
            case "--service": settings.service = value
            case "--instance": instance = value
            case "--count": count = try Self.number(option, value)
            case "--control-exchange": settings.controlExchange = value
            case "--status-exchange": settings.statusExchange = value
            case "--state-dir": settings.stateDirectory = value
            case "--artifacts": settings.artifactRoots.append(value)
            case "--heartbeat": settings.heartbeat = try Self.number(option, value)
            case "--delivery":
                guard let delivery = ReloadAgent.Settings.Delivery(rawValue: value) else {
                    throw Mistake(text: "no delivery \(value)")
                }
                settings.delivery = delivery
            case "--config": configs.append(try Self.module(option, value))
            case "--plugin": plugins.append(try Self.module(option, value))
            case "--watch-plugin": watched = value
            default: throw Mistake(text: "no option \(option)")
            }
        }
        settings.instance = instance
    }

    /// Settings of agent number `index`.
    func settings(of index: Int) -> ReloadAgent.Settings {
        guard count > 1 else { return settings }
        var settings = settings
        settings.instance = "\(instance)-\(index)"
        settings.stateDirectory = settings.stateDirectory.map { "\($0)/\(index)" }
        return settings
    }

    private static func number(_ option: String, _ value: String) throws(Mistake) -> Int {
        guard let number = Int(value), number >= 0 else {
            throw Mistake(text: "\(option) takes a number, not \(value)")
        }
        return number
    }

    /// `NAME=FILE`.
    private static func module(_ option: String, _ value: String) throws(Mistake) -> (name: String, file: String) {
        let parts = value.split(separator: "=", maxSplits: 1)
        guard parts.count == 2 else { throw Mistake(text: "\(option) takes NAME=FILE, not \(value)") }
        return (String(parts[0]), String(parts[1]))
    }
}
