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
/// An instance is present for three of its own report intervals, by the broker's clock: one whose own clock is wrong counts as
/// well.
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
        /// Where the newest report is in the stream; nil for one that has only just come.
        var offset: Int64?
        /// Whether one of its reports had all of its modules.
        var hasInventory: Bool
        /// The login that the newest report came from, as the broker checked it.
        public var user: String?
        /// What it runs, by name.
        public var modules: [String: ModuleReport]
    }

    private var entries: [Instance: Entry] = [:]
    /// For an interval that is not the usual one: the first offset that is younger than three of them.
    var oldest: [Duration: Int64] = [:]

    /// Nobody is there yet.
    public init() {}

    /// Takes the next report, which has only just come. `online` and `offline` carry a whole inventory, an answer only the
    /// modules it is about.
    public mutating func fold(_ report: Report) { fold(report, at: nil) }

    mutating func fold(_ report: Report, at offset: Int64?) {
        guard let sender = report.sender else { return }
        var modules = entries[sender]?.modules ?? [:]
        let isInventory = report.state == .online || report.state == .offline
        if isInventory { modules = [:] }
        // What is not running there is no module of the instance, only a name in a request.
        for module in report.modules where module.running != nil { modules[module.name] = module }
        entries[sender] = Entry(
            state: report.state, at: ReloadJSON.date(report.at),
            interval: report.interval ?? Self.usualInterval, offset: offset,
            hasInventory: isInventory || entries[sender]?.hasInventory == true, user: report.user, modules: modules)
    }

    /// Takes over who is only in a view of an earlier time, and what only that one knows of the others.
    mutating func fold(earlier view: FleetView) {
        entries.merge(view.entries) { newer, older in
            guard !newer.hasInventory else { return newer }
            var entry = newer
            entry.modules = older.modules.merging(newer.modules) { $1 }
            entry.hasInventory = older.hasInventory
            return entry
        }
    }

    /// Somebody reports at the usual interval: what was known of it from earlier does not count.
    mutating func forget(_ instance: Instance) { entries[instance] = nil }

    /// Intervals that are not the usual one, of those that may be there; at most eight, which anybody could make more.
    func unusualIntervals(matching destination: Destination?) -> [Duration] {
        let intervals = Set(present(matching: destination).values.map(\.interval)).subtracting([Self.usualInterval])
        return Array(intervals.sorted(by: >).prefix(8))
    }

    /// The instances that are there and that the destination matches; nil matches all.
    public func present(matching destination: Destination? = nil) -> [Instance: Entry] {
        entries.filter { instance, entry in
            entry.state != .offline && isYoung(entry)
                && destination?.matches(service: instance.service, instance: instance.name) ?? true
        }
    }

    private func isYoung(_ entry: Entry) -> Bool {
        guard let oldest = oldest[entry.interval], let offset = entry.offset else { return true }
        return offset >= oldest
    }
}
