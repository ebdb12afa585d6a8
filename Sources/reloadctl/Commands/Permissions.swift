internal import ArgumentParser
internal import ReloadAMQP
internal import ReloadFleet
internal import ReloadProtocol

struct Permissions: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints the rabbitmqctl lines that give a user the least rights it needs.",
        discussion: """
            For an agent, or with --publisher for who publishes and looks with reloadctl. Nothing is changed, and the \
            broker is not asked. Neither kind of user may make exchanges, queues or streams of the fleet: whoever may \
            configure makes them first, with any command that talks to the broker, such as reloadctl status. With \
            --json each line is an object {"command", "user", "vhost", …}, "command" being the words.
            """)

    @Option(help: "Service of the agent.")
    var service: String?

    @Option(
        help: ArgumentHelp(
            """
            Instance of the agent; a * stands for any text, as in 'web-3/*' for every process of a host. Absent means \
            all. With --delivery queue neither stands for a dot: write '*.example.com/*' for hosts of that domain.
            """))
    var instance: String?

    @Option(help: "Name of the broker's user.")
    var user: String

    @Option(help: "Virtual host.")
    var vhost = "/"

    @Option(help: "How the agent gets its requests: \(Delivery.allCases.map(\.rawValue).joined(separator: ", ")).")
    var delivery = Delivery.stream

    @Flag(help: "For who publishes requests and reads reports.")
    var publisher = false

    @Flag(help: "One JSON object a line on standard output, and nothing else there.")
    var json = false

    enum Delivery: String, ExpressibleByArgument, CaseIterable {
        case stream, queue, ephemeral
    }

    func validate() throws {
        guard !user.isEmpty, !vhost.isEmpty else { throw ValidationError("--user and --vhost are not empty") }
        guard publisher == (service == nil), !publisher || instance == nil else {
            throw ValidationError("give --service, and perhaps --instance, for an agent, or --publisher")
        }
        guard service != "", instance != "" else { throw ValidationError("--service and --instance are not empty") }
    }

    func run() throws {
        let rights =
            service.map { Rights(agentOf: $0, instance: instance, delivery: delivery, topology: Topology()) }
            ?? Rights(publisherOn: Topology())
        if json {
            for line in rights.lines(user: user, vhost: vhost) { StandardOutput.line(line) }
        } else {
            StandardOutput.line(
                "# The user itself: rabbitmqctl add_user \(user.shellQuoted), which asks for a password.")
            for line in rights.lines(user: user, vhost: vhost) {
                StandardOutput.line(line.text)
            }
        }
    }
}

/// What a user may do: regular expressions over names, and over the routing keys of reports it writes.
struct Rights: Equatable {
    var configure: String
    var write: String
    var read: String
    let statusExchange: String
    var statusKeys: String

    /// Of an agent: it reads requests and writes reports under its own name, and cannot publish a request.
    init(agentOf service: String, instance: String?, delivery: Permissions.Delivery, topology: Topology) {
        let written = [topology.statusExchange, topology.deadExchange].map(\.regexQuoted)
        statusExchange = topology.statusExchange
        // As ``Report/routingKey`` is made: a dot separates, and dots in names are replaced.
        let sender = instance.map { $0.regex(any: "[^.]*", dots: "_") } ?? "[^.]+"
        statusKeys = "^\(service.regex(any: nil, dots: "_"))\\.\(sender)\\.[a-z_]+$"
        let control = topology.controlExchange.regexQuoted
        switch delivery {
        case .stream:
            configure = "^$"
            write = Self.any(of: written)
            read = Self.any(of: [topology.journal.regexQuoted])
        case .queue:
            // The queue is named after the instance without the process id, which is not part of a chosen name. What is
            // left open has no dots: with dots the queues of a service "crawler.eu" would be among those of "crawler".
            let lasting = instance.map { $0.hasSuffix("/*") ? String($0.dropLast(2)) : $0 }
            let queue = "reload.agent.\(service).".regexQuoted + (lasting?.regex(any: "[^.]*", dots: ".") ?? "[^.]+")
            configure = Self.any(of: [queue])
            write = Self.any(of: written + [queue])
            read = Self.any(of: [control, queue])
        case .ephemeral:
            let queue = "amq\\.gen-.*"
            configure = Self.any(of: [queue])
            write = Self.any(of: written + [queue])
            read = Self.any(of: [control, queue])
        }
    }

    /// Of who publishes: it writes requests, and into the reports only the marks by which reloadctl finds their end.
    init(publisherOn topology: Topology) {
        configure = "^$"
        write = Self.any(of: [topology.controlExchange, topology.statusExchange].map(\.regexQuoted))
        read = Self.any(of: [topology.journal, topology.reports].map(\.regexQuoted))
        statusExchange = topology.statusExchange
        statusKeys = "^\(Report.reservedService)\\.[^.]+\\.offline$"
    }

    private static func any(of expressions: [String]) -> String { "^(\(expressions.joined(separator: "|")))$" }

    /// One of `rabbitmqctl`'s command lines.
    struct Line: Encodable, Equatable {
        let command: [String]
        let user: String
        let vhost: String
        var exchange: String?
        var configure: String?
        let write: String
        let read: String

        /// For a POSIX shell.
        var text: String { command.map(\.shellQuoted).joined(separator: " ") }
    }

    func lines(user: String, vhost: String) -> [Line] {
        func command(_ name: String) -> [String] { ["rabbitmqctl", name, "-p", vhost, user] }
        return [
            Line(
                command: command("set_permissions") + [configure, write, read], user: user, vhost: vhost,
                configure: configure, write: write, read: read),
            // Nobody here binds to the exchange of reports: they are read from the stream.
            Line(
                command: command("set_topic_permissions") + [statusExchange, statusKeys, "^$"], user: user,
                vhost: vhost, exchange: statusExchange, write: statusKeys, read: "^$"),
        ]
    }
}

extension String {
    /// A regular expression (PCRE) that only this text matches.
    fileprivate var regexQuoted: String { regex(any: nil, dots: ".") }

    /// The same with something for `*` and for a dot.
    fileprivate func regex(any: String?, dots: Character) -> String {
        var expression = ""
        for character in self {
            if character == "*", let any {
                expression += any
                continue
            }
            let character = character == "." ? dots : character
            let isPlain = !character.isASCII || character.isLetter || character.isNumber || "_-/:".contains(character)
            expression += isPlain ? "\(character)" : "\\\(character)"
        }
        return expression
    }

    /// The text as one word of a POSIX shell.
    fileprivate var shellQuoted: String {
        let isPlain = utf8.allSatisfy { byte in
            let character = Character(UnicodeScalar(byte))
            return byte < 0x80 && (character.isLetter || character.isNumber || "_-/.:@%+=,".contains(character))
        }
        return isPlain && !isEmpty ? self : "'" + replacing("'", with: #"'\''"#) + "'"
    }
}
