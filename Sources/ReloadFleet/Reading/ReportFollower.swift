internal import ReloadAMQP
public import ReloadProtocol

/// Follows the stream of reports from a point on, and goes on after a lost connection: the stream keeps what comes
/// meanwhile. A report may then come twice.
public struct ReportFollower: ~Copyable {
    private let fleet: Fleet
    private var reader: StreamReader?
    /// When the last report came: everything before it has been seen.
    private var seen = ContinuousClock.now
    private var backoff = Duration.milliseconds(100)
    /// Why there is no connection, while there is none.
    public private(set) var problem: ReloadError?

    /// Connects, and follows what is reported from now on.
    public init(_ fleet: Fleet) throws(ReloadError) {
        self.init(fleet, try StreamReader(fleet, fleet.topology.reports, from: .next))
    }

    /// Reads who is there into a view, and follows what is reported from then on, without a gap.
    public init(_ fleet: Fleet, into view: inout FleetView) throws(ReloadError) {
        var found = FleetView()
        self.init(fleet, try fleet.read(into: &found))
        view = found
    }

    /// Goes on with a reader that has been read up to now.
    init(_ fleet: Fleet, _ reader: consuming StreamReader) {
        self.fleet = fleet
        self.reader = consume reader
    }

    /// The next report, or nil after a second without one. Connects again when the connection was lost; see ``problem``.
    ///
    /// - Throws: `broker.cancelled`; `broker.timeout` after the deadline.
    public mutating func next() throws(ReloadError) -> Report? {
        try reconnect()
        try fleet.check()
        do throws(ReloadError) {
            if let report = try arrived() { return report }
            reader?.wait()
            return try arrived()
        } catch {
            reader = nil
            backoff = .milliseconds(100)
            problem = error
        }
        return nil
    }

    private mutating func arrived() throws(ReloadError) -> Report? {
        while let delivery = try reader?.next() {
            seen = .now
            if let report = fleet.report(in: delivery), report.sender != nil { return report }
        }
        return nil
    }

    private mutating func reconnect() throws(ReloadError) {
        guard reader == nil else { return }
        do throws(ReloadError) {
            let age = seen.duration(to: .now) + .seconds(1)
            reader = try StreamReader(fleet, fleet.topology.reports, from: .age(age))
            problem = nil
        } catch {
            guard !fleet.limit.isOver, !fleet.limit.isCancelled else { throw error }
            fleet.limit.sleep(backoff)
            backoff = min(backoff * 2, .seconds(2))
        }
    }
}
