import Foundation
import ReloadAMQP
import ReloadCore

/// A plain AMQP client of a test, on a thread of its own: publishes what no publisher of ours would, and reads reports
/// and dead letters. `Connection` is for one thread; each call here makes one, does its work and closes it.
struct Wire: Sendable {
    let broker: Broker

    /// Publishes a body to the control exchange.
    func publish(_ body: [UInt8], id: String?, replyTo: String? = nil, destination: String? = nil) async throws {
        var envelope = Envelope(body: body)
        envelope.messageID = id
        envelope.replyTo = replyTo
        if let destination { envelope.headers[Request.destinationHeader] = .string(destination) }
        let sent = envelope
        try await perform { connection in
            try connection.selectConfirms()
            let number = try connection.publish(sent, exchange: "reload.control", routingKey: "", mandatory: true)
            try Self.wait(&connection) { event in
                if case .confirmed(let sequence, _) = event { return sequence >= number ? true : nil }
                return nil
            }
        }
    }

    /// What `start` set in motion, read from the status exchange from before it began: the first report that `pick` takes.
    func report<Value: Sendable>(
        _ pick: @escaping @Sendable (Report) -> Value?, after start: @escaping @Sendable () async throws -> Void
    ) async throws -> Value {
        try await first(
            from: ("reload.status", "#"),
            { delivery in (try? Report.decode(delivery.envelope.body)).flatMap(pick) }, after: start)
    }

    /// The first message of an exchange that `pick` takes, from before `start` on.
    func first<Value: Sendable>(
        from source: (exchange: String, key: String), _ pick: @escaping @Sendable (Delivery) -> Value?,
        after start: @escaping @Sendable () async throws -> Void
    ) async throws -> Value {
        let (isBound, bound) = AsyncStream.makeStream(of: Void.self)
        async let value = perform { connection in
            let queue = try connection.declareQueue("", durable: false, exclusive: true, autoDelete: true)
            try connection.bind(queue: queue.name, to: source.exchange, routingKey: source.key)
            _ = try connection.consume(queue.name, noAcknowledge: true)
            bound.yield()
            return try Self.wait(&connection) { event in
                if case .delivery(let delivery) = event { return pick(delivery) }
                return nil
            }
        }
        for await _ in isBound { break }
        try await start()
        return try await value
    }

    @discardableResult
    private static func wait<Value>(
        _ connection: inout Connection, _ pick: (BrokerEvent) throws -> Value?
    ) throws -> Value {
        let limit = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < limit {
            while let event = try connection.next() {
                if let value = try pick(event) { return value }
            }
            connection.wait(timeoutMilliseconds: 1000)
        }
        throw TestFailure("nothing came for a minute")
    }

    /// Runs `body` with a connection on a thread of its own.
    @discardableResult
    private func perform<Value: Sendable>(
        _ body: @escaping @Sendable (inout Connection) throws -> Value
    ) async throws -> Value {
        let url = broker.url
        return try await withCheckedThrowingContinuation { continuation in
            Thread {
                continuation.resume(
                    with: Result {
                        var connection = try Connection.open(
                            ConnectionSettings(url: try BrokerURL(url), name: "test", bodyLimit: 64 << 20))
                        try Topology().declare(on: &connection)
                        let value = try body(&connection)
                        connection.close()
                        return value
                    })
            }.start()
        }
    }
}
