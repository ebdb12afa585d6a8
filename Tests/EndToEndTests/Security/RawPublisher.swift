import Foundation
import Glibc
import ReloadAMQP

/// Bytes in AMQP's encoding.
struct Wired {
    var bytes: [UInt8] = []

    mutating func number<Number: FixedWidthInteger>(_ number: Number) {
        unsafe withUnsafeBytes(of: number.bigEndian) { unsafe bytes.append(contentsOf: $0) }
    }

    /// At most 255 bytes.
    mutating func short(_ text: some Collection<UInt8>) {
        number(UInt8(text.count))
        bytes += text
    }

    mutating func long(_ text: some Collection<UInt8>) {
        number(UInt32(text.count))
        bytes += text
    }

    static func short(_ text: String) -> [UInt8] {
        var wired = Wired()
        wired.short(Array(text.utf8))
        return wired.bytes
    }

    static func long(_ text: some Collection<UInt8>) -> [UInt8] {
        var wired = Wired()
        wired.long(text)
        return wired.bytes
    }

    /// A member of a table: its name, the letter of its kind, and its value as that kind has it.
    static func field(_ name: [UInt8], _ kind: Character, _ value: [UInt8]) -> [UInt8] {
        var wired = Wired()
        wired.short(name)
        return wired.bytes + [kind.asciiValue ?? 0] + value
    }

    static func field(_ name: String, _ kind: Character, _ value: [UInt8]) -> [UInt8] {
        field(Array(name.utf8), kind, value)
    }
}

/// A message as it goes over the wire, with properties that no library would write.
struct RawMessage {
    /// String properties by the bit of their flag.
    var properties: [UInt16: [UInt8]] = [:]
    var timestamp: UInt64?
    /// What is in the table of headers; nil for no table.
    var headers: [UInt8]?
    var body: [UInt8] = []

    static let contentType: UInt16 = 0x8000
    static let encoding: UInt16 = 0x4000
    static let correlationID: UInt16 = 0x0400
    static let replyTo: UInt16 = 0x0200
    static let messageID: UInt16 = 0x0080
    static let type: UInt16 = 0x0020
    static let appID: UInt16 = 0x0008
    static let all = [contentType, encoding, correlationID, replyTo, messageID, type, appID]

    /// The payload of its header frame.
    fileprivate var header: [UInt8] {
        let (headersFlag, modeFlag, timestampFlag): (UInt16, UInt16, UInt16) = (0x2000, 0x1000, 0x0040)
        var flags = properties.keys.reduce(modeFlag, |)
        if headers != nil { flags |= headersFlag }
        if timestamp != nil { flags |= timestampFlag }
        var wired = Wired()
        wired.number(UInt16(60))
        wired.number(UInt16(0))
        wired.number(UInt64(body.count))
        wired.number(flags)
        for bit in (0..<16).reversed().map({ UInt16(1) << $0 }) where flags & bit != 0 {
            switch bit {
            case headersFlag: wired.long(headers ?? [])
            case modeFlag: wired.number(UInt8(2))
            case timestampFlag: wired.number(timestamp ?? 0)
            default: wired.short(properties[bit] ?? [])
            }
        }
        return wired.bytes
    }
}

/// Publishes to one exchange what a library would refuse to write, with confirms. For one thread; the socket closes with it.
final class RawPublisher {
    private let socket: Int32
    private var out: [UInt8] = []
    private var input: [UInt8] = []
    private var sequence: UInt64 = 0
    private var unconfirmed: Set<UInt64> = []
    private let exchange: String
    /// Bytes in the largest frame.
    static let frameMax = 131_072

    init(_ url: String, exchange: String = "reload.control") throws {
        self.exchange = exchange
        let url = try BrokerURL(url)
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(url.port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw TestFailure("cannot connect to \(url)") }
        out = Array("AMQP".utf8) + [0, 0, 9, 1]
        try flush()
        _ = try frame()
        method(
            0, 10, 11,
            Wired.long([]) + Wired.short("PLAIN") + Wired.long(Array("\0\(url.user)\0\(url.password)".utf8))
                + Wired.short("en_US"))
        _ = try frame()
        var tune = Wired()
        tune.number(UInt16(10))
        tune.number(UInt32(Self.frameMax))
        tune.number(UInt16(0))
        method(0, 10, 31, tune.bytes)
        method(0, 10, 40, Wired.short(url.virtualHost) + Wired.short("") + [0])
        _ = try frame()
        method(1, 20, 10, Wired.short(""))
        _ = try frame()
        method(1, 85, 10, [0])
        _ = try frame()
    }

    deinit { close(socket) }

    /// Sends a message; waits only when many are not confirmed.
    func publish(_ message: RawMessage) throws {
        sequence += 1
        unconfirmed.insert(sequence)
        method(1, 60, 40, [0, 0] + Wired.short(exchange) + Wired.short("") + [0], isSent: false)
        add(2, 1, message.header)
        for start in stride(from: 0, to: message.body.count, by: Self.frameMax - 8) {
            add(3, 1, message.body[start..<min(start + Self.frameMax - 8, message.body.count)])
        }
        guard out.count > 1 << 16 || unconfirmed.count >= 1000 else { return }
        try flush()
        while unconfirmed.count >= 500 { try takeConfirm() }
    }

    /// Waits until the broker has everything.
    func awaitConfirms() throws {
        try flush()
        while !unconfirmed.isEmpty { try takeConfirm() }
    }

    /// Empties a queue.
    func purge(_ queue: String) throws {
        try awaitConfirms()
        method(1, 50, 30, [0, 0] + Wired.short(queue) + [0])
        _ = try frame()
    }

    private func takeConfirm() throws {
        let (type, payload) = try frame()
        guard type == 1, payload.starts(with: [0, 60, 0, 80]) else {
            throw TestFailure("the broker said \(String(decoding: payload.dropFirst(4), as: UTF8.self))")
        }
        let tag = payload[4..<12].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        if payload[12] & 1 == 0 {
            unconfirmed.remove(tag)
        } else {
            unconfirmed = unconfirmed.filter { $0 > tag }
        }
    }

    // MARK: Frames

    private func add(_ type: UInt8, _ channel: UInt16, _ payload: some Collection<UInt8>) {
        var wired = Wired()
        wired.number(type)
        wired.number(channel)
        wired.number(UInt32(payload.count))
        out += wired.bytes
        out += payload
        out.append(0xce)
    }

    private func method(
        _ channel: UInt16, _ classID: UInt16, _ methodID: UInt16, _ arguments: [UInt8], isSent: Bool = true
    ) {
        var wired = Wired()
        wired.number(classID)
        wired.number(methodID)
        add(1, channel, wired.bytes + arguments)
    }

    private func flush() throws {
        var sent = 0
        while sent < out.count {
            let count = unsafe out[sent...].withUnsafeBytes {
                unsafe send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw TestFailure("the broker closed the connection") }
            sent += count
        }
        out.removeAll(keepingCapacity: true)
    }

    private func frame() throws -> (type: UInt8, payload: [UInt8]) {
        try flush()
        while true {
            if input.count >= 7 {
                let size = input[3..<7].reduce(0) { $0 << 8 | Int($1) }
                if input.count >= 8 + size {
                    defer { input.removeFirst(8 + size) }
                    return (input[0], Array(input[7..<(7 + size)]))
                }
            }
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let count = unsafe recv(socket, &buffer, buffer.count, 0)
            guard count > 0 else { throw TestFailure("the broker closed the connection") }
            input += buffer[..<count]
        }
    }
}
