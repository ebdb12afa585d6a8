/// Writes JSON as ``ReloadJSON/encoder()`` does, for what is written with every answer: an encoder takes longer for a report
/// than a reload does for its work. The caller names keys in their order, which is that of their bytes.
struct JSONWriter {
    private(set) var bytes: [UInt8] = []
    private var isFirst = true

    init(capacity: Int = 1024) {
        bytes.reserveCapacity(capacity)
    }

    /// `{…}` with the members that `body` writes.
    mutating func object(_ body: (inout JSONWriter) -> Void) {
        nest(UInt8(ascii: "{"), UInt8(ascii: "}"), body)
    }

    /// `[…]` with what `body` writes for each element.
    mutating func array<Elements: Sequence>(
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
    mutating func member(_ key: String, _ body: (inout JSONWriter) -> Void) {
        separate()
        value(key)
        bytes.append(UInt8(ascii: ":"))
        body(&self)
    }

    mutating func member(_ key: String, _ text: String) {
        member(key) { $0.value(text) }
    }

    /// Leaves out what is not there.
    mutating func member(_ key: String, ifPresent text: String?) {
        if let text { member(key, text) }
    }

    mutating func member(_ key: String, _ number: some BinaryInteger) {
        member(key) { $0.value(number) }
    }

    mutating func value(_ text: String) {
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

    mutating func value(_ number: some BinaryInteger) {
        bytes.append(contentsOf: number.description.utf8)
    }

    mutating func value(_ number: Double) {
        let text = "\(number)"
        bytes.append(contentsOf: (text.hasSuffix(".0") ? text.dropLast(2) : text[...]).utf8)
    }

    mutating func null() {
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

extension Report {
    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("at", at)
            writer.member("code", code.rawValue)
            writer.member("instance", instance)
            writer.member("message", message)
            writer.member("modules") { $0.array(modules) { $1.write(to: &$0) } }
            writer.member("protocol", proto)
            writer.member("request") { writer in request.map { writer.value($0) } ?? writer.null() }
            writer.member("sequence", sequence)
            writer.member("service", service)
            writer.member("state", state.rawValue)
            if let superseded { writer.member("superseded") { $0.array(superseded) { $0.value($1) } } }
        }
    }
}

extension ModuleReport {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if let attempted { writer.member("attempted") { attempted.write(to: &$0) } }
            writer.member("code", code.rawValue)
            if let desired { writer.member("desired") { desired.write(to: &$0) } }
            writer.member("kind", ifPresent: kind?.rawValue)
            writer.member("lingering") { writer in
                writer.array(lingering) { writer, old in
                    writer.object { writer in
                        writer.member("age_ms", old.ageMilliseconds)
                        writer.member("generation", old.generation)
                        writer.member("in_flight", old.inFlight)
                    }
                }
            }
            writer.member("message", message)
            writer.member("name", name)
            if let running { writer.member("running") { running.write(to: &$0) } }
            writer.member("state", state.rawValue)
            writer.member("timings_ms") { writer in
                writer.object { writer in
                    for (stage, milliseconds) in timings.sorted(by: { $0.key < $1.key }) {
                        writer.member(stage) { $0.value(milliseconds) }
                    }
                }
            }
        }
    }
}

extension VersionReport {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("digest", ifPresent: digest)
            if let generation { writer.member("generation", generation) }
            writer.member("revision", revision)
            writer.member("version", ifPresent: version)
        }
    }
}

extension JournalRecord {
    /// The record as its `Decodable` reads it.
    var json: [UInt8] {
        var writer = JSONWriter(capacity: 2048 + answered.count * 48 + (modules.count + reports.count) * 1024)
        writer.object { writer in
            writer.member("answered") { $0.array(answered) { $0.value($1) } }
            writer.member("environment", ifPresent: environment)
            writer.member("modules") { writer in
                writer.object { writer in
                    for (name, module) in modules.sorted(by: { $0.key < $1.key }) {
                        writer.member(name) { module.write(to: &$0) }
                    }
                }
            }
            if let newestRequest { writer.member("newestRequest", newestRequest) }
            if let number { writer.member("number", number) }
            if let position {
                writer.member("position") { writer in
                    writer.object { writer in
                        writer.member("fingerprint", position.fingerprint)
                        writer.member("last", position.last)
                        writer.member("offset", position.offset)
                        writer.member("unsettled") { $0.array(position.unsettled) { $0.value($1) } }
                    }
                }
            }
            writer.member("queue", ifPresent: queue)
            writer.member("reports") { $0.array(reports) { $1.write(to: &$0) } }
        }
        return writer.bytes
    }
}

extension JournalRecord.Version {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("artifact", ifPresent: artifact)
            writer.member("digest", ifPresent: digest)
            writer.member("origin", ifPresent: origin)
            writer.member("revision", revision)
            writer.member("version", ifPresent: version)
        }
    }
}

extension JournalRecord.Module {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if let attempted { writer.member("attempted") { attempted.write(to: &$0) } }
            writer.member("brought_by", ifPresent: broughtBy)
            if let desired { writer.member("desired") { desired.write(to: &$0) } }
            if let issued { writer.member("issued") { issued.write(to: &$0) } }
            writer.member("kept") { $0.array(kept) { $1.write(to: &$0) } }
            if let lastGood { writer.member("last_good") { lastGood.write(to: &$0) } }
            writer.member("quarantine") { quarantine.write(to: &$0) }
            if let running { writer.member("running") { running.write(to: &$0) } }
        }
    }
}

extension Reloader.Outgoing {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("correlation_id", ifPresent: correlationID)
            writer.member("id", id)
            writer.member("reply_to", ifPresent: replyTo)
            writer.member("report") { report.write(to: &$0) }
        }
    }
}
