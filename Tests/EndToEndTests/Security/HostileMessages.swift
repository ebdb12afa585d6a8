import Foundation

/// Messages that nobody should send, from a seed: the same seed gives the same ones.
struct HostileMessages {
    private var random: Random
    private let service: String
    private var number = 0

    /// SplitMix64.
    struct Random: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
            return value ^ value >> 31
        }
    }

    /// - Parameter service: whom they are for; they name its module `victim`.
    init(seed: UInt64, service: String) {
        random = Random(state: seed)
        self.service = service
    }

    /// Number `n` of this row in a message's id.
    static func id(_ number: Int) -> String { "hostile-\(number)" }
    static func number(of id: String) -> Int? {
        id.hasPrefix("hostile-") ? Int(id.dropFirst("hostile-".count)) : nil
    }

    private func request(_ module: String, operation: String = "apply", more: String = "") -> [UInt8] {
        Array(
            #"{"protocol":"reload.request.v1","operation":"\#(operation)","destination":"\#(service):*"\#(more),"modules":[\#(module)]}"#
                .utf8)
    }

    private var good: [UInt8] {
        request(#"{"name":"victim","kind":"config","revision":\#(number),"inline":"ZGVwdGg6IDI=","version":"1.0"}"#)
    }

    // MARK: Made by hand

    /// What the frame of a header has room for, beside the table's members: 8 bytes of the frame, 14 of the header, the mode,
    /// the table's own length, and the id.
    private static let room = RawPublisher.frameMax - 8 - 14 - 1 - 4 - 16

    /// Headers that fill a frame. A stream adds 25 bytes to each.
    mutating func fillingFrames() -> [RawMessage] {
        [0, 8, 16, 24, 32].map { less in
            let text = [UInt8](repeating: 0x78, count: Self.room - 7 - less)
            return numbered(RawMessage(headers: Wired.field("x", "S", Wired.long(text)), body: good))
        }
    }

    /// What fills a frame or a stack, or is otherwise at the end of what the protocol can hold. Each has an id.
    mutating func byHand() -> [RawMessage] {
        let room = Self.room
        let filling = fillingFrames()
        var messages: [RawMessage] = []
        func add(_ body: [UInt8], headers: [UInt8]? = nil, _ change: (inout RawMessage) -> Void = { _ in }) {
            var message = RawMessage(headers: headers, body: body)
            change(&message)
            messages.append(message)
        }
        // The place in the stream, which the broker replaces the first of: another number, and none.
        let offset = Wired.field("x-stream-offset", "l", [0, 0, 1, 0, 0, 0, 0, 0])
        for second in [offset, Wired.field("x-stream-offset", "t", [1])] {
            add(good, headers: offset + second)
            add(good, headers: offset + offset + second)
        }
        add(
            good, headers: Wired.field("n", "d", [UInt8](repeating: 0, count: 8)) + Wired.field("m", "f", [0, 0, 0, 0]))
        // Tables in tables, arrays in arrays, and as many members as there is room for.
        add(good, headers: Self.nested(levels: room / 6, kind: "F"))
        add(good, headers: Self.nested(levels: room / 5 - 1, kind: "A"))
        add(good, headers: Array((0..<room / 3).map { _ in [0, 0x74, 1] as [UInt8] }.joined()))
        add(good, headers: Array((0..<room / 8).map { Wired.field("\($0 % 10)a", "F", [0, 0, 0, 0]) }.joined()))
        let long = [UInt8](repeating: 0xff, count: 255)
        for id in [[], [0xff, 0xfe], long, Array("\u{1b}]0;\u{7}\0".utf8), Array("../../x".utf8)] {
            add(good) { for property in RawMessage.all { $0.properties[property] = id } }
        }
        // The second makes the broker close the connection of whoever publishes to it.
        for queue in ["amq.rabbitmq.reply-to.nobody", "amq.rabbitmq.reply-to.g1hkAA.x", "reload.dead", "a\0b", ""] {
            add([]) { $0.properties[RawMessage.replyTo] = Array(queue.utf8) }
        }
        // Bodies.
        add([])
        add([UInt8](repeating: 0x5b, count: 1 << 20))
        add(request(#"{"name":"victim","revision":9223372036854775807}"#, operation: "validate"))
        add(request((0..<20_000).map { #"{"name":"m\#($0)","revision":1}"# }.joined(separator: ",")))
        add(request(#"{"name":"e\#(String(repeating: "\u{301}", count: 1 << 18))","revision":1}"#))
        add(request(#"{"name":"victim","revision":2,"path":"\#(String(repeating: "../", count: 2000))etc/passwd"}"#))
        add(request(#"{"name":"victim","revision":2,"path":"/dev/zero"}"#))
        add(
            request(
                #"{"name":"victim","revision":2,"inline":"\#(Data(String(repeating: "[", count: 1 << 19).utf8).base64EncodedString())"}"#
            ))
        add(Array(#"{"model_path":"victim\u0000","physical_path":"/proc/self/fd/0","is_append_path":true}"#.utf8))
        return filling + messages.map { numbered($0) }
    }

    /// A body over the agent's limit.
    mutating func oversized() -> RawMessage {
        numbered(RawMessage(body: [UInt8](repeating: 0x20, count: 16 << 20 + 1)))
    }

    /// Gives a message that has none an id by which its answers can be counted.
    private mutating func numbered(_ message: RawMessage) -> RawMessage {
        var message = message
        if message.properties[RawMessage.messageID] == nil {
            message.properties[RawMessage.messageID] = Array(Self.id(number).utf8)
        }
        number += 1
        return message
    }

    /// A member that holds itself so many levels deep.
    private static func nested(levels: Int, kind: Character) -> [UInt8] {
        let letter = kind.asciiValue ?? 0
        // Of a table each level has a name, which is empty.
        let size = kind == "F" ? 6 : 5
        var bytes: [UInt8] = kind == "F" ? [] : [0]
        for level in 0..<levels {
            if kind == "F" { bytes.append(0) }
            bytes.append(letter)
            var wired = Wired()
            wired.number(UInt32((levels - level - 1) * size))
            bytes += wired.bytes
        }
        return bytes
    }

    // MARK: At random

    mutating func next() -> RawMessage {
        var message = RawMessage(body: body())
        if Bool.random(using: &random) { message.headers = table(depth: 0) }
        if Int.random(in: 0..<4, using: &random) == 0 {
            for property in RawMessage.all where Int.random(in: 0..<4, using: &random) == 0 {
                // To queues that may be there a report would go, and from the journal come back.
                message.properties[property] = property == RawMessage.replyTo ? Array("no-\(number)".utf8) : noise(255)
            }
        }
        if Bool.random(using: &random) {
            message.timestamp = random.next() >> UInt64.random(in: 0..<64, using: &random)
        }
        // Most have an id of their own, so that their answers can be counted.
        if Int.random(in: 0..<20, using: &random) > 0 {
            message.properties[RawMessage.messageID] = Array(Self.id(number).utf8)
        }
        number += 1
        return message
    }

    private mutating func noise(_ most: Int) -> [UInt8] {
        (0..<Int.random(in: 0...most, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    private static let tokens: [[UInt8]] =
        [
            "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", "1e999", "null", "true", "\\u0000", "\\ud800", "\u{0}",
            "\n", "\u{1b}[2J",
            "9223372036854775808", "\u{202e}", #""name":"victim","#, #""revision":"#, #""inline":"#, #""path":"../x","#,
            #""expires_at":"1970-01-01T00:00:00Z","#, String(repeating: "[", count: 600),
            String(repeating: #"{"a":"#, count: 600),
        ].map { Array($0.utf8) } + [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xef, 0xbb, 0xbf]]

    private mutating func body() -> [UInt8] {
        var body: [UInt8]
        switch Int.random(in: 0..<8, using: &random) {
        case 0: return noise(300)
        case 1: body = Array(#"{"model_path":"victim","is_append_path":false,"physical_path":"nothing"}"#.utf8)
        case 2: body = request(#"{"name":"victim","kind":"plugin","revision":\#(number),"path":"../victim.yaml"}"#)
        case 3:
            body = request(
                #"{"name":"victim","revision":\#(number)},{"name":"nobody","revision":1}"#, operation: "validate")
        default: body = good
        }
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            guard let place = body.indices.randomElement(using: &random) else { break }
            switch Int.random(in: 0..<5, using: &random) {
            case 0: body[place] = UInt8.random(in: 0...255, using: &random)
            case 1: body.remove(at: place)
            case 2: body.removeSubrange(place...)
            case 3: body.insert(contentsOf: Self.tokens.randomElement(using: &random) ?? [], at: place)
            default: body.replaceSubrange(place..<(place + 1), with: Self.tokens.randomElement(using: &random) ?? [])
            }
        }
        return body
    }

    /// Kinds that the broker itself takes; a number that is none (NaN) closes the connection of who publishes it.
    private static let kinds: [(Character, Int?)] = [
        ("t", 1), ("b", 1), ("B", 1), ("s", 2), ("u", 2), ("I", 4), ("i", 4), ("l", 8), ("T", 8), ("V", 0), ("S", nil),
        ("x", nil),
    ]

    private static let names = ["x-reload-destination", "x-stream-offset", "x-reload-signature", "x-death", "x", ""]

    private mutating func table(depth: Int) -> [UInt8] {
        (0..<Int.random(in: 0...6, using: &random)).reduce(into: []) { table, _ in
            let name =
                Bool.random(using: &random) ? Array((Self.names.randomElement(using: &random) ?? "").utf8) : noise(60)
            if depth < 5, Int.random(in: 0..<4, using: &random) == 0 {
                table += Wired.field(name, "F", Wired.long(self.table(depth: depth + 1)))
                return
            }
            let (kind, size) = Self.kinds.randomElement(using: &random) ?? ("V", 0)
            if let size {
                table += Wired.field(name, kind, (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) })
            } else {
                table += Wired.field(name, kind, Wired.long(noise(200)))
            }
        }
    }
}
