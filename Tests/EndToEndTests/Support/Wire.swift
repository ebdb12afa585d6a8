import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol

/// A plain AMQP client of a test, on a thread of its own: publishes what no publisher of ours would, and reads reports
/// and dead letters. `Connection` is for one thread; each call here makes one, does its work and closes it.
struct Wire: Sendable {
    let broker: Broker
    var topology = Topology()

    /// Makes what is missing of the topology.
    func declare() async throws {
        try await perform { _ in }
    }

    /// Publishes a body to the control exchange.
    func publish(_ body: [UInt8], id: String?, replyTo: String? = nil, destination: String? = nil) async throws {
        var envelope = Envelope(body: body)
        envelope.messageID = id
        envelope.replyTo = replyTo
        if let destination { envelope.headers[Request.destinationHeader] = .string(destination) }
        try await send(envelope, exchange: "reload.control", routingKey: "")
    }

    /// Publishes a message and waits for the broker's confirm.
    ///
    /// - Throws: ``ReloadError`` when the broker refuses it.
    func send(_ envelope: Envelope, exchange: String, routingKey: String) async throws {
        try await perform { connection in
            try connection.selectConfirms()
            let number = try connection.publish(
                envelope, exchange: exchange, routingKey: routingKey, mandatory: true)
            try Self.wait(&connection) { event in
                if case .confirmed(let sequence, _) = event { return sequence >= number ? true : nil }
                return nil
            }
        }
    }

    /// Publishes requests on one connection, as fast as it goes, and returns when the broker has confirmed them all. When it
    /// goes away in the middle, those without a confirm are published again, under the same ids.
    func publish(_ requests: [NumberedRequest]) async throws {
        let url = try BrokerURL(broker.url)
        try await onThread {
            var settings = ConnectionSettings(url: url, name: "test")
            settings.heartbeat = 5
            var left = requests[...]
            let limit = ContinuousClock.now + .seconds(120)
            while !left.isEmpty {
                do throws(ReloadError) {
                    var connection = try Connection.open(settings)
                    try topology.declare(on: &connection)
                    try connection.selectConfirms()
                    try Self.publish(&left, on: &connection)
                    connection.close()
                } catch {
                    guard ContinuousClock.now < limit else { throw error }
                    // A broker that is not there refuses at once.
                    _ = poll(nil, 0, 50)
                }
            }
        }
    }

    /// Publishes and takes away what is confirmed, in order: the broker confirms so on one channel.
    private static func publish(
        _ left: inout ArraySlice<NumberedRequest>, on connection: inout Connection
    ) throws(ReloadError) {
        let first = left.startIndex
        var next = first
        var confirmed: Set<Int> = []
        while !left.isEmpty {
            for _ in 0..<100 where next < left.endIndex {
                _ = try connection.publish(
                    left[next].envelope, exchange: "reload.control", routingKey: "", mandatory: true)
                next += 1
            }
            while let event = try connection.next() {
                switch event {
                case .confirmed(let sequence, let multiple):
                    let index = first + Int(sequence) - 1
                    confirmed.formUnion(
                        multiple ? left.startIndex..<max(index + 1, left.startIndex) : index..<index + 1)
                    while let oldest = left.indices.first, confirmed.remove(oldest) != nil { left.removeFirst() }
                case .returned(let message):
                    // The stream was deleted a moment ago; whoever connects declares it.
                    throw ReloadError(.brokerUnroutable, message.replyText, operation: "basic.publish")
                case .refused:
                    throw ReloadError(.brokerUnroutable, "refused", operation: "basic.publish")
                case .delivery, .cancelled, .blocked, .unblocked: break
                }
            }
            if next == left.endIndex, !left.isEmpty { connection.wait(timeoutMilliseconds: 1000) }
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
        async let value = perform(ending: bound) { connection in
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
        ending stream: AsyncStream<Void>.Continuation? = nil,
        _ body: @escaping @Sendable (inout Connection) throws -> Value
    ) async throws -> Value {
        let url = broker.url
        return try await onThread {
            defer { stream?.finish() }
            var connection = try Connection.open(
                ConnectionSettings(url: try BrokerURL(url), name: "test", bodyLimit: 64 << 20))
            try topology.declare(on: &connection)
            let value = try body(&connection)
            connection.close()
            return value
        }
    }

    func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try body() }) }.start()
        }
    }
}

/// One of a row of requests.
struct NumberedRequest: Sendable {
    let id: String
    private(set) var envelope: Envelope

    /// Asks for a copy of the answer.
    mutating func reply(to queue: String) { envelope.replyTo = queue }

    /// An `apply` of one module for all instances of a service.
    ///
    /// - Parameter artifact: the members of the module's object that say where its bytes are.
    init(id: String, service: String, module: String, kind: ModuleKind, revision: Int64, artifact: String) {
        self.id = id
        let body = """
            {"protocol":"\(Request.protocolName)","operation":"apply","destination":"\(service):*","modules":[\
            {"name":"\(module)","kind":"\(kind.rawValue)","revision":\(revision),\(artifact)}]}
            """
        var envelope = Envelope(body: Array(body.utf8))
        envelope.messageID = id
        envelope.type = Request.protocolName
        envelope.headers[Request.destinationHeader] = .string("\(service):*")
        self.envelope = envelope
    }

    /// A config whose `depth` is its revision.
    init(id: String, service: String, config: String, revision: Int64) {
        let file = Data("depth: \(revision)\n".utf8).base64EncodedString()
        self.init(
            id: id, service: service, module: config, kind: .config, revision: revision,
            artifact: #""inline":"\#(file)""#)
    }
}
