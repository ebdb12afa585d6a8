package import Logging
package import Metrics
package import ReloadProtocol

/// Consumes requests on a thread of its own, and goes on after whatever happens to the broker.
package final class Consumer: Sendable {
    /// What a consumer tells, and asks, on its thread. Everything must return at once, because heartbeats wait for it.
    package struct Handlers: Sendable {
        /// A message, with its place if it came from a stream. Every receipt has to come back through
        /// ``acknowledge(_:)``, from any thread.
        package var delivered: @Sendable (Delivery, Receipt, StreamPosition.Place?) -> Void
        /// The connection is there; returns when messages may flow.
        package var willConsume: @Sendable () -> Void = {}
        /// Messages begin to flow.
        package var connected: @Sendable () -> Void
        /// What was published meanwhile is being read, or its end has come.
        package var backlogChanged: @Sendable (Bool) -> Void = { _ in }
        /// Whether messages may be read ahead of those that are not acknowledged.
        package var hasRoom: @Sendable () -> Bool = { false }
        /// The stream has lost so many messages that were published while nobody here read it.
        package var lost: @Sendable (_ count: Int64) -> Void = { _ in }
        /// The queue of this name is there; `isNew` when it was not before.
        package var queueFound: @Sendable (_ name: String, _ isNew: Bool) -> Void = { _, _ in }

        package init(
            delivered: @escaping @Sendable (Delivery, Receipt, StreamPosition.Place?) -> Void,
            connected: @escaping @Sendable () -> Void
        ) {
            self.delivered = delivered
            self.connected = connected
        }
    }

    private let thread: ConnectionThread
    private let mailbox: Mailbox<Receipt>
    private let loop: ConsumerLoop

    /// Makes a consumer that does nothing before ``start()``.
    ///
    /// - Parameters:
    ///   - addressee: messages whose header `x-reload-destination` means somebody else are acknowledged and not handed out; nil
    ///     hands out all.
    ///   - position: where it is in the stream; it asks for what comes after, and counts on its messages being settled there.
    ///   - prefetch: messages that may be handed out and not yet acknowledged.
    package init(
        settings: ConnectionSettings, topology: Topology, delivery: DeliveryMode, addressee: Addressee?,
        position: StreamPosition, prefetch: Int = 250, logger: Logger, metrics: any MetricsFactory, handlers: Handlers
    ) throws(ReloadError) {
        thread = try ConnectionThread(
            name: "reload-consumer", settings: settings, topology: topology, logger: logger, metrics: metrics)
        mailbox = Mailbox(wake: thread.wake)
        loop = ConsumerLoop(
            topology: topology, delivery: delivery, addressee: addressee, position: position, prefetch: prefetch,
            mailbox: mailbox, logger: logger,
            stale: Counter(label: "reload_agent_stale_receipts_total", factory: metrics), handlers: handlers)
    }

    /// Starts the thread; call it once. A broker that is away is no error.
    package func start() throws(ReloadError) { try thread.start(loop) }

    /// Acknowledges a message (`basic.ack`). A receipt that is not current any more is dropped and counted.
    package func acknowledge(_ receipt: Receipt) { mailbox.append(receipt) }

    /// Sends the acknowledgements that are waiting and ends the thread, within 3 s.
    ///
    /// - Returns: `false` if the thread still hangs in name resolution, in a TCP connect or in a callback; it ends by itself
    ///   after that.
    @discardableResult
    package func stop() -> Bool { thread.stop(flush: .zero) }
}

/// The consumer's side of its thread.
struct ConsumerLoop: ConnectionUser {
    let topology: Topology
    let delivery: DeliveryMode
    let addressee: Addressee?
    let position: StreamPosition
    let prefetch: Int
    let mailbox: Mailbox<Receipt>
    let logger: Logger
    let handlers: Consumer.Handlers
    private let stale: Counter
    /// The connection's number, and its deliveries.
    private var epoch: UInt64 = 0
    private var acknowledgements: Acknowledgements
    /// A message was passed over in this turn of the loop: more of them may follow, and share its acknowledgement.
    private var hasPassedOver = false
    /// How long they wait for one another.
    private static let patience = Duration.milliseconds(50)
    /// Of the message that is looked at; kept for its memory.
    private var fingerprint: [UInt8] = []
    /// What is read until its end is found.
    private var backlog: Backlog?
    /// Consumer tag of the backlog's probe. Messages for it may come until after it has ended.
    private var probe: String?
    /// The first message of this connection is still to come.
    private var looksForLoss = false
    /// A message ended the connection before: the probe may come upon it again, or the reader find nothing behind it.
    private var skipsBacklog = false

    init(
        topology: Topology, delivery: DeliveryMode, addressee: Addressee?, position: StreamPosition, prefetch: Int,
        mailbox: Mailbox<Receipt>, logger: Logger, stale: Counter, handlers: Consumer.Handlers
    ) {
        self.topology = topology
        self.delivery = delivery
        self.addressee = addressee
        self.position = position
        self.prefetch = prefetch
        self.mailbox = mailbox
        self.logger = logger
        self.stale = stale
        self.handlers = handlers
        acknowledgements = Acknowledgements(prefetch: prefetch)
    }

    mutating func connected(_ connection: inout Connection) throws(ReloadError) {
        handlers.willConsume()
        epoch += 1
        acknowledgements = Acknowledgements(prefetch: prefetch)
        probe = nil
        try connection.qos(prefetch: prefetch)
        switch delivery {
        case .stream:
            let start: Argument =
                switch position.attach() {
                case .first: "first"
                case .offset(let offset): .integer(offset)
                }
            looksForLoss = true
            let arguments: KeyValuePairs<String, Argument> = ["x-stream-offset": start]
            if skipsBacklog {
                _ = try connection.consume(topology.journal, arguments: arguments)
            } else {
                probe = try connection.consume(topology.journal, arguments: ["x-stream-offset": "last"])
                try connection.consume(topology.journal, as: "reader", arguments: arguments)
                backlog = Backlog()
                handlers.backlogChanged(true)
            }
            skipsBacklog = false
        case .queue(let name, let expiry):
            let count = try declare(name, expiry, on: &connection)
            _ = try connection.consume(name, exclusive: true)
            if count > 0 {
                backlog = Backlog(count: min(count, prefetch), at: .now)
                handlers.backlogChanged(true)
            }
        case .ephemeral:
            let queue = try connection.declareQueue("", durable: false, exclusive: true, autoDelete: true)
            try connection.bind(queue: queue.name, to: topology.controlExchange)
            _ = try connection.consume(queue.name, exclusive: true)
        }
    }

    mutating func begins() { handlers.connected() }

    /// Makes the queue where it is missing, and sees that it gets requests; returns how many messages wait in it.
    private func declare(_ name: String, _ expiry: Int64, on connection: inout Connection) throws(ReloadError) -> Int {
        do throws(ReloadError) {
            let queue = try connection.declareQueue(name, passive: true)
            try connection.bind(queue: name, to: topology.controlExchange)
            handlers.queueFound(name, false)
            return queue.messageCount
        } catch {
            guard error.code == .brokerNotFound, error.isChannelOnly else { throw error }
        }
        try connection.reopenChannel()
        try connection.qos(prefetch: prefetch)
        let queue = try connection.declareQueue(name, arguments: ["x-expires": .integer(expiry)])
        try connection.bind(queue: name, to: topology.controlExchange)
        handlers.queueFound(name, true)
        return queue.messageCount
    }

    mutating func passesOver(_ message: borrowing ArrivingMessage) throws(ReloadError) -> Bool {
        guard let addressee, message.withHeader(Request.destinationHeader, { !addressee.isMeant(by: $0) }) == true
        else {
            return false
        }
        if delivery == .stream {
            guard let offset = message.streamOffset, probe.map({ message.isFor(consumer: $0) }) != true,
                message.writeFingerprint(into: &fingerprint)
            else { return false }
            backlog?.arrived(offset, at: .now)
            guard position.passed(offset, fingerprint: fingerprint.span) else { throw anotherMessage(at: offset) }
            lookForLoss()
        } else {
            backlog?.arrived(at: .now)
        }
        acknowledgements.passed(message.tag)
        hasPassedOver = true
        return true
    }

    mutating func passedOver(on connection: inout Connection) throws(ReloadError) {
        if acknowledgements.isDue { try acknowledge(on: &connection) }
    }

    mutating func handle(_ event: BrokerEvent, on connection: inout Connection) throws(ReloadError) {
        switch event {
        case .delivery(let message):
            try deliver(message)
            if acknowledgements.isDue { try acknowledge(on: &connection) }
        case .cancelled:
            // For a stream this means that it was deleted, or that its node went away. Telling them apart by a passive
            // declare would race with other agents that make it anew; what is on it after attaching again tells.
            throw ReloadError(.brokerClosed, "the broker cancelled the consumer", operation: "basic.cancel")
        case .returned, .confirmed, .refused, .blocked, .unblocked:
            break
        }
    }

    private mutating func deliver(_ message: Delivery) throws(ReloadError) {
        guard delivery == .stream else {
            acknowledgements.handedOut(message.tag)
            backlog?.arrived(at: .now)
            return handlers.delivered(message, Receipt(epoch: epoch, tag: message.tag), nil)
        }
        guard let offset = message.streamOffset else {
            throw ReloadError(
                .brokerProtocolViolation, "\(topology.journal) is no stream: a message has no x-stream-offset",
                operation: "basic.deliver")
        }
        if message.consumerTag == probe {
            let isBeforeStart = position.isBeyond(offset)
            backlog?.probeArrived(offset, isBeforeStart: isBeforeStart, at: .now)
            return acknowledgements.passed(message.tag)
        }
        backlog?.arrived(offset, at: .now)
        let arrival = position.arrived(offset, fingerprint: message.envelope.fingerprint)
        if arrival != .streamWasMadeAnew { lookForLoss() }
        switch arrival {
        case .new(let place):
            acknowledgements.handedOut(message.tag)
            handlers.delivered(message, Receipt(epoch: epoch, tag: message.tag), place)
        case .known:
            acknowledgements.passed(message.tag)
        case .streamWasMadeAnew:
            throw anotherMessage(at: offset)
        }
    }

    private mutating func lookForLoss() {
        guard looksForLoss else { return }
        looksForLoss = false
        if position.missing > 0 { handlers.lost(position.missing) }
    }

    private func anotherMessage(at offset: Int64) -> ReloadError {
        streamWasMadeAnew("another message is at offset \(offset)")
    }

    private func streamWasMadeAnew(_ reason: String) -> ReloadError {
        position.streamWasMadeAnew()
        logger.warning(
            "the stream was made anew, it is read from its first message",
            metadata: ["stream": "\(topology.journal)", "reason": "\(reason)"])
        return ReloadError(.brokerClosed, "the stream was made anew: \(reason)", operation: "basic.consume")
    }

    mutating func work(on connection: inout Connection) throws(ReloadError) -> Bool {
        let receipts = mailbox.takeAll()
        for receipt in receipts where receipt.epoch != epoch || !acknowledgements.settle(receipt.tag) {
            // On a stream it may have been acknowledged ahead.
            if receipt.epoch != epoch || delivery != .stream { stale.increment() }
        }
        if delivery == .stream { readAhead() }
        if !receipts.isEmpty || !hasPassedOver || acknowledgements.isDue { try acknowledge(on: &connection) }
        hasPassedOver = false
        try lookForTheEnd(on: &connection)
        return !receipts.isEmpty
    }

    private mutating func acknowledge(on connection: inout Connection) throws(ReloadError) {
        try acknowledgements.send { (tag, multiple) throws(ReloadError) in
            try connection.acknowledge(tag, multiple: multiple)
        }
    }

    /// On a stream the place in the ledger is what counts, and an acknowledgement only lets the broker send more: it may
    /// go out before the answer when that is far behind, so that a backlog is read to its end before anything is loaded.
    private mutating func readAhead() {
        if acknowledgements.openCount >= prefetch / 2, handlers.hasRoom() { acknowledgements.settleAll() }
    }

    private mutating func lookForTheEnd(on connection: inout Connection) throws(ReloadError) {
        guard let backlog else { return }
        if let ends = backlog.ends, ends <= .now {
            self.backlog = nil
            if let probe { try connection.cancel(consumerTag: probe) }
            handlers.backlogChanged(false)
        } else if let limit = backlog.suspectUntil, limit <= .now {
            guard !backlog.isConfirmed else {
                throw streamWasMadeAnew("it ends before the offset that was asked for")
            }
            try connection.ensureQueue(topology.journal, passive: true)
            self.backlog?.brokerAnswered(at: .now)
        }
    }

    mutating func recover(from error: ReloadError, on connection: inout Connection) throws(ReloadError) -> Bool {
        false
    }

    mutating func disconnected(by error: ReloadError) -> Bool {
        // What was read so far need not wait until the broker is back.
        if backlog != nil { handlers.backlogChanged(false) }
        backlog = nil
        guard error.code == .brokerUnreadableMessage else { return false }
        // A queue is rid of it.
        guard delivery == .stream else { return true }
        skipsBacklog = true
        return error.broker?.consumerTag == probe || position.nextIsUnreadable()
    }

    /// A turn of the loop in which nothing arrives sends all acknowledgements, so there is nothing to wait for.
    var isIdle: Bool { true }

    var pause: Duration? {
        let end = (backlog?.ends ?? backlog?.suspectUntil).map {
            max(.milliseconds(1), ContinuousClock.now.duration(to: $0))
        }
        return acknowledgements.areWaiting ? min(end ?? Self.patience, Self.patience) : end
    }

    mutating func finished() {}
}
