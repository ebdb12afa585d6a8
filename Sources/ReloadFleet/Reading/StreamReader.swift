internal import ReloadAMQP
internal import ReloadProtocol

/// Reads one of the two streams, from a given age on.
struct StreamReader: ~Copyable {
    /// Where to begin.
    enum Start {
        /// What comes from now on.
        case next
        /// What was published at most this long ago, by the broker's clock.
        case age(Duration)

        var argument: Argument {
            switch self {
            case .next: "next"
            case .age(let age): .string("\(max(1, age.wholeMilliseconds.ceilingDivided(by: 1000)))s")
            }
        }
    }

    /// Tag of the consumer that looks for the end.
    private static let probe = "end"
    /// Messages that the broker sends ahead.
    private static let prefetch: UInt64 = 200

    private let fleet: Fleet
    private let stream: String
    private let interrupter: Interrupter
    private var connection: Connection
    private var unacknowledged: UInt64 = 0
    private var lastTag: UInt64 = 0
    /// Offset of the first message.
    private(set) var first: Int64?
    /// The newest offset that was found in looking for the end; nil when the stream is empty.
    private(set) var newest: Int64?

    /// Connects and attaches to the stream.
    init(_ fleet: Fleet, _ stream: String, from start: Start) throws(ReloadError) {
        self.fleet = fleet
        self.stream = stream
        let interrupter = Interrupter()
        // Anybody who may write reports could fill the memory with larger ones.
        var connection = try fleet.open(
            interrupter, bodyLimit: stream == fleet.topology.reports ? Report.bodyLimit : 16 << 20)
        try fleet.bounded(interrupter) { () throws(ReloadError) in
            try connection.qos(prefetch: Int(Self.prefetch))
            _ = try connection.consume(stream, arguments: ["x-stream-offset": start.argument])
        }
        self.connection = connection
        self.interrupter = interrupter
    }

    /// The next message that has arrived, nil when there is none yet.
    mutating func next() throws(ReloadError) -> Delivery? {
        while let event = try connection.next() {
            switch event {
            case .delivery(let delivery):
                if first == nil, delivery.consumerTag != Self.probe { first = delivery.streamOffset }
                unacknowledged += 1
                lastTag = delivery.tag
                if unacknowledged >= Self.prefetch / 4 {
                    try connection.acknowledge(lastTag, multiple: true)
                    unacknowledged = 0
                }
                return delivery
            case .cancelled:
                throw ReloadError(.brokerClosed, "the broker cancelled the consumer", operation: "basic.cancel")
            case .returned, .confirmed, .refused, .blocked, .unblocked:
                break
            }
        }
        return nil
    }

    /// Reads what comes before an offset that is or was there. A second in which nothing comes ends it, too: then all of that is
    /// older than where this begins.
    ///
    /// - Parameter take: Gets each message, in order.
    mutating func read(before end: Int64, take: (Delivery) -> Void) throws(ReloadError) {
        let patience = ContinuousClock.now + .seconds(1)
        while first != nil || ContinuousClock.now < patience {
            while let delivery = try next() {
                guard let offset = delivery.streamOffset, offset < end else { return }
                take(delivery)
                if offset == end - 1 { return }
            }
            try fleet.check()
            wait(.milliseconds(50))
        }
    }

    /// Reads to the present end without publishing anything, so that who may only read can, and so that it works while the
    /// broker takes no messages.
    ///
    /// A stream does not say where its present ends, and the message count of a passive declare is no help: it lags behind
    /// the confirms by seconds and counts entries that are not messages (RabbitMQ 3.10). So a second consumer begins at the
    /// last chunk. The broker serves consumers in the order of attachment (120 of 120 times); when the second one has its
    /// first message, the first one has begun too, or nothing is young enough for it. A chunk holds what was published
    /// within milliseconds and arrives in one go, but its own end cannot be seen either: a quarter of a second is given for
    /// that. A stream without any message is silent; then a second decides.
    ///
    /// - Parameter take: Gets each message, in order.
    mutating func readToPresent(take: (Delivery) -> Void) throws(ReloadError) {
        let tag = Self.probe
        try fleet.bounded(interrupter) { () throws(ReloadError) in
            try connection.consume(stream, as: tag, arguments: ["x-stream-offset": "last"])
        }
        var read: Int64 = -1
        var newest: Int64 = -1
        defer { self.newest = newest < 0 ? nil : newest }
        var settled = ContinuousClock.now + .seconds(1)
        while true {
            while let delivery = try next() {
                let offset = delivery.streamOffset ?? 0
                if delivery.consumerTag != tag {
                    read = max(read, offset)
                    take(delivery)
                    if read >= newest && settled <= .now { return }
                } else if newest < 0 {
                    newest = offset
                    settled = .now + .milliseconds(250)
                } else if settled > .now {
                    newest = max(newest, offset)
                }
            }
            try fleet.check()
            if settled <= .now && (read < 0 || read >= newest) { return }
            wait(.milliseconds(50))
        }
    }

    /// Waits for a message, a signal or the deadline, but not longer than `most`.
    mutating func wait(_ most: Duration = .seconds(1)) {
        connection.wait(
            alsoOn: fleet.limit.descriptor,
            timeoutMilliseconds: Int(fleet.limit.left(most).wholeMilliseconds) + 1)
    }

    /// Says goodbye; the end of a command does not depend on it.
    mutating func close() {
        connection.close(timeoutMilliseconds: 200)
    }
}

extension Int64 {
    fileprivate func ceilingDivided(by divisor: Int64) -> Int64 { (self + divisor - 1) / divisor }
}
