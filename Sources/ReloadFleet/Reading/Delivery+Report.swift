internal import ReloadAMQP
internal import ReloadProtocol

extension Fleet {
    /// The report in a message of the stream of reports; nil for anything else.
    ///
    /// What the broker guards is the routing key: a user with topic permissions cannot write under another instance's. So a
    /// report whose body names another sender or state than its key is a lie or a mistake, and is passed over, which is said
    /// once.
    func report(in delivery: Delivery) -> Report? {
        // The key first: to decode costs more.
        guard Report.isRoutingKey(delivery.routingKey), var report = try? Report.decode(delivery.envelope.body) else {
            return nil
        }
        report.user = delivery.envelope.userID
        guard report.routingKey == delivery.routingKey else {
            if warnings.isFirst() {
                let sender = "\(report.service):\(report.instance) \(report.state.rawValue)"
                warn(
                    "a report that says it is of \(sender) came as \(delivery.routingKey); such reports are passed over"
                )
            }
            return nil
        }
        return report
    }
}
