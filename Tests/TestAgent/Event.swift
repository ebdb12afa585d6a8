internal import Foundation
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

    private static let output = Mutex(FileHandle.standardOutput)

    /// Writes it at once.
    func say() {
        guard let line = try? JSONEncoder().encode(self) else { return }
        Self.output.withLock { $0.write(line + Data("\n".utf8)) }
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
        if event.level >= .warning { FileHandle.standardError.write(Data("\(event.level): \(text)\n".utf8)) }
    }
}
