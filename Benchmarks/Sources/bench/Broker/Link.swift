internal import CBench

/// A connection of the driver, used by one thread: to publish, or to consume.
@safe final class Link {
    /// A message that came.
    struct Message {
        var correlationID: String
        /// When it was complete.
        var time: Int64
    }

    private let link: OpaquePointer

    init(host: String, port: Int) throws {
        guard let link = unsafe cbench_new() else { throw Failure("no memory") }
        unsafe self.link = link
        try check(unsafe cbench_connect(link, host, Int32(port)))
    }

    deinit { unsafe cbench_free(link) }

    private func check(_ isDone: Bool) throws {
        guard isDone else { throw Failure("broker: " + (unsafe String(cString: cbench_error(link)))) }
    }

    // MARK: Topology

    func declareExchange(_ name: String, type: String = "fanout") throws {
        try check(unsafe cbench_declare_exchange(link, name, type))
    }

    /// A durable queue; what it holds is returned.
    @discardableResult
    func declareQueue(_ name: String, isStream: Bool = false) throws -> Int {
        let count = unsafe cbench_declare_queue(link, name, false, isStream)
        try check(count >= 0)
        return Int(count)
    }

    /// A queue that ends with this connection; its name is returned.
    func declareOwnQueue() throws -> String {
        try check(unsafe cbench_declare_queue(link, "", true, false) >= 0)
        return unsafe String(cString: cbench_queue(link))
    }

    func bind(queue: String, to exchange: String, key: String = "") throws {
        try check(unsafe cbench_bind(link, queue, exchange, key))
    }

    func deleteQueue(_ name: String) throws { try check(unsafe cbench_delete_queue(link, name)) }
    func deleteExchange(_ name: String) throws { try check(unsafe cbench_delete_exchange(link, name)) }

    // MARK: Publishing

    /// From now on ``flush()`` waits for the broker's confirms.
    func confirm() throws { try check(unsafe cbench_confirm(link)) }

    /// Returns the time just before the message was sent.
    @discardableResult
    func publish(_ request: Request, to exchange: String, key: String = "", replyTo: String? = nil) throws -> Int64 {
        let time = unsafe cbench_publish(
            link, exchange, key, request.id, replyTo, request.destination, request.body, request.body.count)
        try check(time > 0)
        return time
    }

    func flush() throws { try check(unsafe cbench_flush(link)) }

    // MARK: Consuming

    func consume(_ queue: String) throws { try check(unsafe cbench_consume(link, queue)) }

    /// The next message; nil when none comes in time.
    func next(within seconds: Double) throws -> Message? {
        let time = unsafe cbench_next(link, Int64(max(0, seconds) * 1000))
        try check(time >= 0)
        guard time > 0 else { return nil }
        return Message(correlationID: unsafe String(cString: cbench_correlation_id(link)), time: time)
    }

    /// The body of the message that came last.
    var body: String {
        var count = 0
        let bytes = unsafe cbench_body(link, &count)
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    /// Waits for the answers to requests, each of which must be that it was applied or validated; returns when the last was there.
    func answers(to requests: [Request], within seconds: Double = 30) throws -> Int64 {
        var missing = Set(requests.map(\.id))
        while let message = try next(within: seconds) {
            guard missing.remove(message.correlationID) != nil else { continue }
            let body = body
            guard [#""state":"applied""#, #""state":"validated""#].contains(where: { body.contains($0) }) else {
                throw Failure("not applied: \(body.prefix(600))")
            }
            if missing.isEmpty { return message.time }
        }
        throw Failure("no answer within \(Int(seconds)) s")
    }
}
