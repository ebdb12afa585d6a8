internal import ReloadAMQP

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

    /// Messages that the broker sends ahead.
    private static let prefetch: UInt64 = 200

    private let link: Link
    private let interrupter: Interrupter
    private var connection: Connection
    private var unacknowledged: UInt64 = 0
    private var lastTag: UInt64 = 0

    /// Connects and attaches to the stream.
    init(_ link: Link, _ stream: String, from start: Start) throws {
        self.link = link
        let interrupter = Interrupter()
        var connection = try link.open(interrupter)
        try link.bounded(interrupter) { () throws(BrokerError) in
            try connection.qos(prefetch: Int(Self.prefetch))
            _ = try connection.consume(stream, arguments: ["x-stream-offset": start.argument])
        }
        self.connection = connection
        self.interrupter = interrupter
    }

    /// The next message that has arrived, nil when there is none yet.
    mutating func next() throws(BrokerError) -> Delivery? {
        while let event = try connection.next() {
            switch event {
            case .delivery(let delivery):
                unacknowledged += 1
                lastTag = delivery.tag
                if unacknowledged >= Self.prefetch / 4 {
                    try connection.acknowledge(lastTag, multiple: true)
                    unacknowledged = 0
                }
                return delivery
            case .cancelled:
                throw BrokerError(.closed, "the broker cancelled the consumer", operation: "basic.cancel")
            case .returned, .confirmed, .refused, .blocked, .unblocked:
                break
            }
        }
        return nil
    }

    /// Reads the journal to its present end, without a marker: that would be a request.
    ///
    /// A second consumer begins at the last chunk, the newest that there is. It is attached after the first one, and the
    /// broker serves both in the order of attachment (measured with RabbitMQ 3.10: 120 of 120 times), so when it brings its
    /// first message either the first consumer has begun too, or nothing is young enough for it. The message count that a
    /// passive declare answers is no help: it lags behind the confirms by seconds and counts entries that are not messages.
    /// A chunk holds what was published within milliseconds and has no visible end, so a quarter of a second of silence
    /// decides there, as it does when the stream is empty.
    mutating func readJournal(take: (Delivery) -> Void) throws {
        let tag = try consumeLast(link.topology.journal)
        var newest: Int64 = -1
        var read: Int64 = -1
        var quiet: ContinuousClock.Instant?
        while true {
            while let delivery = try next() {
                quiet = nil
                let offset = delivery.streamOffset ?? 0
                if delivery.consumerTag == tag {
                    newest = max(newest, offset)
                } else {
                    read = max(read, offset)
                    take(delivery)
                }
            }
            try link.check()
            if read < 0 || read >= newest {
                let end = quiet ?? .now + .milliseconds(250)
                if end <= .now { return }
                quiet = end
            }
            wait(.milliseconds(50))
        }
    }

    /// Attaches once more, at the last chunk.
    private mutating func consumeLast(_ stream: String) throws -> String {
        var tag = ""
        try link.bounded(interrupter) { () throws(BrokerError) in
            tag = try connection.consume(stream, arguments: ["x-stream-offset": "last"])
        }
        return tag
    }

    /// Waits for a message, a signal or the deadline, but not longer than `most`.
    mutating func wait(_ most: Duration = .seconds(1)) {
        connection.wait(
            alsoOn: link.interruption.descriptor,
            timeoutMilliseconds: Int(link.interruption.left(most).wholeMilliseconds) + 1)
    }

    /// Says goodbye; the end of a command does not depend on it.
    mutating func close() {
        connection.close(timeoutMilliseconds: 200)
    }
}

extension Int64 {
    fileprivate func ceilingDivided(by divisor: Int64) -> Int64 { (self + divisor - 1) / divisor }
}
