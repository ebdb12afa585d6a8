internal import ReloadAMQP
internal import ReloadCore
internal import Synchronization

extension Delivery {
    /// The report in a message of the stream of reports; nil for anything else.
    ///
    /// What the broker guards is the routing key: a user with topic permissions cannot write under another instance's. So a
    /// report whose body names another sender or state than its key is a lie or a mistake, and is passed over, which is said
    /// once.
    func report() -> Report? {
        // The key first: to decode costs more.
        guard Report.isRoutingKey(routingKey), var report = try? Report.decode(envelope.body) else { return nil }
        report.user = envelope.userID
        guard report.routingKey == routingKey else {
            let isFirst = Self.hasWarned.withLock { hasWarned in
                defer { hasWarned = true }
                return !hasWarned
            }
            if isFirst {
                let sender = "\(report.service):\(report.instance) \(report.state.rawValue)"
                StandardError.line(
                    "reloadctl: warning: a report that says it is of \(sender) came as \(routingKey); such reports are passed over"
                        .printable)
            }
            return nil
        }
        return report
    }

    private static let hasWarned = Mutex(false)
}
