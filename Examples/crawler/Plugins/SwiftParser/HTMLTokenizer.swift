/// Splits HTML into tags and text, forgivingly: any bytes give some tokens, and the end is always reached.
///
/// Text and attributes are ranges into `bytes`; only those that somebody wants are copied and decoded.
struct HTMLTokenizer {
    enum Token {
        case text(Range<Int>)
        case startTag(name: String, attributes: Range<Int>)
        case endTag(name: String)
    }

    let bytes: [UInt8]
    private var position = 0
    /// The element whose content is text up to its end tag, whatever that text looks like.
    private var rawElement: String?

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The next token, or nil at the end. Comments, declarations and the content of scripts and styles are left out.
    mutating func next() -> Token? {
        if let element = rawElement {
            rawElement = nil
            let text = position..<endOfRawText(in: element)
            position = text.upperBound
            if !text.isEmpty, element == "title" || element == "textarea" { return .text(text) }
        }
        while position < bytes.count {
            guard bytes[position] == UInt8(ascii: "<"), let kind = byte(at: position + 1) else { return nextText() }
            switch kind {
            case UInt8(ascii: "!"):
                skipDeclaration()
            case UInt8(ascii: "?"):
                skip(past: [UInt8(ascii: ">")])
            case UInt8(ascii: "/") where byte(at: position + 2)?.isLetter == true:
                position += 2
                return .endTag(name: nextTag().name)
            case UInt8(ascii: "/"):
                skip(past: [UInt8(ascii: ">")])
            case _ where kind.isLetter:
                position += 1
                let tag = nextTag()
                if Self.rawElements.contains(tag.name) { rawElement = tag.name }
                return .startTag(name: tag.name, attributes: tag.attributes)
            default:
                return nextText()
            }
        }
        return nil
    }

    /// The value of the first attribute called `name`, with its entities replaced; empty when it has no value.
    func value(of name: String, in attributes: Range<Int>) -> [UInt8]? {
        var index = attributes.lowerBound
        func skip(while condition: (UInt8) -> Bool) -> Range<Int> {
            let start = index
            while index < attributes.upperBound, condition(bytes[index]) { index += 1 }
            return start..<index
        }
        while true {
            _ = skip { $0.isSpace || $0 == UInt8(ascii: "/") }
            if index == attributes.upperBound { return nil }
            let start = index
            index += 1  // a name may begin with "="
            _ = skip { !$0.isSpace && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "=") }
            let found = lowercased(start..<index)
            _ = skip { $0.isSpace }
            var value = index..<index
            if index < attributes.upperBound, bytes[index] == UInt8(ascii: "=") {
                index += 1
                _ = skip { $0.isSpace }
                if index < attributes.upperBound, bytes[index].isQuote {
                    let quote = bytes[index]
                    index += 1
                    value = skip { $0 != quote }
                    index = min(index + 1, attributes.upperBound)
                } else {
                    value = skip { !$0.isSpace }
                }
            }
            if found == name { return decodingEntities(bytes[value]) }
        }
    }

    private static let rawElements: Set<String> = [
        "iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp",
    ]

    private func byte(at index: Int) -> UInt8? {
        index < bytes.count ? bytes[index] : nil
    }

    private mutating func nextText() -> Token {
        let start = position
        position += 1
        while position < bytes.count, bytes[position] != UInt8(ascii: "<") { position += 1 }
        return .text(start..<position)
    }

    /// Reads a tag from its name on, past its ">"; a ">" inside quotes is part of the value.
    private mutating func nextTag() -> (name: String, attributes: Range<Int>) {
        let start = position
        while position < bytes.count, !bytes[position].isSpace, bytes[position] != UInt8(ascii: "/"),
            bytes[position] != UInt8(ascii: ">")
        {
            position += 1
        }
        let name = lowercased(start..<position)
        let attributes = position
        var quote: UInt8?
        var follows: UInt8?  // the last byte that is no space: only after "=" a quote opens a value
        while position < bytes.count {
            let byte = bytes[position]
            if let open = quote {
                if byte == open { quote = nil }
            } else if byte == UInt8(ascii: ">") {
                break
            } else if byte.isQuote, follows == UInt8(ascii: "=") {
                quote = byte
            }
            if !byte.isSpace { follows = byte }
            position += 1
        }
        let end = position
        position = min(position + 1, bytes.count)
        return (name, attributes..<end)
    }

    private mutating func skipDeclaration() {
        guard starts(with: Array("<!--".utf8), at: position) else { return skip(past: [UInt8(ascii: ">")]) }
        position += 2  // "<!-->" is a whole comment
        skip(past: Array("-->".utf8))
    }

    private mutating func skip(past end: [UInt8]) {
        while position < bytes.count, !starts(with: end, at: position) { position += 1 }
        position = min(position + end.count, bytes.count)
    }

    private func starts(with prefix: [UInt8], at index: Int) -> Bool {
        guard index + prefix.count <= bytes.count else { return false }
        return prefix.indices.allSatisfy { bytes[index + $0] == prefix[$0] }
    }

    private func endOfRawText(in element: String) -> Int {
        var index = position
        let name = Array(element.utf8)
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "<"), byte(at: index + 1) == UInt8(ascii: "/"),
                index + 2 + name.count <= bytes.count,
                name.indices.allSatisfy({ bytes[index + 2 + $0].lowercased == name[$0] })
            {
                return index
            }
            index += 1
        }
        return index
    }

    private func lowercased(_ range: Range<Int>) -> String {
        String(decoding: bytes[range].lazy.map(\.lowercased), as: UTF8.self)
    }
}

extension UInt8 {
    var isLetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(lowercased) }
    var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
    var isQuote: Bool { self == UInt8(ascii: "\"") || self == UInt8(ascii: "'") }
    var isSpace: Bool { self == 0x20 || (0x09...0x0D).contains(self) }
    var lowercased: UInt8 { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) ? self | 0x20 : self }
}
