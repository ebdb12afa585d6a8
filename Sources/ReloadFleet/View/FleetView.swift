public import FoundationEssentials
public import ReloadProtocol

/// One instance of one service.
public struct Instance: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Name of the service.
    public let service: String
    /// Name of the instance in it, by default `<host>/<process id>`.
    public let name: String

    /// An instance by its names.
    public init(service: String, name: String) {
        self.service = service
        self.name = name
    }

    /// `service:instance`, what a destination is matched against.
    public var description: String { "\(service):\(name)" }

    /// By service, then by name.
    public static func < (left: Instance, right: Instance) -> Bool {
        (left.service, left.name) < (right.service, right.name)
    }
}

extension Report {
    /// Who it is from; nil for those that only mark a place in the stream.
    public var sender: Instance? {
        service == Report.reservedService ? nil : Instance(service: service, name: instance)
    }

    /// The service's name that no service may bear.
    package static let reservedService = "reloadctl"
}

/// Who is there and what they run, folded from reports in the order of the stream.
///
/// An instance is present for three of its own report intervals. With the interval that nearly all have, and that is taken where
/// a report names none, the broker's clock decides: only that much of the stream is read. With another one it is the time in
/// its newest report.
public struct FleetView: Sendable {
    /// What an instance's interval counts as when its reports do not name one.
    static let usualInterval = Duration.seconds(30)
    /// Three of them.
    static let window = usualInterval * 3

    /// What is known of one instance.
    public struct Entry: Sendable {
        /// State of the newest report.
        public var state: ReportState
        /// When the newest report was made, by the instance's clock.
        public var at: Date?
        /// Time between two of its `online` reports.
        public var interval: Duration
        /// The login that the newest report came from, as the broker checked it.
        public var user: String?
        /// What it runs, by name.
        public var modules: [String: ModuleReport]
    }

    private var entries: [Instance: Entry] = [:]

    /// Nobody is there yet.
    public init() {}

    /// Takes the next report. `online` and `offline` carry a whole inventory, an answer only the modules it is about.
    public mutating func fold(_ report: Report) {
        guard let sender = report.sender else { return }
        var modules = entries[sender]?.modules ?? [:]
        if report.state == .online || report.state == .offline { modules = [:] }
        // What is not running there is no module of the instance, only a name in a request.
        for module in report.modules where module.running != nil { modules[module.name] = module }
        entries[sender] = Entry(
            state: report.state, at: ReloadJSON.date(report.at),
            interval: report.interval ?? Self.usualInterval, user: report.user, modules: modules)
    }

    /// Takes over who is only in a view of an earlier time.
    mutating func fold(earlier view: FleetView) {
        entries.merge(view.entries) { newer, _ in newer }
    }

    /// The instances that are there and that the destination matches.
    ///
    /// - Parameters:
    ///   - destination: nil matches all.
    ///   - now: The time to hold reports against whose interval is not the usual one.
    public func present(matching destination: Destination? = nil, at now: Date = Date()) -> [Instance: Entry] {
        entries.filter { instance, entry in
            entry.state != .offline && Self.isYoung(entry, now)
                && destination?.matches(service: instance.service, instance: instance.name) ?? true
        }
    }

    private static func isYoung(_ entry: Entry, _ now: Date) -> Bool {
        guard entry.interval != usualInterval, let at = entry.at else { return true }
        return now.timeIntervalSince(at) < 3 * Double(entry.interval.wholeMilliseconds) / 1000
    }
}
