internal import ReloadAMQP
internal import ReloadCore

/// Follows the stream of reports from a point on, and goes on after a lost connection: the stream keeps what comes
/// meanwhile. A report may then come twice.
struct ReportFollower: ~Copyable {
    private let link: Link
    private var reader: StreamReader?
    /// When the last report came: everything before it has been seen.
    private var seen = ContinuousClock.now
    private var backoff = Duration.milliseconds(100)
    /// Why there is no connection, while there is none.
    private(set) var problem: BrokerError?

    /// Goes on with a reader that has been read up to now.
    init(_ link: Link, _ reader: consuming StreamReader) {
        self.link = link
        self.reader = consume reader
    }

    /// The next report, or nil after a second without one.
    ///
    /// - Throws: ``Interrupted`` after a signal, `broker.timeout` after the deadline.
    mutating func next() throws -> Report? {
        try link.check()
        do throws(BrokerError) {
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

    private mutating func arrived() throws(BrokerError) -> Report? {
        while let delivery = try reader?.next() {
            seen = .now
            if let report = delivery.report(), report.sender != nil { return report }
        }
        return nil
    }

    /// Connects again if the connection was lost; ``next()`` returns nothing until that works.
    mutating func reconnect() throws {
        guard reader == nil else { return }
        do {
            let age = seen.duration(to: .now) + .seconds(1)
            reader = try StreamReader(link, link.topology.reports, from: .age(age))
            problem = nil
        } catch let error as BrokerError {
            guard !link.interruption.isOver else { throw error }
            link.interruption.sleep(backoff)
            backoff = min(backoff * 2, .seconds(2))
        }
    }
}
