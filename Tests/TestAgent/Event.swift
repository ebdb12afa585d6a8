internal import FoundationEssentials
internal import Glibc
internal import Logging
internal import Synchronization

/// One line on standard output.
struct Event: Encodable {
    struct Module: Encodable {
        var revision: Int64
        var digest: String?
        var generation: UInt64
    }

    var event: String
    /// `started`, `status`: everything that is registered.
    var modules: [String: Module]?
    /// `changed`
    var module: String?
    var revision: Int64?
    var generation: UInt64?
    /// `status`
    var residentKilobytes: Int?
    var trimmedKilobytes: Int?
    var allocatedKilobytes: Int?
    var descriptors: Int?
    /// `log`
    var level: String?
    var message: String?

    enum CodingKeys: String, CodingKey {
        case event, modules, module, revision, generation, descriptors, level, message
        case residentKilobytes = "rss_kb"
        case trimmedKilobytes = "trimmed_kb"
        case allocatedKilobytes = "allocated_kb"
    }

    /// Writes it at once.
    func say() {
        guard let line = try? JSONEncoder().encode(self) else { return }
        StandardStream.output.write(String(decoding: line, as: UTF8.self))
    }
}

/// Where the service speaks.
enum StandardStream: CInt {
    case output = 1
    case error = 2

    /// Held while a line is written, so that no two mix.
    private static let turn = Mutex(())

    /// Writes a line at once, as far as somebody reads it.
    func write(_ line: String) {
        var rest = Array((line + "\n").utf8)[...]
        Self.turn.withLock { _ in
            while !rest.isEmpty {
                let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(rawValue, $0.baseAddress, $0.count) }
                guard count >= 0 || errno == EINTR else { return }
                rest = rest.dropFirst(max(count, 0))
            }
        }
    }
}

/// The agent's log: everything from `notice` on as an event, warnings on standard error as well.
struct EventLog: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.notice

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let details = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        let text = "\(event.message)\(details)"
        Event(event: "log", level: event.level.rawValue, message: text).say()
        if event.level >= .warning { StandardStream.error.write("\(event.level): \(text)") }
    }
}
