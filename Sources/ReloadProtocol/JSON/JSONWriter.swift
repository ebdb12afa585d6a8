/// Writes JSON as ``ReloadJSON/encoder()`` does, for what is written with every answer: an encoder takes longer for a report
/// than a reload does for its work. The caller names keys in their order, which is that of their bytes.
package struct JSONWriter {
    package private(set) var bytes: [UInt8] = []
    private var isFirst = true

    package init(capacity: Int = 1024) {
        bytes.reserveCapacity(capacity)
    }

    /// `{…}` with the members that `body` writes.
    package mutating func object(_ body: (inout JSONWriter) -> Void) {
        nest(UInt8(ascii: "{"), UInt8(ascii: "}"), body)
    }

    /// `[…]` with what `body` writes for each element.
    package mutating func array<Elements: Sequence>(
        _ elements: Elements, _ body: (inout JSONWriter, Elements.Element) -> Void
    ) {
        nest(UInt8(ascii: "["), UInt8(ascii: "]")) { writer in
            for element in elements {
                writer.separate()
                body(&writer, element)
            }
        }
    }

    /// `"key":`, and after it what `body` writes.
    package mutating func member(_ key: String, _ body: (inout JSONWriter) -> Void) {
        separate()
        value(key)
        bytes.append(UInt8(ascii: ":"))
        body(&self)
    }

    package mutating func member(_ key: String, _ text: String) {
        member(key) { $0.value(text) }
    }

    /// Leaves out what is not there.
    package mutating func member(_ key: String, ifPresent text: String?) {
        if let text { member(key, text) }
    }

    package mutating func member(_ key: String, _ number: some BinaryInteger) {
        member(key) { $0.value(number) }
    }

    package mutating func value(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { utf8 in
            if unsafe utf8.allSatisfy({ $0 >= 0x20 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
                unsafe bytes.append(contentsOf: utf8)
            } else {
                for index in utf8.indices { unsafe escape(utf8[index]) }
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    package mutating func value(_ number: some BinaryInteger) {
        bytes.append(contentsOf: number.description.utf8)
    }

    package mutating func value(_ number: Double) {
        let text = "\(number)"
        bytes.append(contentsOf: (text.hasSuffix(".0") ? text.dropLast(2) : text[...]).utf8)
    }

    package mutating func null() {
        bytes.append(contentsOf: "null".utf8)
    }

    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
        case 0x08: bytes += Array("\\b".utf8)
        case 0x09: bytes += Array("\\t".utf8)
        case 0x0a: bytes += Array("\\n".utf8)
        case 0x0c: bytes += Array("\\f".utf8)
        case 0x0d: bytes += Array("\\r".utf8)
        case ..<0x20: bytes += Array("\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8)
        default: bytes.append(byte)
        }
    }

    private mutating func separate() {
        if !isFirst { bytes.append(UInt8(ascii: ",")) }
        isFirst = false
    }

    private mutating func nest(_ open: UInt8, _ close: UInt8, _ body: (inout JSONWriter) -> Void) {
        bytes.append(open)
        isFirst = true
        body(&self)
        isFirst = false
        bytes.append(close)
    }
}
