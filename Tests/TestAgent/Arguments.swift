internal import Logging
internal import Reloading

/// The command line: settings of the agent, and the modules it has.
struct Arguments {
    struct Mistake: Error {
        var text: String
    }

    var settings: ReloadAgent.Settings
    /// The least of the log that becomes an event.
    var logLevel = Logger.Level.notice
    var configs: [(name: String, file: String)] = []
    var plugins: [(name: String, file: String)] = []

    init(_ words: ArraySlice<String>) throws(Mistake) {
        settings = ReloadAgent.Settings(service: "")
        var words = words
        while let option = words.popFirst() {
            guard let value = words.popFirst() else { throw Mistake(text: "\(option) needs a value") }
            switch option {
            case "--service": settings.service = value
            case "--instance": settings.instance = value
            case "--broker": settings.broker = value
            case "--state-dir": settings.stateDirectory = value
            case "--trusted-keys": settings.trustedKeys = value
            case "--artifacts": settings.artifactRoots.append(value)
            case "--delivery":
                guard let delivery = ReloadAgent.Settings.Delivery(rawValue: value) else {
                    throw Mistake(text: "no delivery \(value)")
                }
                settings.delivery = delivery
            case "--log-level":
                guard let level = Logger.Level(rawValue: value) else { throw Mistake(text: "no log level \(value)") }
                logLevel = level
            case "--heartbeat": settings.heartbeat = try Self.number(option, value)
            case "--report-interval": settings.reportInterval = .seconds(try Self.number(option, value))
            case "--vet-timeout": settings.trialTimeout = .seconds(try Self.number(option, value))
            case "--keep": settings.keep = try Self.number(option, value)
            case "--config": configs.append(try Self.module(option, value))
            case "--plugin": plugins.append(try Self.module(option, value))
            default: throw Mistake(text: "no option \(option)")
            }
        }
        guard !settings.service.isEmpty else { throw Mistake(text: "--service is missing") }
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
