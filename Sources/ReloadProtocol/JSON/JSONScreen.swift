internal import FoundationEssentials

/// Looks a body over before `JSONDecoder` does, which takes whatever is in it: a multiple of its size in memory for many small
/// values, and of two members with one name either, where another parser, and whoever signed it, may mean the other.
///
/// It wants no valid JSON; what it cannot make sense of is for the decoder to complain of.
enum JSONScreen {
    /// Arrays and objects in one another.
    static let depthLimit = 64
    /// Values in arrays and objects.
    static let valueLimit = 100_000
    /// Keys with escapes: to compare one costs as much as a hundred others.
    static let escapedKeyLimit = 1000

    /// - Throws: `message.not_json` for what is not UTF-8, `message.invalid` for a key that comes twice, and beyond the limits.
    static func check(_ body: [UInt8]) throws(ReloadError) {
        /// The keys of each object that is open; nil for an array.
        var open: [Set<String>?] = []
        var isKey = false
        var values = 0
        var escapedKeys = 0
        var index = 0
        while index < body.count {
            let byte = body[index]
            index += 1
            switch byte {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                guard open.count < depthLimit else {
                    throw ReloadError(.messageInvalid, "more than \(depthLimit) arrays and objects in one another")
                }
                isKey = byte == UInt8(ascii: "{")
                open.append(isKey ? [] : nil)
                values += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                _ = open.popLast()
                isKey = false
            case UInt8(ascii: ","):
                isKey = open.last.map { $0 != nil } ?? false
                values += 1
            case UInt8(ascii: ":"):
                isKey = false
            case UInt8(ascii: "\""):
                let start = index
                while index < body.count, body[index] != UInt8(ascii: "\"") {
                    index += body[index] == UInt8(ascii: "\\") ? 2 : 1
                }
                if isKey {
                    let literal = body[start..<min(index, body.count)]
                    let isEscaped = literal.contains(UInt8(ascii: "\\"))
                    if isEscaped { escapedKeys += 1 }
                    guard escapedKeys <= escapedKeyLimit else {
                        throw ReloadError(.messageInvalid, "more than \(escapedKeyLimit) keys with escapes")
                    }
                    if let key = isEscaped ? unescaped(literal) : String(decoding: literal, as: UTF8.self),
                        open[open.count - 1]?.insert(key).inserted == false
                    {
                        throw ReloadError(.messageInvalid, "the key \"\(key.excerpt)\" comes twice")
                    }
                }
                index += 1
            case 0:
                // Another encoding, which the decoder would guess.
                throw ReloadError(.messageNotJSON, "the body is not JSON in UTF-8")
            default: break
            }
            guard values <= valueLimit else {
                throw ReloadError(.messageInvalid, "more than \(valueLimit) values")
            }
        }
    }

    /// The text of a key, as the decoder compares it.
    private static func unescaped(_ literal: ArraySlice<UInt8>) -> String? {
        try? JSONDecoder().decode(String.self, from: Data([UInt8(ascii: "\"")] + literal + [UInt8(ascii: "\"")]))
    }
}
