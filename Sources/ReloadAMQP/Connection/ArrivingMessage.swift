internal import CReloadAMQP
internal import ReloadProtocol

/// A message where the connection put it, before anything of it is copied. Good only during the call it is handed to.
@safe struct ArrivingMessage: ~Copyable {
    private let raw: OpaquePointer
    private let event: UnsafePointer<creload_amqp_event>

    init(_ event: UnsafePointer<creload_amqp_event>, of raw: OpaquePointer) {
        unsafe self.event = event
        unsafe self.raw = raw
    }

    /// The delivery tag to acknowledge on the same connection.
    var tag: UInt64 { unsafe event.pointee.tag }

    /// The position in the stream; `nil` when the queue is no stream.
    var streamOffset: Int64? {
        guard let header = unsafe header("x-stream-offset") else { return nil }
        return unsafe header.kind == .CRELOAD_AMQP_VALUE_INTEGER ? header.integer : nil
    }

    /// Whether it has a header of this name that is a string, and what `body` makes of its bytes.
    func withHeader<Value>(_ name: String, _ body: (Span<UInt8>) -> Value) -> Value? {
        guard let header = unsafe header(name), unsafe header.kind == .CRELOAD_AMQP_VALUE_STRING else { return nil }
        return unsafe body(Self.buffer(header.string).span)
    }

    /// Whether it is for the consumer with this tag.
    func isFor(consumer: String) -> Bool {
        unsafe Self.buffer(event.pointee.consumer_tag).elementsEqual(consumer.utf8)
    }

    /// Writes what ``Envelope/fingerprint`` says of it, as UTF-8; false when that takes more than its properties.
    func writeFingerprint(into text: inout [UInt8]) -> Bool {
        let id = unsafe Self.buffer(event.pointee.message_id)
        let correlation = unsafe Self.buffer(event.pointee.correlation_id)
        // Bytes that are not UTF-8 are different ones in a string.
        guard unsafe event.pointee.message_id.bytes != nil, unsafe Self.isASCII(id), unsafe Self.isASCII(correlation)
        else { return false }
        text.removeAll(keepingCapacity: true)
        unsafe text.append(contentsOf: id)
        text.append(UInt8(ascii: "/"))
        unsafe text.append(contentsOf: correlation)
        text.append(UInt8(ascii: "/"))
        Self.append(unsafe event.pointee.has_timestamp ? event.pointee.timestamp : 0, to: &text)
        text.append(UInt8(ascii: "/"))
        Self.append(unsafe event.pointee.body_size, to: &text)
        return true
    }

    private func header(_ name: String) -> creload_amqp_header? {
        let header = unsafe creload_amqp_find_header(raw, name, name.utf8.count)
        return unsafe header.name.bytes == nil ? nil : header
    }

    private static func buffer(_ bytes: creload_amqp_bytes) -> UnsafeBufferPointer<UInt8> {
        unsafe UnsafeBufferPointer(start: bytes.bytes, count: bytes.count)
    }

    private static func isASCII(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        unsafe bytes.allSatisfy { $0 < 0x80 }
    }

    private static func append(_ number: UInt64, to text: inout [UInt8]) {
        let start = text.count
        var rest = number
        repeat {
            text.append(UInt8(ascii: "0") + UInt8(rest % 10))
            rest /= 10
        } while rest > 0
        text[start...].reverse()
    }
}

extension Envelope {
    /// Tells one message of a stream from another. In the ledger, so it stays as it is.
    var fingerprint: String {
        "\(messageID ?? Digest.of(body))/\(correlationID ?? "")/\(timestamp ?? 0)/\(bodySize)"
    }
}
