internal import FoundationEssentials
internal import ReloadProtocol

/// A type that is written as one scalar. It decides what a scalar means: `yes` is text for a `String` and true for a `Bool`.
protocol YAMLScalar {
    /// What is wanted, for people.
    static var wanted: String { get }
    /// Whether a scalar in quotes does.
    static var takesText: Bool { get }
    /// nil when the text is no such value.
    init?(yaml text: String)
}

extension YAMLScalar {
    static var takesText: Bool { false }
}

extension Bool: YAMLScalar {
    static var wanted: String { "true or false" }

    init?(yaml text: String) {
        switch text.lowercased() {
        case "true", "yes", "on": self = true
        case "false", "no", "off": self = false
        default: return nil
        }
    }
}

extension String: YAMLScalar {
    static var wanted: String { "text" }
    static var takesText: Bool { true }
    init?(yaml text: String) { self = text }
}

/// Whole numbers: `8`, `+8`, `1_000`, `0x1F`, `0o17`, `0b11`. Not `0123`, which YAML 1.1 reads as 83 and YAML 1.2 as 123, and
/// not `190:20:30`, which YAML 1.1 reads with the base 60.
extension YAMLScalar where Self: FixedWidthInteger {
    static var wanted: String { bitWidth < 64 ? "a whole number from \(min) to \(max)" : "a whole number" }

    init?(yaml text: String) {
        guard let (digits, radix) = YAMLNumber.whole(text) else { return nil }
        self.init(digits, radix: radix)
    }
}

extension Int: YAMLScalar {}
extension Int8: YAMLScalar {}
extension Int16: YAMLScalar {}
extension Int32: YAMLScalar {}
extension Int64: YAMLScalar {}
extension UInt: YAMLScalar {}
extension UInt8: YAMLScalar {}
extension UInt16: YAMLScalar {}
extension UInt32: YAMLScalar {}
extension UInt64: YAMLScalar {}

/// How numbers are written.
enum YAMLNumber {
    /// A whole number: sign and digits, and their radix.
    static func whole(_ text: String) -> (digits: String, radix: Int)? {
        var digits = Substring(text)
        let sign = digits.first == "-" || digits.first == "+" ? String(digits.removeFirst()) : ""
        let radix =
            switch digits.prefix(2) {
            case "0x": 16
            case "0o": 8
            case "0b": 2
            default: 10
            }
        if radix != 10 { digits = digits.dropFirst(2) } else if !beginsAsDecimal(digits.utf8) { return nil }
        let plain = digits.filter { $0 != "_" }
        let isWhole = !plain.isEmpty && plain.utf8.allSatisfy { byte in digit(byte).map { $0 < radix } ?? false }
        return isWhole ? (sign + plain, radix) : nil
    }

    /// `1_000.5e-3` as `1000.5e-3`; nil for what is no decimal number.
    static func decimal(_ text: String) -> String? {
        var rest = text.utf8[...]
        if let first = rest.first, "+-".utf8.contains(first) { rest.removeFirst() }
        let begins =
            rest.first == UInt8(ascii: ".") ? rest.dropFirst().first.map(isDecimal) == true : beginsAsDecimal(rest)
        guard begins, rest.allSatisfy({ isDecimal($0) || "._eE+-".utf8.contains($0) }) else { return nil }
        return text.filter { $0 != "_" }
    }

    /// `0123`: octal to some readers and decimal to others.
    static func hasZeroInFront(_ text: String) -> Bool {
        let digits = text.utf8.drop { "+-".utf8.contains($0) }
        return digits.count > 1 && digits.first == UInt8(ascii: "0")
            && digits.allSatisfy { isDecimal($0) || $0 == UInt8(ascii: "_") }
    }

    /// Begins with a digit, and with 0 only where no other digit follows.
    private static func beginsAsDecimal(_ text: Substring.UTF8View) -> Bool {
        guard let first = text.first, isDecimal(first) else { return false }
        guard first == UInt8(ascii: "0"), let second = text.dropFirst().first else { return true }
        return !isDecimal(second) && second != UInt8(ascii: "_")
    }

    private static func isDecimal(_ byte: UInt8) -> Bool { digit(byte).map { $0 < 10 } ?? false }

    private static func digit(_ byte: UInt8) -> Int? { Character(Unicode.Scalar(byte)).hexDigitValue }
}

/// Numbers: `1`, `.5`, `1_000.5`, `1e3`, `0x1F`, `.inf`, `.nan`. Not `1e400`, which would be infinite.
extension YAMLScalar where Self: BinaryFloatingPoint & LosslessStringConvertible {
    static var wanted: String { "a number" }

    init?(yaml text: String) {
        switch text.lowercased() {
        case ".inf", "+.inf": self = .infinity
        case "-.inf": self = -.infinity
        case ".nan": self = .nan
        default:
            if let number = YAMLNumber.decimal(text).flatMap({ Self($0) }) {
                guard number.isFinite else { return nil }
                self = number
            } else if let number = Int64(yaml: text) {
                self = Self(number)
            } else {
                return nil
            }
        }
    }
}

extension Double: YAMLScalar {}
extension Float: YAMLScalar {}

extension Decimal: YAMLScalar {
    static var wanted: String { "a decimal number" }
    static var takesText: Bool { true }

    init?(yaml text: String) {
        guard let number = YAMLNumber.decimal(text) else { return nil }
        self.init(string: number)
    }
}

extension URL: YAMLScalar {
    static var wanted: String { "a URL" }
    static var takesText: Bool { true }
    init?(yaml text: String) { self.init(string: text) }
}

extension Data: YAMLScalar {
    static var wanted: String { "bytes in base64" }
    static var takesText: Bool { true }
    init?(yaml text: String) { self.init(base64Encoded: text.filter { !$0.isWhitespace }) }
}

/// A time of [YAML 1.1](https://yaml.org/type/timestamp.html): `2026-01-02`, `2026-01-02 03:04:05.5`, `2026-01-02T03:04:05+01:00`;
/// UTC when no zone is written.
extension Date: YAMLScalar {
    static var wanted: String { "a date or a time" }
    static var takesText: Bool { true }

    init?(yaml text: String) {
        let time = #/(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(\.[0-9]*)?[ \t]*/#
        let zone = #/Z|([-+])([0-9]{1,2})(?::([0-9]{2}))?/#
        guard let day = text.prefixMatch(of: #/([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})/#) else { return nil }
        func padded(_ digits: Substring) -> String { digits.count == 1 ? "0\(digits)" : String(digits) }
        let date = "\(day.1)-\(padded(day.2))-\(padded(day.3))"
        var clock = "00:00:00"
        var seconds = 0.0
        var rest = text[day.range.upperBound...]
        if let match = rest.prefixMatch(of: time) {
            clock = "\(padded(match.1)):\(match.2):\(match.3)"
            seconds += match.4.flatMap { Double("0\($0)0") } ?? 0
            rest = rest[match.range.upperBound...]
            if let match = rest.wholeMatch(of: zone) {
                let hours = match.2.flatMap { Double($0) } ?? 0
                let minutes = match.3.flatMap { Double($0) } ?? 0
                seconds -= (match.1 == "-" ? -60 : 60) * (hours * 60 + minutes)
                rest = ""
            }
        }
        guard rest.isEmpty, let start = ReloadJSON.date("\(date)T\(clock)Z") else { return nil }
        // A day that the month does not have would be one of the next month.
        guard ReloadJSON.text(start).hasPrefix(date) else { return nil }
        self = start.addingTimeInterval(seconds)
    }
}
