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
            if let report = report(in: delivery) { view.fold(report, at: delivery.streamOffset) }
        }
        try addEarlier(than: reader.first, to: &view)
        reader.close()
        return view
    }

    /// Adds the instances that report so seldom that the usual window has nothing of them, and finds out who of those with an
    /// interval of their own is there.
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
            earlier.fold(report, at: delivery.streamOffset)
        }
        var reader = try StreamReader(self, topology.reports, from: .age(Report.longestInterval * 3))
        if let first {
            try reader.read(before: first, take: take)
        } else {
            try reader.readToPresent(take: take)
        }
        reader.close()
        view.fold(earlier: earlier)
        // The broker does not say when a message came, but where what is younger than so much begins.
        for interval in view.unusualIntervals { view.oldest[interval] = try oldest(within: interval * 3) ?? .max }
    }

    /// Offset of the first report that is no older; nil when there is none, which only a second without one tells.
    private func oldest(within age: Duration) throws(ReloadError) -> Int64? {
        let end = ContinuousClock.now + .seconds(1)
        var reader = try StreamReader(self, topology.reports, from: .age(age))
        while ContinuousClock.now < end {
            if let delivery = try reader.next() {
                reader.close()
                return delivery.streamOffset
            }
            try check()
            reader.wait(.milliseconds(50))
        }
        reader.close()
        return nil
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
