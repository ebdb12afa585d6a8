package import Logging
internal import Metrics

/// How an agent gets its messages.
package enum DeliveryMode: String, Sendable {
    /// From the journal, with what was published while it was away.
    case stream
    /// From a queue that lives as long as the connection; what is published while it is away is lost.
    case ephemeral
}

/// Says which message an acknowledgement is for.
package struct Receipt: Sendable, Hashable {
    /// What tag and offset belong to: the connection's number, for a stream the stream's (see ``OffsetTracker``).
    let epoch: UInt64
    let tag: UInt64
    let offset: Int64?
}

/// Consumes requests on a thread of its own, and goes on after whatever happens to the broker.
package final class Consumer: Sendable {
    private let thread: ConnectionThread
    private let mailbox: Mailbox<ConsumerLoop.Command>
    private let loop: ConsumerLoop

    /// Makes a consumer that does nothing before ``start()``.
    ///
    /// - Parameters:
    ///   - prefetch: messages that may be handed out and not yet acknowledged.
    ///   - onDelivery: gets each message, on the consumer's thread. It must return at once, because heartbeats wait for it.
    ///     Every receipt has to come back through ``acknowledge(_:)`` or ``reject(_:)``, from any thread.
    ///   - onConnected: is called on the consumer's thread each time messages begin to flow.
    package init(
        settings: ConnectionSettings, topology: Topology, delivery: DeliveryMode, prefetch: Int = 100, logger: Logger,
        onDelivery: @escaping @Sendable (Delivery, Receipt) -> Void, onConnected: @escaping @Sendable () -> Void
    ) throws(BrokerError) {
        thread = try ConnectionThread(name: "reload-consumer", settings: settings, topology: topology, logger: logger)
        mailbox = Mailbox(wake: thread.wake)
        loop = ConsumerLoop(
            topology: topology, delivery: delivery, prefetch: prefetch, mailbox: mailbox, onDelivery: onDelivery,
            onConnected: onConnected)
    }

    /// Starts the thread; call it once. A broker that is away is no error.
    package func start() throws(BrokerError) { try thread.start(loop) }

    /// Acknowledges a message (`basic.ack`). A receipt that is not current any more is dropped and counted.
    package func acknowledge(_ receipt: Receipt) { mailbox.append(.acknowledge(receipt)) }

    /// Refuses a message (`basic.reject` without requeue; for a stream, which keeps its messages anyway, `basic.ack`). A
    /// receipt that is not current any more is dropped and counted.
    package func reject(_ receipt: Receipt) { mailbox.append(.reject(receipt)) }

    /// Sends the acknowledgements that are waiting and ends the thread, within 3 s.
    ///
    /// - Returns: `false` if the thread still hangs in name resolution, in a TCP connect or in a callback; it ends by itself
    ///   after that.
    @discardableResult
    package func stop() -> Bool { thread.stop(flush: .zero) }
}

/// The consumer's side of its thread.
struct ConsumerLoop: ConnectionUser {
    enum Command: Sendable {
        case acknowledge(Receipt)
        case reject(Receipt)

        var receipt: Receipt {
            switch self {
            case .acknowledge(let receipt), .reject(let receipt): receipt
            }
        }
    }

    let topology: Topology
    let delivery: DeliveryMode
    let prefetch: Int
    let mailbox: Mailbox<Command>
    let onDelivery: @Sendable (Delivery, Receipt) -> Void
    let onConnected: @Sendable () -> Void
    private let stale = Counter(label: "reload_agent_stale_receipts")
    private var tracker = OffsetTracker()
    /// Ephemeral only: the connection's number, and its tags that nobody has settled. An acknowledgement of any other tag
    /// would make the broker close the channel.
    private var epoch: UInt64 = 0
    private var outstanding: Set<UInt64> = []

    init(
        topology: Topology, delivery: DeliveryMode, prefetch: Int, mailbox: Mailbox<Command>,
        onDelivery: @escaping @Sendable (Delivery, Receipt) -> Void, onConnected: @escaping @Sendable () -> Void
    ) {
        self.topology = topology
        self.delivery = delivery
        self.prefetch = prefetch
        self.mailbox = mailbox
        self.onDelivery = onDelivery
        self.onConnected = onConnected
    }

    mutating func connected(_ connection: inout Connection) throws(BrokerError) {
        try connection.qos(prefetch: prefetch)
        switch delivery {
        case .stream:
            let now = ContinuousClock.now
            let start: Argument =
                switch tracker.start(now: now) {
                case .next: "next"
                case .first: "first"
                case .offset(let offset): .integer(offset)
                case .age(let seconds): .string("\(seconds)s")
                }
            _ = try connection.consume(topology.journal, arguments: ["x-stream-offset": start])
            tracker.attached(askedAt: now)
        case .ephemeral:
            epoch += 1
            outstanding = []
            let queue = try connection.declareQueue("", durable: false, exclusive: true, autoDelete: true)
            try connection.bind(queue: queue.name, to: topology.controlExchange)
            _ = try connection.consume(queue.name, exclusive: true)
        }
        onConnected()
    }

    mutating func handle(_ event: BrokerEvent, on connection: inout Connection) throws(BrokerError) {
        switch event {
        case .delivery(let message):
            switch (delivery, message.streamOffset) {
            case (.ephemeral, _):
                outstanding.insert(message.tag)
                onDelivery(message, Receipt(epoch: epoch, tag: message.tag, offset: nil))
            case (.stream, let offset?):
                switch tracker.arrived(offset, tag: message.tag) {
                case .handOut:
                    onDelivery(message, Receipt(epoch: tracker.incarnation, tag: message.tag, offset: offset))
                case .keep:
                    break
                case .acknowledge:
                    try connection.acknowledge(message.tag)
                }
            case (.stream, nil):
                throw BrokerError(
                    .protocolViolation, "\(topology.journal) is no stream: a message has no x-stream-offset",
                    operation: "basic.deliver")
            }
        case .cancelled:
            // For a stream this means that it was deleted, or that its node went away. Telling them apart by a passive
            // declare would race with other agents that make it anew, and an old offset on a new stream is silence for
            // ever; reading all again is only work.
            tracker.streamDeleted()
            throw BrokerError(.closed, "the broker cancelled the consumer", operation: "basic.cancel")
        case .returned, .confirmed, .refused, .blocked, .unblocked:
            break
        }
    }

    mutating func work(on connection: inout Connection) throws(BrokerError) -> Bool {
        let commands = mailbox.takeAll()
        for command in commands {
            guard let tag = settle(command.receipt) else { continue }
            switch (command, delivery) {
            // A broker closes the connection for a basic.reject on a stream, which has nowhere to put the message.
            case (.acknowledge, _), (.reject, .stream): try connection.acknowledge(tag)
            case (.reject, .ephemeral): try connection.reject(tag)
            }
        }
        return !commands.isEmpty
    }

    /// The tag to name to the broker, if it still waits for one.
    private mutating func settle(_ receipt: Receipt) -> UInt64? {
        if let offset = receipt.offset {
            switch tracker.settled(offset, incarnation: receipt.epoch) {
            case .settle(let tag): return tag
            case .later: return nil
            case .stale: break
            }
        } else if receipt.epoch == epoch, outstanding.remove(receipt.tag) != nil {
            return receipt.tag
        }
        stale.increment()
        return nil
    }

    mutating func recover(from error: BrokerError, on connection: inout Connection) throws(BrokerError) -> Bool {
        false
    }

    mutating func disconnected(by error: BrokerError) {}

    /// Acknowledgements wait only until the next turn of the loop, so there is nothing to wait for.
    var isIdle: Bool { true }

    var pause: Duration? { nil }

    mutating func finished() {}
}
