internal import ReloadAMQP
public import ReloadProtocol

extension Fleet {
    /// Who is there and what they run. Asks nobody: it is read from the stream of reports, and needs no other right.
    ///
    /// - Throws: `broker.*`; `broker.timeout` when the limit ended it.
    public func view() throws(ReloadError) -> FleetView {
        var view = FleetView()
        var reader = try StreamReader(self, topology.reports, from: .age(FleetView.window))
        try reader.readToPresent { delivery in
            if let report = report(in: delivery) { view.fold(report) }
        }
        try addEarlier(than: reader.first, to: &view)
        reader.close()
        return view
    }

    /// Adds the instances that report so seldom that the usual window has nothing of them.
    ///
    /// - Parameter first: offset of the first message of that window; nil when there was none.
    func addEarlier(than first: Int64?, to view: inout FleetView) throws(ReloadError) {
        var earlier = FleetView()
        let take = { (delivery: Delivery) in
            // Nearly all have the usual interval: to see that costs less than to decode.
            guard delivery.routingKey.hasSuffix(".online") || delivery.routingKey.hasSuffix(".offline"),
                delivery.envelope.body.contains(Self.intervalKey), !delivery.envelope.body.contains(Self.usualInterval),
                let report = report(in: delivery)
            else { return }
            earlier.fold(report)
        }
        var reader = try StreamReader(self, topology.reports, from: .age(Report.longestInterval * 3))
        if let first {
            try reader.read(before: first, take: take)
        } else {
            try reader.readToPresent(take: take)
        }
        reader.close()
        view.fold(earlier: earlier)
    }

    private static let intervalKey = Array(#""report_interval_ms":"#.utf8)
    private static let usualInterval = intervalKey + Array("\(FleetView.usualInterval.wholeMilliseconds),".utf8)
}

extension [UInt8] {
    /// Whether the other bytes are in it, one after another.
    fileprivate func contains(_ other: [UInt8]) -> Bool {
        guard count >= other.count, let first = other.first else { return other.isEmpty }
        return span.indices.prefix(count - other.count + 1).contains { start in
            self[start] == first && self[start..<start + other.count].elementsEqual(other)
        }
    }
}
