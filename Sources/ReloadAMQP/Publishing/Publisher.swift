package import Logging
package import Metrics
package import ReloadProtocol
internal import Synchronization

/// Publishes on a connection and a thread of its own, with confirms.
///
/// Apart from the consumer, because a broker that is short of memory stops reading from connections that publish, and
/// would not see acknowledgements on them.
package final class Publisher: Sendable {
    private let thread: ConnectionThread
    private let outbox: Mutex<Outbox>
    private let dropped: Counter
    private let waiting: Gauge

    /// Makes a publisher that sends nothing before ``start()``.
    ///
    /// - Parameter outboxLimit: messages that may wait for a broker that is away; the oldest is dropped for one more.
    package init(
        settings: ConnectionSettings, topology: Topology, outboxLimit: Int = 10_000, logger: Logger,
        metrics: any MetricsFactory
    ) throws(ReloadError) {
        thread = try ConnectionThread(
            name: "reload-publish", settings: settings, topology: topology, logger: logger, metrics: metrics)
        dropped = Counter(label: "reload_agent_outbox_dropped_total", factory: metrics)
        waiting = Gauge(label: "reload_agent_outbox_reports", factory: metrics)
        outbox = Mutex(Outbox(limit: outboxLimit))
    }

    /// Starts the thread; call it once. A broker that is away is no error.
    package func start() throws(ReloadError) { try thread.start(PublisherLoop(publisher: self)) }

    /// Puts a persistent message into the outbox, from any thread.
    ///
    /// It is sent at least once: again after a reconnect without a confirm, and again when the broker refused it.
    ///
    /// - Parameter completion: gets the outcome, on the publisher's thread, or for a message dropped from a full outbox on
    ///   the thread that published too much, or at once on the caller's for a direct message after one was refused. It must
    ///   return at once. ``ReloadCode/brokerUnroutable`` means that a
    ///   mandatory message found no queue.
    package func publish(
        _ envelope: Envelope, exchange: String, routingKey: String, mandatory: Bool = false,
        completion: @escaping @Sendable (Result<Void, ReloadError>) -> Void = { _ in }
    ) {
        let message = QueuedMessage(
            envelope: envelope, exchange: exchange, routingKey: routingKey, mandatory: mandatory, completion: completion
        )
        let (dropped, wake) = outbox.withLock { outbox in
            defer { waiting.record(outbox.count) }
            return outbox.add(message)
        }
        if wake { thread.wake.signal() }
        report(dropped)
    }

    /// Has the outbox emptied for at most this long, then ends the thread within 3 s. What is left fails with
    /// ``ReloadCode/brokerStopped``.
    ///
    /// - Returns: `false` if the thread still hangs in name resolution, in a TCP connect or in a callback; it ends by itself
    ///   after that.
    @discardableResult
    package func stop(flushing deadline: Duration = .zero) -> Bool {
        thread.stop(flush: look { $0.isEmpty } ? .zero : deadline)
    }

    /// Changes the outbox and then, without the lock, reports what that settled.
    fileprivate func settle(_ change: (inout sending Outbox) -> [Settled]) {
        report(
            outbox.withLock { outbox in
                defer { waiting.record(outbox.count) }
                return change(&outbox)
            })
    }

    fileprivate func look<Value: Sendable>(_ body: (inout sending Outbox) -> Value) -> Value {
        outbox.withLock { body(&$0) }
    }

    private func report(_ settled: [Settled]) {
        for message in settled {
            if case .failure(let error) = message.result, error.code == .brokerOutboxFull { dropped.increment() }
            message.report()
        }
    }
}

/// The publisher's side of its thread.
private struct PublisherLoop: ConnectionUser {
    let publisher: Publisher

    mutating func connected(_ connection: inout Connection) throws(ReloadError) {
        publisher.look { $0.connected() }
        try connection.selectConfirms()
    }

    mutating func begins() {}

    mutating func passesOver(_ message: borrowing ArrivingMessage) -> Bool { false }

    mutating func passedOver(on connection: inout Connection) {}

    mutating func handle(_ event: BrokerEvent, on connection: inout Connection) throws(ReloadError) {
        switch event {
        case .confirmed(let sequence, let multiple):
            publisher.settle { $0.confirmed(sequence, multiple: multiple) }
        case .refused(let sequence, let multiple):
            publisher.settle { $0.refused(sequence, multiple: multiple, now: .now) }
        case .returned(let message):
            publisher.look { $0.returned(message) }
        case .blocked:
            publisher.look { $0.blocked(true) }
        case .unblocked:
            publisher.look { $0.blocked(false) }
        case .delivery, .cancelled:
            break
        }
    }

    mutating func work(on connection: inout Connection) throws(ReloadError) -> Bool {
        guard publisher.look({ $0.hasWaiting }) else { return false }
        return try connection.together { (connection) throws(ReloadError) in try send(on: &connection) }
    }

    private func send(on connection: inout Connection) throws(ReloadError) -> Bool {
        // A few at a time, so that confirms and heartbeats have their turn.
        for count in 0..<32 {
            guard let message = publisher.look({ $0.take(now: .now) }) else { return count > 0 }
            do throws(ReloadError) {
                let sequence = try connection.publish(
                    message.envelope, exchange: message.exchange, routingKey: message.routingKey,
                    mandatory: message.mandatory)
                publisher.look { $0.sent(sequence) }
            } catch {
                guard error.code == .brokerBadMessage else { throw error }
                publisher.settle { $0.notSent(error) }
                // The shim refuses before it sends anything; the library may stop in the middle of a message.
                if error.broker?.libraryCode != nil { throw error }
            }
        }
        return true
    }

    mutating func recover(from error: ReloadError, on connection: inout Connection) throws(ReloadError) -> Bool {
        guard error.isChannelOnly else { return false }
        publisher.settle { $0.connectionLost(error) }
        try connection.reopenChannel()
        try connection.selectConfirms()
        return true
    }

    mutating func disconnected(by error: ReloadError) -> Bool {
        publisher.settle { $0.connectionLost(error) }
        return false
    }

    var isIdle: Bool { publisher.look { $0.isEmpty } }

    var pause: Duration? { publisher.look { $0.pause(now: .now) } }

    mutating func finished() {
        publisher.settle {
            $0.close(ReloadError(.brokerStopped, "stopped before the broker confirmed", operation: "stop"))
        }
    }
}
