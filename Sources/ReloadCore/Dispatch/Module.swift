internal import Synchronization

/// One registered module: its target, and what is known of its versions.
final class Module: Sendable {
    struct State {
        /// The newest version that was asked for.
        var desired: VersionReport?
        /// What was tried last.
        var attempted: VersionReport?
        /// Proven versions, oldest first; their copies stay on disk.
        var proven: [RunningVersion]
        /// Digests that failed here, with why.
        var quarantine: [String: String] = [:]
    }

    let target: any Target
    private let state: Mutex<State>
    /// Proven versions kept beside the running one.
    private let keep: Int

    init(target: any Target, keep: Int) {
        self.target = target
        self.keep = keep
        state = Mutex(State(proven: [target.running]))
    }

    func withState<Result>(_ body: (inout State) -> Result) -> Result {
        state.withLock { body(&$0) }
    }

    /// The version to roll back to: the one of `revision`, or the newest proven one older than what runs.
    func rollbackTarget(_ revision: Int64?) throws(ReloadError) -> RunningVersion {
        let running = target.running.report.revision
        let proven = withState { $0.proven.filter { $0.artifact != nil } }
        let found =
            if let revision {
                proven.last { $0.report.revision == revision }
            } else {
                proven.filter { $0.report.revision < running }.max { $0.report.revision < $1.report.revision }
            }
        guard let found else {
            let kept = proven.map { "\($0.report.revision)" }.joined(separator: ", ")
            throw ReloadError(
                .moduleNoPrevious,
                "no proven version \(revision.map { "with revision \($0)" } ?? "older than revision \(running)") is kept here; kept: \(kept)"
            )
        }
        return found
    }

    /// Notes that what runs now is proven.
    func recordProven() {
        let running = target.running
        withState { state in
            state.proven.removeAll { $0.report.revision == running.report.revision }
            state.proven.append(running)
            if state.proven.count > keep + 1 { state.proven.removeFirst(state.proven.count - keep - 1) }
        }
    }

    /// This module's part of a report.
    func report(
        _ state: ReportState, error: ReloadError? = nil, timings: Timings = Timings()
    ) -> ModuleReport {
        let (desired, attempted) = withState { ($0.desired, $0.attempted) }
        let running = target.running.report
        return ModuleReport(
            name: target.name, kind: target.kind, state: state, code: error?.code ?? .ok, message: error?.message ?? "",
            desired: desired ?? running.withoutGeneration, attempted: attempted, running: running,
            lingering: target.lingering, timings: timings.milliseconds)
    }
}

extension VersionReport {
    var withoutGeneration: VersionReport {
        VersionReport(revision: revision, digest: digest, version: version)
    }
}
