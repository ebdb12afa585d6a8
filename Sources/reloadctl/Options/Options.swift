internal import ArgumentParser
internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

/// What every command takes.
struct BrokerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            The broker, amqp[s]://…, or passfile:PATH, a file that holds the URL; else $AMQP_URL, else \
            amqp://guest:guest@127.0.0.1:5672/.
            """, valueName: "url"))
    var broker: String?

    @Flag(help: "One JSON object a line on standard output, and nothing else there.")
    var json = false

    /// - Throws: ``ReloadError`` with `broker.bad_url` or `broker.bad_passfile`; the text never holds a password.
    func fleet(_ watch: SignalWatch) throws(ReloadError) -> Fleet {
        try Fleet(broker: broker, limit: watch.limit) { StandardError.line("reloadctl: warning: \($0)") }
    }
}

extension BrokerOptions {
    /// Asks the fleet something, within the command's time.
    ///
    /// - Throws: ``ExitStatus`` after a signal; else ``ReloadError``.
    func ask<Answer>(_ timeout: TimeoutOption, _ question: (Fleet) throws(ReloadError) -> Answer) throws -> Answer {
        let watch = try SignalWatch(timeout: timeout.timeout.duration)
        do throws(ReloadError) {
            return try question(try fleet(watch))
        } catch {
            if error.code == .brokerCancelled, let signal = watch.signal { throw ExitStatus.signal(signal) }
            throw error
        }
    }
}

/// The limit of every command that comes to an end by itself.
struct TimeoutOption: ParsableArguments {
    @Option(help: "Longest time for all of it, the broker included, such as 500ms, 30s, 10m, 1d.")
    var timeout = DurationArgument(.seconds(30))

    func validate() throws {
        guard timeout.duration > .zero else { throw ValidationError("--timeout must be positive") }
    }
}

/// Whom a request is for.
struct DestinationOption: ParsableArguments {
    @Option(help: ArgumentHelp("Glob over service:instance; absent means all.", valueName: "glob"))
    var destination: String?

    var parsed: Destination? { destination.map(Destination.init) }
}

/// What a request is signed with.
struct KeyOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Sign with the key in this file, which keygen has made; else the one that $RELOAD_SIGNING_KEY names.",
            valueName: "file"))
    var key: String?

    /// - Throws: `keys.unusable`
    func read() throws(ReloadError) -> SigningKey? {
        let environment = ProcessInfo.processInfo.environment["RELOAD_SIGNING_KEY"].flatMap { $0.isEmpty ? nil : $0 }
        guard let file = key ?? environment else { return nil }
        return try SigningKey(file: file)
    }
}

/// How long a request is waited for.
struct WaitOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            Answers to wait for: a number, 0 for none, or all: those of every instance that is present when the \
            request is sent and that the destination matches.
            """, valueName: "n|all"))
    var wait = WaitArgument.all
}

/// The value of `--wait`.
enum WaitArgument: ExpressibleByArgument, Equatable {
    case all
    case count(Int)

    var value: RequestRun.Wait {
        switch self {
        case .all: .all
        case .count(let count): .count(count)
        }
    }

    init?(argument: String) {
        if argument == "all" {
            self = .all
        } else if let count = Int(argument), count >= 0 {
            self = .count(count)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .all: "all"
        case .count(let count): "\(count)"
        }
    }
}

/// A length of time as operators write it: a whole number and `ms`, `s`, `m`, `h` or `d`.
struct DurationArgument: ExpressibleByArgument, Equatable {
    let duration: Duration

    init(_ duration: Duration) {
        self.duration = duration
    }

    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && $0.isNumber }
        // 10,000 days are enough for anyone, and keep every sum of times within its type.
        let units: [String: Int64] = ["ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000]
        guard let number = Int64(digits), let unit = units[String(argument[digits.endIndex...])],
            number <= 10_000 * 86_400_000 / unit
        else { return nil }
        duration = .milliseconds(number * unit)
    }

    var defaultValueDescription: String { duration.text }
}

/// A digest on the command line, with or without `sha256:`.
struct DigestArgument: ExpressibleByArgument {
    /// `sha256:<64 lowercase hexadecimal digits>`
    let digest: String

    init?(argument: String) {
        let text = argument.lowercased()
        let hex = text.hasPrefix(Digest.prefix) ? text.dropFirst(Digest.prefix.count) : text[...]
        guard hex.utf8.count == 64, hex.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }) else { return nil }
        digest = Digest.prefix + hex
    }
}

/// The value of `--kind`; a type of its own because `ModuleKind` belongs to another module.
enum KindArgument: String, ExpressibleByArgument, CaseIterable {
    case plugin, config, custom

    var kind: ModuleKind? { ModuleKind(rawValue: rawValue) }
}

extension Duration {
    /// The largest unit that keeps it whole: `90s`, `10m`, `1d`.
    var text: String {
        let total = wholeMilliseconds
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] as [(String, Int64)]
        where total >= size && total % size == 0 {
            return "\(total / size)\(unit)"
        }
        return "\(total)ms"
    }

    /// How long ago something was, in one or two units: `3.2s`, `4m10s`, `2d3h`. Clocks that differ can make it negative;
    /// that is shown as nothing.
    var age: String {
        let total = max(0, wholeMilliseconds)
        let seconds = total / 1000
        switch seconds {
        case ..<10: return "\(seconds).\(total % 1000 / 100)s"
        case ..<60: return "\(seconds)s"
        case ..<3600: return "\(seconds / 60)m\(seconds % 60)s"
        case ..<86_400: return "\(seconds / 3600)h\(seconds % 3600 / 60)m"
        default: return "\(seconds / 86_400)d\(seconds % 86_400 / 3600)h"
        }
    }
}
