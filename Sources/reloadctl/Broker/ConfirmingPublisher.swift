internal import ReloadAMQP
internal import ReloadCore

/// Publishes on a connection of its own: one that the broker blocks would stop its acknowledgements too.
struct ConfirmingPublisher: ~Copyable {
    private let link: Link
    private let interrupter: Interrupter
    private var connection: Connection
    private var confirmed: UInt64 = 0
    private var problem: BrokerError?
    /// Why the broker does not read from us, while it does not.
    private var blocked: String?

    init(_ link: Link) throws {
        self.link = link
        let interrupter = Interrupter()
        var connection = try link.open(interrupter)
        try link.bounded(interrupter) { () throws(BrokerError) in try connection.selectConfirms() }
        self.connection = connection
        self.interrupter = interrupter
    }

    /// Sends a persistent, mandatory message; returns the number of its confirm.
    mutating func send(_ envelope: Envelope, exchange: String, routingKey: String) throws -> UInt64 {
        var number: UInt64 = 0
        try link.bounded(interrupter) { () throws(BrokerError) in
            number = try connection.publish(envelope, exchange: exchange, routingKey: routingKey, mandatory: true)
        }
        return number
    }

    /// Handles what the broker has said; throws when a message was not taken.
    mutating func pump() throws(BrokerError) {
        while let event = try connection.next() {
            switch event {
            case .confirmed(let sequence, _):
                confirmed = max(confirmed, sequence)
            case .refused:
                problem = BrokerError(.closed, "the broker refused the message", operation: "basic.nack")
            case .returned(let message):
                problem = BrokerError(
                    .unroutable, "no queue took the message: \(message.replyText)", operation: "basic.return")
            case .blocked(let reason):
                blocked = reason
            case .unblocked:
                blocked = nil
            case .delivery, .cancelled:
                break
            }
        }
        if let problem { throw problem }
    }

    /// Waits until the broker has confirmed the message with this number.
    ///
    /// - Throws: ``BrokerError`` when it did not; ``Interrupted`` after a signal.
    mutating func awaitConfirm(_ number: UInt64) throws {
        while true {
            try pump()
            if confirmed >= number { return }
            try checkTime()
            connection.wait(
                alsoOn: link.interruption.descriptor,
                timeoutMilliseconds: Int(link.interruption.left(.seconds(1)).wholeMilliseconds) + 1)
        }
    }

    /// Throws when it is time to end, with what is known of the reason.
    func checkTime() throws {
        do {
            try link.check()
        } catch let error as BrokerError {
            guard let blocked else { throw error }
            throw BrokerError.tooSlow("the broker takes no messages: \(blocked)", operation: "connection.blocked")
        }
    }

    /// Says goodbye; the end of a command does not depend on it.
    mutating func close() {
        connection.close(timeoutMilliseconds: 200)
    }
}
