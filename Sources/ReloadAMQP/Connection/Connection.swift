internal import CReloadAMQP
internal import Glibc
package import ReloadProtocol

/// One connection with one channel, for one thread.
///
/// It is neither copyable nor sendable, so the compiler keeps librabbitmq's rule of one thread for each connection. Any
/// thrown error with ``ReloadError/isChannelOnly`` leaves the connection usable after ``reopenChannel()``; after any other
/// one the connection is dead. A program with one thread uses it like this:
///
/// ```swift
/// var connection = try Connection.open(settings)
/// _ = try connection.consume("queue", noAcknowledge: true)
/// while !done {
///     while let event = try connection.next() { handle(event) }
///     connection.wait(timeoutMilliseconds: 1000)
/// }
/// ```
@safe package struct Connection: ~Copyable {
    private let raw: OpaquePointer
    private let interrupter: Interrupter?

    /// Connects, logs in and opens a channel, each within its limit.
    ///
    /// - Parameter interrupter: lets another thread end a login or a request that hangs.
    /// - Throws: ``ReloadError``; a refused login keeps the broker's text.
    package static func open(
        _ settings: ConnectionSettings, interrupter: Interrupter? = nil
    ) throws(ReloadError) -> Connection {
        guard let raw = unsafe creload_amqp_new(UInt64(max(0, settings.bodyLimit))) else {
            throw ReloadError(.brokerResources, "no memory for a connection", operation: "connect")
        }
        let connection = unsafe Connection(raw: raw, interrupter: interrupter)
        let timeout = settings.connectTimeout.milliseconds
        let stuck =
            settings.heartbeat > 0 ? Int32(clamping: settings.heartbeat) &* 1000 : settings.rpcTimeout.milliseconds
        let url = settings.url
        do throws(ReloadError) {
            let result = unsafe url.tls.withCValue { tls in
                unsafe creload_amqp_connect(raw, url.host, Int32(url.port), tls, timeout, stuck)
            }
            try connection.check(result)
        } catch {
            throw error.saying("cannot connect to \(url)")
        }
        interrupter?.watch(unsafe creload_amqp_socket(raw))
        do throws(ReloadError) {
            let result = unsafe url.passwordToSend.withCString { password in
                unsafe creload_amqp_login(
                    raw, url.virtualHost, url.user, password, settings.name,
                    Int32(clamping: min(settings.heartbeat, Int(UInt16.max))), timeout, settings.rpcTimeout.milliseconds
                )
            }
            // It asks the port once more, which nothing ends before its time.
            if result != 0, interrupter?.isInterrupted != true { unsafe creload_amqp_explain_login(raw) }
            try connection.check(result)
        } catch {
            var error = error
            // 403, or librabbitmq's word for a broker that does not offer it.
            if url.isExternal, error.broker?.replyCode == 403 || error.broker?.libraryCode == -0x0013 {
                error.code = .brokerExternalRefused
            }
            throw error.saying("cannot log in to \(url)")
        }
        return connection
    }

    private init(raw: OpaquePointer, interrupter: Interrupter?) {
        unsafe self.raw = raw
        self.interrupter = interrupter
    }

    deinit {
        interrupter?.forget()
        unsafe creload_amqp_free(raw)
    }

    /// Opens a new channel after the broker closed the old one (`channel.open`). Consumers and confirms do not carry over.
    package mutating func reopenChannel() throws(ReloadError) {
        try check(unsafe creload_amqp_open_channel(raw))
    }

    /// Says goodbye (`connection.close`) and waits at most this long for the answer; the socket itself is closed when the
    /// connection goes out of scope.
    package mutating func close(timeoutMilliseconds: Int = 1000) {
        _ = unsafe creload_amqp_close(raw, Int32(clamping: timeoutMilliseconds))
    }
}

extension BrokerURL.TLS? {
    /// What ``creload_amqp_connect`` takes, for the time of the call.
    fileprivate func withCValue<Result>(_ body: (UnsafePointer<creload_amqp_tls>?) -> Result) -> Result {
        guard let self else { return body(nil) }
        return unsafe self.caFile.withCString { ca in
            unsafe self.certificateFile.withCString { certificate in
                unsafe self.keyFile.withCString { key in
                    unsafe self.serverName.withCString { name in
                        var value = unsafe creload_amqp_tls(
                            ca_file: ca, certificate_file: certificate, key_file: key, server_name: name,
                            is_unverified: !self.isVerified)
                        return unsafe body(&value)
                    }
                }
            }
        }
    }
}

extension String? {
    /// NULL for what is absent.
    fileprivate func withCString<Result>(_ body: (UnsafePointer<CChar>?) -> Result) -> Result {
        guard let self else { return body(nil) }
        return unsafe self.withCString(body)
    }
}

// MARK: - Together

extension Connection {
    /// Sends what `body` publishes and asks for together, and waits for the answers to all requests afterwards: one way to the
    /// broker and back.
    ///
    /// Only requests that return nothing can be among them, and only where no message can come in between: before the first
    /// consumer, and with nothing published that waits for its confirm.
    ///
    /// - Throws: What `body` throws; or the error of the first request that was refused or not answered. The broker does
    ///   nothing of what follows one that it refuses.
    mutating func together<Result>(
        _ body: (inout Connection) throws(ReloadError) -> Result
    ) throws(ReloadError) -> Result {
        _ = unsafe creload_amqp_collect(raw, true)
        let result: Result
        do throws(ReloadError) {
            result = try body(&self)
        } catch {
            _ = unsafe creload_amqp_collect(raw, false)
            throw error
        }
        try check(unsafe creload_amqp_collect(raw, false))
        return result
    }
}

// MARK: - Topology

/// The value of an argument of a declare, bind or consume request.
package enum Argument: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    case string(String)
    case integer(Int64)
    case bool(Bool)
    /// Seconds since 1970.
    case timestamp(UInt64)

    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
}

extension Connection {
    /// What the broker says about a declared queue.
    package struct DeclaredQueue: Sendable, Equatable {
        /// The name, which the broker made if none was asked for.
        package var name: String
        /// Messages ready for delivery.
        package var messageCount: Int
        /// Consumers on it.
        package var consumerCount: Int
    }

    /// Declares an exchange (`exchange.declare`); `passive` only asks whether it exists.
    package mutating func declareExchange(
        _ name: String, type: String, passive: Bool = false, durable: Bool = true
    ) throws(ReloadError) {
        try check(unsafe creload_amqp_declare_exchange(raw, name, type, passive, durable))
    }

    /// Declares a durable queue or a stream of which nothing has to be known (`queue.declare`); `passive` only asks whether it
    /// exists.
    package mutating func ensureQueue(
        _ name: String, passive: Bool = false, arguments: KeyValuePairs<String, Argument> = [:]
    ) throws(ReloadError) {
        add(arguments)
        try check(unsafe creload_amqp_declare_queue(raw, name, passive, true, false, false, nil))
    }

    /// Declares a queue (`queue.declare`); `passive` only asks whether it exists, an empty name asks for one made by the
    /// broker.
    package mutating func declareQueue(
        _ name: String, passive: Bool = false, durable: Bool = true, exclusive: Bool = false, autoDelete: Bool = false,
        arguments: KeyValuePairs<String, Argument> = [:]
    ) throws(ReloadError) -> DeclaredQueue {
        add(arguments)
        var declared = unsafe creload_amqp_queue()
        try check(unsafe creload_amqp_declare_queue(raw, name, passive, durable, exclusive, autoDelete, &declared))
        return DeclaredQueue(
            name: unsafe string(declared.name), messageCount: Int(unsafe declared.messages),
            consumerCount: Int(unsafe declared.consumers))
    }

    /// Binds a queue to an exchange (`queue.bind`).
    package mutating func bind(queue: String, to exchange: String, routingKey: String = "") throws(ReloadError) {
        try check(unsafe creload_amqp_bind(raw, queue, exchange, routingKey))
    }

    private func add(_ arguments: KeyValuePairs<String, Argument>) {
        for (name, value) in arguments {
            switch value {
            case .string(let text): unsafe creload_amqp_add_string(raw, name, text, text.utf8.count)
            case .integer(let number): unsafe creload_amqp_add_integer(raw, name, number)
            case .bool(let flag): unsafe creload_amqp_add_bool(raw, name, flag)
            case .timestamp(let seconds): unsafe creload_amqp_add_timestamp(raw, name, seconds)
            }
        }
    }
}

// MARK: - Consuming

extension Connection {
    /// Sets how many unacknowledged messages the broker sends ahead (`basic.qos`); a stream needs it.
    package mutating func qos(prefetch: Int) throws(ReloadError) {
        try check(unsafe creload_amqp_qos(raw, UInt16(clamping: prefetch)))
    }

    /// Starts a consumer (`basic.consume`).
    ///
    /// - Parameters:
    ///   - noAcknowledge: the broker forgets each message when it is sent; a stream refuses that.
    ///   - exclusive: nobody else may consume from the queue.
    ///   - arguments: a stream takes `x-stream-offset`: `first`, `last`, `next` or an age such as `1h` as a string, an
    ///     offset as an integer, or a timestamp.
    /// - Returns: the consumer tag, made by the broker.
    package mutating func consume(
        _ queue: String, noAcknowledge: Bool = false, exclusive: Bool = false,
        arguments: KeyValuePairs<String, Argument> = [:]
    ) throws(ReloadError) -> String {
        add(arguments)
        var tag = unsafe creload_amqp_bytes()
        try check(unsafe creload_amqp_consume(raw, queue, noAcknowledge, exclusive, &tag))
        return unsafe string(tag)
    }

    /// Starts one more consumer on a channel that has one (`basic.consume` without an answer). If it is refused, ``next()`` says so.
    ///
    /// - Parameter tag: its consumer tag.
    package mutating func consume(
        _ queue: String, as tag: String, arguments: KeyValuePairs<String, Argument>
    ) throws(ReloadError) {
        add(arguments)
        try check(unsafe creload_amqp_consume_also(raw, queue, tag))
    }

    /// Ends a consumer (`basic.cancel` without an answer). Messages that are on their way still arrive.
    package mutating func cancel(consumerTag: String) throws(ReloadError) {
        try check(unsafe creload_amqp_cancel(raw, consumerTag))
    }

    /// Acknowledges a delivery, and with `multiple` all before it (`basic.ack`).
    package mutating func acknowledge(_ tag: UInt64, multiple: Bool = false) throws(ReloadError) {
        try check(unsafe creload_amqp_ack(raw, tag, multiple))
    }

}

// MARK: - Publishing

extension Connection {
    /// Asks for a confirm of every message from now on (`confirm.select`).
    package mutating func selectConfirms() throws(ReloadError) {
        try check(unsafe creload_amqp_select_confirms(raw))
    }

    /// Sends a message (`basic.publish`).
    ///
    /// What the broker thinks of it comes later, as an event or as an error of ``next()``.
    ///
    /// - Returns: the sequence number that its confirm will carry; 0 without ``selectConfirms()``.
    @discardableResult
    package mutating func publish(
        _ envelope: borrowing Envelope, exchange: String, routingKey: String, mandatory: Bool = false,
        persistent: Bool = true
    ) throws(ReloadError) -> UInt64 {
        set(.CRELOAD_AMQP_CONTENT_TYPE, envelope.contentType)
        set(.CRELOAD_AMQP_TYPE, envelope.type)
        set(.CRELOAD_AMQP_MESSAGE_ID, envelope.messageID)
        set(.CRELOAD_AMQP_CORRELATION_ID, envelope.correlationID)
        set(.CRELOAD_AMQP_REPLY_TO, envelope.replyTo)
        set(.CRELOAD_AMQP_APP_ID, envelope.appID)
        set(.CRELOAD_AMQP_USER_ID, envelope.userID)
        set(.CRELOAD_AMQP_EXPIRATION, envelope.expiration)
        if let timestamp = envelope.timestamp { unsafe creload_amqp_set_timestamp(raw, timestamp) }
        for (name, value) in envelope.headers {
            switch value {
            case .string(let text): unsafe creload_amqp_add_string(raw, name, text, text.utf8.count)
            case .integer(let number): unsafe creload_amqp_add_integer(raw, name, number)
            case .bool(let flag): unsafe creload_amqp_add_bool(raw, name, flag)
            case .other: break
            }
        }
        var sequence: UInt64 = 0
        let body = envelope.body
        try check(
            unsafe creload_amqp_publish(raw, exchange, routingKey, mandatory, persistent, body, body.count, &sequence))
        return sequence
    }

    private func set(_ property: creload_amqp_property, _ value: String?) {
        guard let value else { return }
        unsafe creload_amqp_set_property(raw, property, value, value.utf8.count)
    }
}

// MARK: - Receiving

extension Connection {
    /// The next thing the broker said, or `nil` when all that has arrived is handled. Never waits.
    ///
    /// It also sends a heartbeat that is due and notices when the broker's are missing, so call it at least every half
    /// heartbeat, which ``wait(alsoOn:timeoutMilliseconds:)`` sees to.
    package mutating func next() throws(ReloadError) -> BrokerEvent? {
        guard let pointer = unsafe creload_amqp_next(raw) else { throw lastError() }
        return unsafe event(pointer.pointee)
    }

    /// What ``next(passingOver:)`` found.
    enum Step {
        case event(BrokerEvent)
        case passedOver
        case nothing
    }

    /// The same, but of a message for which `isPassedOver` says so nothing is copied.
    mutating func next(
        passingOver isPassedOver: (borrowing ArrivingMessage) throws(ReloadError) -> Bool
    ) throws(ReloadError) -> Step {
        guard let pointer = unsafe creload_amqp_next(raw) else { throw lastError() }
        if unsafe pointer.pointee.kind == .CRELOAD_AMQP_EVENT_DELIVERY,
            try isPassedOver(unsafe ArrivingMessage(pointer, of: raw))
        {
            return .passedOver
        }
        return unsafe event(pointer.pointee).map { .event($0) } ?? .nothing
    }

    private func event(_ event: creload_amqp_event) -> BrokerEvent? {
        switch unsafe event.kind {
        case .CRELOAD_AMQP_EVENT_NOTHING:
            return nil
        case .CRELOAD_AMQP_EVENT_DELIVERY:
            let envelope = unsafe envelope(event)
            var offset: Int64?
            if case .integer(let value)? = envelope.headers["x-stream-offset"] { offset = value }
            return .delivery(
                Delivery(
                    envelope: envelope, tag: unsafe event.tag, isRedelivered: unsafe event.redelivered,
                    streamOffset: offset, exchange: unsafe string(event.exchange),
                    routingKey: unsafe string(event.routing_key), isOversized: unsafe event.oversized,
                    consumerTag: unsafe string(event.consumer_tag)))
        case .CRELOAD_AMQP_EVENT_RETURNED:
            return .returned(
                Returned(
                    envelope: unsafe envelope(event), exchange: unsafe string(event.exchange),
                    routingKey: unsafe string(event.routing_key), replyCode: Int(unsafe event.reply_code),
                    replyText: unsafe string(event.reason)))
        case .CRELOAD_AMQP_EVENT_CONFIRMED:
            return .confirmed(sequence: unsafe event.tag, multiple: unsafe event.multiple)
        case .CRELOAD_AMQP_EVENT_REFUSED:
            return .refused(sequence: unsafe event.tag, multiple: unsafe event.multiple)
        case .CRELOAD_AMQP_EVENT_CANCELLED:
            return .cancelled(consumerTag: unsafe string(event.consumer_tag))
        case .CRELOAD_AMQP_EVENT_BLOCKED:
            return .blocked(reason: unsafe string(event.reason))
        case .CRELOAD_AMQP_EVENT_UNBLOCKED:
            return .unblocked
        }
    }

    /// Waits until the broker has said something, `wakeDescriptor` is readable, the time is over, or a signal arrives.
    ///
    /// Half a heartbeat is the longest it waits. Call it after ``next()`` returned `nil`.
    ///
    /// - Parameter timeoutMilliseconds: `nil` waits for as long as heartbeats allow.
    /// - Returns: Whether `wakeDescriptor` is readable, as far as that was looked at.
    @discardableResult
    package mutating func wait(alsoOn wakeDescriptor: Int32? = nil, timeoutMilliseconds: Int? = nil) -> Bool {
        // A request between the last next() and this call may have read messages that poll cannot see.
        guard unsafe !creload_amqp_has_pending(raw) else { return false }
        let heartbeat = unsafe creload_amqp_heartbeat(raw)
        let tick = heartbeat > 0 ? heartbeat * 500 : -1
        var timeout = timeoutMilliseconds.map { Int32(clamping: max(0, $0)) } ?? tick
        if tick >= 0 { timeout = min(timeout, tick) }
        var descriptors = [
            pollfd(fd: unsafe creload_amqp_socket(raw), events: Int16(POLLIN), revents: 0),
            pollfd(fd: wakeDescriptor ?? -1, events: Int16(POLLIN), revents: 0),
        ]
        return unsafe poll(&descriptors, nfds_t(descriptors.count), timeout) > 0 && descriptors[1].revents != 0
    }

    private func envelope(_ event: creload_amqp_event) -> Envelope {
        var envelope = Envelope(
            body: unsafe [UInt8](UnsafeBufferPointer(start: event.body.bytes, count: event.body.count)))
        envelope.bodySize = unsafe event.body_size
        envelope.contentType = unsafe property(event.content_type)
        envelope.type = unsafe property(event.type)
        envelope.messageID = unsafe property(event.message_id)
        envelope.correlationID = unsafe property(event.correlation_id)
        envelope.replyTo = unsafe property(event.reply_to)
        envelope.appID = unsafe property(event.app_id)
        envelope.userID = unsafe property(event.user_id)
        envelope.expiration = unsafe property(event.expiration)
        if unsafe event.has_timestamp { envelope.timestamp = unsafe event.timestamp }
        for index in 0..<(unsafe event.header_count) {
            let header = unsafe creload_amqp_event_header(raw, index)
            let value: Envelope.HeaderValue
            switch unsafe header.kind {
            case .CRELOAD_AMQP_VALUE_STRING: value = unsafe .string(string(header.string))
            case .CRELOAD_AMQP_VALUE_INTEGER: value = unsafe .integer(header.integer)
            case .CRELOAD_AMQP_VALUE_BOOL: value = unsafe .bool(header.integer != 0)
            case .CRELOAD_AMQP_VALUE_OTHER: value = .other
            }
            let name = unsafe string(header.name)
            // Of several of a name the first, as creload_amqp_find_header() has it.
            if envelope.headers[name] == nil { envelope.headers[name] = value }
        }
        return envelope
    }

    /// Bytes that are not UTF-8 become U+FFFD: names and properties are for comparison and for people.
    private func string(_ bytes: creload_amqp_bytes) -> String {
        unsafe String(decoding: UnsafeBufferPointer(start: bytes.bytes, count: bytes.count), as: UTF8.self)
    }

    /// At most 255 bytes again where U+FFFD took more than what it stands for, so that a report can bear it.
    private func property(_ bytes: creload_amqp_bytes) -> String? {
        guard unsafe bytes.bytes != nil else { return nil }
        var text = unsafe string(bytes)
        while text.utf8.count > UInt8.max { text.unicodeScalars.removeLast() }
        return text
    }

    private func check(_ result: Int32, file: String = #fileID, line: Int = #line) throws(ReloadError) {
        guard result == 0 else { throw lastError(file: file, line: line) }
    }

    private func lastError(file: String = #fileID, line: Int = #line) -> ReloadError {
        unsafe ReloadError(creload_amqp_last_error(raw).pointee, file: file, line: line)
    }
}
