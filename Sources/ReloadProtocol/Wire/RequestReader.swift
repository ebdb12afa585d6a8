internal import FoundationEssentials

/// Reads the requests that nearly all requests are: nothing is wrong with them, no key comes twice, and no character is written
/// by its number. It takes a fraction of `JSONDecoder`'s time, which a backlog of thousands notices.
///
/// It gives up on everything else, and whoever asked has `JSONDecoder` say what is wrong: so there is one place that words
/// errors. What it accepts, `JSONDecoder` reads in the same way.
struct RequestReader {
    private struct GaveUp: Error {}

    private enum Value {
        case null
        case string(String)
        case integer(Int64)
        /// Read, and of no use to a request.
        case other
    }

    private let bytes: [UInt8]
    private var index = 0
    /// Values read so far.
    private var count = 0

    private init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// nil when it gives up.
    static func read(_ body: [UInt8]) -> Request? {
        var reader = RequestReader(body)
        guard let request = try? reader.request() else { return nil }
        reader.skipBlanks()
        return reader.index == body.count ? request : nil
    }

    // MARK: The request

    private mutating func request() throws(GaveUp) -> Request {
        var fields: [String: Value] = [:]
        var modules: [[String: Value]]?
        try members { (reader, key) throws(GaveUp) in
            if key == "modules" {
                guard modules == nil else { throw GaveUp() }
                modules = try reader.modules()
            } else {
                try reader.add(key, to: &fields)
            }
        }
        guard try Self.text(fields["protocol"]) == Request.protocolName, let modules,
            let operation = try Self.text(fields["operation"]).flatMap(Request.Operation.init(rawValue:)),
            !modules.isEmpty || operation == .inventory
        else { throw GaveUp() }
        var request = Request(operation: operation, origin: try Self.text(fields["origin"]), modules: [])
        request.issuedAt = try Self.date(fields["issued_at"])
        request.expiresAt = try Self.date(fields["expires_at"])
        request.destination = try Self.text(fields["destination"]).map(Destination.init)
        for fields in modules {
            let module = try Self.module(fields, of: operation)
            guard !request.modules.contains(where: { $0.name == module.name }) else { throw GaveUp() }
            request.modules.append(module)
        }
        return request
    }

    private mutating func modules() throws(GaveUp) -> [[String: Value]] {
        var modules: [[String: Value]] = []
        try elements { (reader) throws(GaveUp) in
            guard modules.count < Request.moduleLimit else { throw GaveUp() }
            var fields: [String: Value] = [:]
            try reader.members { (reader, key) throws(GaveUp) in try reader.add(key, to: &fields) }
            modules.append(fields)
        }
        return modules
    }

    private static func module(
        _ fields: [String: Value], of operation: Request.Operation
    ) throws(GaveUp) -> Request.Module {
        guard let name = try text(fields["name"]), !name.isEmpty else { throw GaveUp() }
        var module = Request.Module(name: name, kind: nil, revision: nil, version: nil, artifact: .registeredFile)
        if let text = try text(fields["kind"]) {
            guard let kind = ModuleKind(rawValue: text) else { throw GaveUp() }
            module.kind = kind
        }
        switch fields["revision"] {
        case .integer(let revision) where revision >= 0: module.revision = revision
        case nil, .null: if operation == .apply || operation == .validate { throw GaveUp() }
        default: throw GaveUp()
        }
        module.version = try text(fields["version"])
        switch (try text(fields["path"]), try text(fields["inline"])) {
        case (nil, nil): break
        case (let path?, nil): module.artifact = .path(path)
        case (nil, let inline?): module.artifact = .inline(inline)
        case (_?, _?): throw GaveUp()
        }
        if let hex = try text(fields["sha256"]) {
            // Written in another way it is for the other decoder.
            guard hex.utf8.count == 64, hex.utf8.allSatisfy({ Digest.hexDigits.contains($0) }) else { throw GaveUp() }
            module.digest = Digest.prefix + hex
        }
        return module
    }

    /// nil for what is null or not there.
    private static func text(_ value: Value?) throws(GaveUp) -> String? {
        switch value {
        case nil, .null: nil
        case .string(let text): text
        case .integer, .other: throw GaveUp()
        }
    }

    private static func date(_ value: Value?) throws(GaveUp) -> Date? {
        guard let text = try text(value) else { return nil }
        guard let date = ReloadJSON.date(text) else { throw GaveUp() }
        return date
    }

    // MARK: JSON, RFC 8259

    private mutating func add(_ key: String, to fields: inout [String: Value]) throws(GaveUp) {
        guard fields.updateValue(try value(depth: 0), forKey: key) == nil else { throw GaveUp() }
    }

    private mutating func value(depth: Int) throws(GaveUp) -> Value {
        count += 1
        guard depth < 16, count < JSONScreen.valueLimit / 2, let first = peek() else { throw GaveUp() }
        switch first {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .integer(try integer())
        case UInt8(ascii: "{"):
            var keys: Set<String> = []
            try members { (reader, key) throws(GaveUp) in
                guard keys.insert(key).inserted else { throw GaveUp() }
                _ = try reader.value(depth: depth + 1)
            }
            return .other
        case UInt8(ascii: "["):
            try elements { (reader) throws(GaveUp) in _ = try reader.value(depth: depth + 1) }
            return .other
        case UInt8(ascii: "n"):
            try word("null")
            return .null
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        default: throw GaveUp()
        }
        return .other
    }

    private mutating func members(
        _ body: (inout RequestReader, String) throws(GaveUp) -> Void
    ) throws(GaveUp) {
        try list("{", "}") { (reader) throws(GaveUp) in
            let key = try reader.string()
            reader.skipBlanks()
            try reader.take(UInt8(ascii: ":"))
            reader.skipBlanks()
            try body(&reader, key)
        }
    }

    private mutating func elements(_ body: (inout RequestReader) throws(GaveUp) -> Void) throws(GaveUp) {
        try list("[", "]", body)
    }

    private mutating func list(
        _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ body: (inout RequestReader) throws(GaveUp) -> Void
    ) throws(GaveUp) {
        skipBlanks()
        try take(UInt8(ascii: open))
        skipBlanks()
        var isFirst = true
        while peek() != UInt8(ascii: close) {
            if !isFirst { try take(UInt8(ascii: ",")) }
            isFirst = false
            skipBlanks()
            try body(&self)
            skipBlanks()
        }
        index += 1
    }

    private mutating func string() throws(GaveUp) -> String {
        try take(UInt8(ascii: "\""))
        let start = index
        var unescaped: [UInt8]?
        while let byte = peek() {
            index += 1
            switch byte {
            case UInt8(ascii: "\""):
                let text =
                    unescaped.map { String(validating: $0, as: UTF8.self) }
                    ?? String(validating: bytes[start..<(index - 1)], as: UTF8.self)
                guard let text else { throw GaveUp() }
                return text
            case UInt8(ascii: "\\"):
                if unescaped == nil { unescaped = Array(bytes[start..<(index - 1)]) }
                unescaped?.append(try escaped())
            case ..<0x20: throw GaveUp()
            default: unescaped?.append(byte)
            }
        }
        throw GaveUp()
    }

    private mutating func escaped() throws(GaveUp) -> UInt8 {
        let byte = peek()
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return byte ?? 0
        case UInt8(ascii: "b"): return 0x08
        case UInt8(ascii: "f"): return 0x0c
        case UInt8(ascii: "n"): return 0x0a
        case UInt8(ascii: "r"): return 0x0d
        case UInt8(ascii: "t"): return 0x09
        default: throw GaveUp()
        }
    }

    /// Of at most 18 digits; other numbers are for the other decoder.
    private mutating func integer() throws(GaveUp) -> Int64 {
        let isNegative = peek() == UInt8(ascii: "-")
        if isNegative { index += 1 }
        let start = index
        var number: Int64 = 0
        while let byte = peek(), UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte {
            guard index - start < 18 else { throw GaveUp() }
            number = number * 10 + Int64(byte - UInt8(ascii: "0"))
            index += 1
        }
        guard index > start, bytes[start] != UInt8(ascii: "0") || index == start + 1 else { throw GaveUp() }
        switch peek() {
        case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"): throw GaveUp()
        default: return isNegative ? -number : number
        }
    }

    private mutating func word(_ word: StaticString) throws(GaveUp) {
        for offset in 0..<word.utf8CodeUnitCount { try take(unsafe word.utf8Start[offset]) }
    }

    private mutating func take(_ byte: UInt8) throws(GaveUp) {
        guard peek() == byte else { throw GaveUp() }
        index += 1
    }

    private func peek() -> UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func skipBlanks() {
        while let byte = peek(), byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { index += 1 }
    }
}
