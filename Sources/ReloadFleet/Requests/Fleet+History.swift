internal import ReloadAMQP
public import ReloadProtocol

extension Fleet {
    /// What was published in the last time, and how each instance answered.
    ///
    /// - Parameter since: how far back; the broker keeps requests for 30 days and reports for 7.
    /// - Throws: `broker.*`; `broker.timeout` when the limit ended it.
    public func history(since: Duration) throws(ReloadError) -> RequestLog {
        var log = RequestLog()
        var requests = try StreamReader(self, topology.journal, from: .age(since))
        try requests.readToPresent { log.add($0.envelope, isOversized: $0.isOversized) }
        requests.close()
        var reports = try StreamReader(self, topology.reports, from: .age(since))
        try reports.readToPresent { delivery in
            // Of a day's reports nearly all only say that an instance is there; the routing key tells them without
            // decoding.
            guard !delivery.routingKey.hasSuffix(".online"), !delivery.routingKey.hasSuffix(".offline"),
                let report = report(in: delivery)
            else { return }
            log.add(report)
        }
        reports.close()
        return log
    }
}
