internal import ReloadAMQP
internal import ReloadProtocol

/// Publishes on a connection of its own: one that the broker blocks would stop its acknowledgements too.
struct ConfirmingPublisher: ~Copyable {
    private let fleet: Fleet
    private let interrupter: Interrupter
    private var connection: Connection
    private var confirmed: UInt64 = 0
    /// The message sent last; what the broker says of an earlier one is no news of it.
    private var sent: (number: UInt64, id: String?) = (0, nil)
    private var problem: ReloadError?
    /// Why the broker does not read from us, while it does not.
    private var blocked: String?

    init(_ fleet: Fleet) throws(ReloadError) {
        self.fleet = fleet
        let interrupter = Interrupter()
        var connection = try fleet.open(interrupter)
        try fleet.bounded(interrupter) { () throws(ReloadError) in try connection.selectConfirms() }
        self.connection = connection
        self.interrupter = interrupter
    }

    /// Sends a persistent, mandatory message; returns the number of its confirm.
    ///
    /// - Throws: the broker then does not have all of it.
    mutating func send(_ envelope: Envelope, exchange: String, routingKey: String) throws(ReloadError) -> UInt64 {
        var number: UInt64 = 0
        try bounded("\(fleet.url) does not read: it is stuck, or short of memory or disk") {
            (connection: inout Connection) throws(ReloadError) in
            number = try connection.publish(envelope, exchange: exchange, routingKey: routingKey, mandatory: true)
        }
        sent = (number, envelope.messageID)
        return number
    }

    /// Handles what the broker has said; throws when a message was not taken.
    mutating func pump() throws(ReloadError) {
        while let event = try next() {
            switch event {
            case .confirmed(let sequence, _):
                confirmed = max(confirmed, sequence)
            case .refused(let sequence, _):
                guard sequence >= sent.number else { continue }
                problem = ReloadError(.brokerClosed, "the broker refused the message", operation: "basic.nack")
            case .returned(let message):
                guard message.envelope.messageID == sent.id else { continue }
                problem = ReloadError(
                    .brokerUnroutable, "no queue took the message: \(message.replyText)", operation: "basic.return")
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
    /// - Throws: when it did not.
    mutating func awaitConfirm(_ number: UInt64) throws(ReloadError) {
        while true {
            try pump()
            if confirmed >= number { return }
            try checkTime()
            connection.wait(
                alsoOn: fleet.limit.descriptor,
                timeoutMilliseconds: Int(fleet.limit.left(.seconds(1)).wholeMilliseconds) + 1)
        }
    }

    /// Throws when it is time to end, with what is known of the reason.
    func checkTime() throws(ReloadError) {
        do throws(ReloadError) {
            try fleet.check()
        } catch {
            throw explained(error)
        }
    }

    /// Bounded too: a heartbeat is sent on the way, which hangs where the broker does not read.
    private mutating func next() throws(ReloadError) -> BrokerEvent? {
        var event: BrokerEvent?
        try bounded("\(fleet.url) did not answer in time") {
            (connection: inout Connection) throws(ReloadError) in
            event = try connection.next()
        }
        return event
    }

    private mutating func bounded(
        _ reason: String, _ call: (inout Connection) throws(ReloadError) -> Void
    ) throws(ReloadError) {
        do throws(ReloadError) {
            try fleet.bounded(interrupter) { () throws(ReloadError) in try call(&connection) }
        } catch {
            throw explained(error, reason)
        }
    }

    /// Why the time was too short, as far as that is known.
    private func explained(_ error: ReloadError, _ reason: String? = nil) -> ReloadError {
        guard error.isDeadline else { return error }
        if let blocked { return .tooSlow("\(fleet.url) takes no messages: \(blocked)") }
        return reason.map { .tooSlow($0) } ?? error
    }

    /// Says goodbye; the end of a command does not depend on it.
    mutating func close() {
        connection.close(timeoutMilliseconds: 200)
    }
}
