internal import ReloadAMQP
internal import ReloadCore

/// Publishes on a connection of its own: one that the broker blocks would stop its acknowledgements too.
struct ConfirmingPublisher: ~Copyable {
    private let link: Link
    private let interrupter: Interrupter
    private var connection: Connection
    private var confirmed: UInt64 = 0
    /// The message sent last; what the broker says of an earlier one is no news of it.
    private var sent: (number: UInt64, id: String?) = (0, nil)
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
    ///
    /// - Throws: ``BrokerError`` or ``Interrupted``; the broker then does not have all of it.
    mutating func send(_ envelope: Envelope, exchange: String, routingKey: String) throws -> UInt64 {
        var number: UInt64 = 0
        try bounded("\(link.url) does not read: it is stuck, or short of memory or disk") {
            (connection: inout Connection) throws(BrokerError) in
            number = try connection.publish(envelope, exchange: exchange, routingKey: routingKey, mandatory: true)
        }
        sent = (number, envelope.messageID)
        return number
    }

    /// Handles what the broker has said; throws when a message was not taken.
    mutating func pump() throws {
        while let event = try next() {
            switch event {
            case .confirmed(let sequence, _):
                confirmed = max(confirmed, sequence)
            case .refused(let sequence, _):
                guard sequence >= sent.number else { continue }
                problem = BrokerError(.closed, "the broker refused the message", operation: "basic.nack")
            case .returned(let message):
                guard message.envelope.messageID == sent.id else { continue }
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
            throw explained(error)
        }
    }

    /// Bounded too: a heartbeat is sent on the way, which hangs where the broker does not read.
    private mutating func next() throws -> BrokerEvent? {
        var event: BrokerEvent?
        try bounded("\(link.url) did not answer in time") {
            (connection: inout Connection) throws(BrokerError) in
            event = try connection.next()
        }
        return event
    }

    private mutating func bounded(
        _ reason: String, _ call: (inout Connection) throws(BrokerError) -> Void
    ) throws {
        do {
            try link.bounded(interrupter) { () throws(BrokerError) in try call(&connection) }
        } catch let error as BrokerError {
            throw explained(error, reason)
        }
    }

    /// Why the time was too short, as far as that is known.
    private func explained(_ error: BrokerError, _ reason: String? = nil) -> BrokerError {
        guard error.isDeadline else { return error }
        if let blocked { return .tooSlow("\(link.url) takes no messages: \(blocked)") }
        return reason.map { .tooSlow($0) } ?? error
    }

    /// Says goodbye; the end of a command does not depend on it.
    mutating func close() {
        connection.close(timeoutMilliseconds: 200)
    }
}
