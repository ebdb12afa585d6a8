extension Report {
    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("at", at)
            writer.member("code", code.rawValue)
            writer.member("instance", instance)
            writer.member("message", message)
            writer.member("modules") { $0.array(modules) { $1.write(to: &$0) } }
            writer.member("protocol", proto)
            if let intervalMilliseconds { writer.member("report_interval_ms", intervalMilliseconds) }
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
