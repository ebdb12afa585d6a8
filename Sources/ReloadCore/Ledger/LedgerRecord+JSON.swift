internal import ReloadProtocol

extension LedgerRecord {
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

extension LedgerRecord.Version {
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

extension LedgerRecord.Module {
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
