internal import ReloadAMQP
public import ReloadProtocol

extension Fleet {
    /// Who is there and what they run. Asks nobody: it is read from the stream of reports, and needs no other right.
    ///
    /// - Parameter destination: Whose presence is asked for; nil: everybody's.
    /// - Throws: `broker.*`; `broker.timeout` when the limit ended it.
    public func view(matching destination: Destination? = nil) throws(ReloadError) -> FleetView {
        var view = FleetView()
        var reader = try read(into: &view, matching: destination)
        reader.close()
        return view
    }

    /// Reads who is there; what the reader brings next was reported after that.
    func read(
        into view: inout FleetView, matching destination: Destination? = nil
    ) throws(ReloadError) -> StreamReader {
        var reader = try StreamReader(self, topology.reports, from: .age(FleetView.window))
        try reader.readToPresent { fold($0, into: &view) }
        if let end = reader.first ?? reader.newest.map({ $0 + 1 }) {
            try addEarlier(than: end, to: &view, matching: destination)
        }
        return reader
    }

    /// Takes a message of the stream of reports.
    func fold(_ delivery: Delivery, into view: inout FleetView) {
        if let report = report(in: delivery) { view.fold(report, at: delivery.streamOffset) }
    }

    /// Adds the instances that report so seldom that the usual window has nothing of them, and finds out who of those with an
    /// interval of their own is there.
    ///
    /// - Parameter end: offset of the first message of that window, which was read to the present a moment ago.
    func addEarlier(
        than end: Int64, to view: inout FleetView, matching destination: Destination?
    ) throws(ReloadError) {
        let present = ContinuousClock.now
        var earlier = FleetView()
        /// By their routing keys, without the state.
        var known: [Substring: Instance] = [:]
        var reader = try StreamReader(self, topology.reports, from: .age(Report.longestInterval * 3))
        try reader.read(before: end) { delivery in
            let key = delivery.routingKey
            let isOffline = key.hasSuffix(".offline")
            guard isOffline || key.hasSuffix(".online") else { return }
            let name = key[..<(key.lastIndex(of: ".") ?? key.endIndex)]
            // Nearly all have the usual interval, or are of before and name none: to see that costs less than to decode.
            let body = delivery.envelope.body
            guard isOffline || body.contains(Self.intervalKey) && !body.contains(Self.usualInterval) else {
                if let instance = known.removeValue(forKey: name) { earlier.forget(instance) }
                return
            }
            guard let report = report(in: delivery), let sender = report.sender else { return }
            known[name] = sender
            earlier.fold(report, at: delivery.streamOffset)
        }
        reader.close()
        view.fold(earlier: earlier)
        // The broker does not say when a message came, but where what is younger than so much begins. That it was read some time
        // ago is nothing to hold against an instance.
        for interval in view.unusualIntervals(matching: destination) {
            let age = interval * 3 + present.duration(to: .now) + .seconds(1)
            view.oldest[interval] = try oldest(within: age) ?? .max
        }
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

    private static let intervalKey = Array(#""report_interval_ms""#.utf8)
    private static let usualInterval = intervalKey + Array(":\(FleetView.usualInterval.wholeMilliseconds),".utf8)
}

extension [UInt8] {
    /// Whether the other bytes are in it, one after another. The standard library's takes 200 times as long.
    fileprivate func contains(_ other: [UInt8]) -> Bool {
        guard count >= other.count, let first = other.first else { return other.isEmpty }
        return span.indices.prefix(count - other.count + 1).contains { start in
            self[start] == first && self[start..<start + other.count].elementsEqual(other)
        }
    }
}
