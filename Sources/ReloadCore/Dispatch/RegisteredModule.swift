internal import FoundationEssentials
internal import Metrics
internal import ReloadProtocol
internal import Synchronization

/// One registered module: its target, and what is known of its versions.
final class RegisteredModule: Sendable {
    struct State {
        /// The version that was asked for last.
        var desired: VersionReport?
        /// What was tried last.
        var attempted: VersionReport?
        /// Proven versions, the oldest first; their copies stay on disk.
        var proven: [Proven]
        var quarantine = Quarantine()
        /// `message_id` of the request that brought what runs.
        var broughtBy: String?
        /// Of the signed requests that have come for it.
        var issueTimes = IssueTimes()
        /// Of those that are answered. Only these go to the ledger: what comes again after a crash is no replay.
        var answeredIssueTimes = IssueTimes()
        /// Old generations that are looked after at their deadline.
        var watched: Set<UInt64> = []
    }

    /// A version that was proven here.
    struct Proven: Sendable {
        let version: LedgerRecord.Version
        /// nil while nobody has needed the copy that an earlier process left.
        let artifact: StagedArtifact?

        init(_ running: RunningVersion) {
            version = LedgerRecord.Version(running.report, running.artifact)
            artifact = running.artifact
        }

        init(_ version: LedgerRecord.Version) {
            self.version = version
            artifact = nil
        }
    }

    let target: any Target
    private let state: Mutex<State>
    /// Proven versions kept beside the running one.
    private let keep: Int
    private let gauges: Gauges

    /// What runs, what became of the last attempt, and what is in memory.
    private struct Gauges {
        let revision, generation, quarantined: Gauge
        let lastAttemptSuccessful, lastSuccess: Gauge
        let generations, lingering, inFlight: Gauge

        init(_ module: String, _ metrics: any MetricsFactory) {
            func gauge(_ label: String) -> Gauge {
                Gauge(label: label, dimensions: [("module", module)], factory: metrics)
            }
            revision = gauge("reload_agent_module_revision")
            generation = gauge("reload_agent_module_generation")
            quarantined = gauge("reload_agent_module_quarantined")
            lastAttemptSuccessful = gauge("reload_agent_module_last_attempt_successful")
            lastSuccess = gauge("reload_agent_module_last_success_timestamp_seconds")
            generations = gauge("reload_agent_generations")
            lingering = gauge("reload_agent_generations_lingering")
            inFlight = gauge("reload_agent_calls_lingering")
        }
    }

    init(target: any Target, keep: Int, restored: LedgerRecord.Module?, metrics: any MetricsFactory) {
        self.target = target
        self.keep = keep
        gauges = Gauges(target.name, metrics)
        state = Mutex(
            State(
                desired: restored?.desired?.report, attempted: restored?.attempted?.report,
                proven: restored?.kept.map { Proven($0) } ?? [], quarantine: restored?.quarantine ?? Quarantine()))
        if let issued = restored?.issued { withState { ($0.issueTimes, $0.answeredIssueTimes) = (issued, issued) } }
        recordProven(
            broughtBy: restored?.running?.revision == target.running.report.revision ? restored?.broughtBy : nil)
    }

    func withState<Result>(_ body: (inout State) -> Result) -> Result {
        state.withLock { body(&$0) }
    }

    /// Notes that what runs now is proven.
    ///
    /// - Parameter request: its `message_id`.
    func recordProven(broughtBy request: String?) {
        let running = target.running
        withState { state in
            state.proven.removeAll { $0.version.revision == running.report.revision }
            state.proven.append(Proven(running))
            state.broughtBy = request
            if state.proven.count > keep + 1 { state.proven.removeFirst(state.proven.count - keep - 1) }
        }
    }

    /// Only what shows that the bytes are bad: a plugin that was tried and did not work.
    func quarantine(_ digest: String?, because error: ReloadError) {
        let others: Set<ReloadCode> = [
            .pluginVetUnavailable, .pluginTooManyGenerations, .pluginStateNotGiven, .pluginMissingLibrary,
            .pluginLibraryInUse, .pluginUnsafeLibraryFolder,
        ]
        guard error.code.area == "plugin", !others.contains(error.code), let digest else { return }
        withState { $0.quarantine.add(digest, because: "\(error)") }
    }

    /// Tells the metrics what became of an attempt to change it.
    func recordAttempt(successful isSuccess: Bool, at now: Date) {
        gauges.lastAttemptSuccessful.record(isSuccess ? 1 : 0)
        if isSuccess { gauges.lastSuccess.record(now.timeIntervalSince1970) }
    }

    /// Tells the metrics what runs and what is in memory; returns the old generations that something holds.
    @discardableResult
    func recordGauges() -> [LingeringReport] {
        let lingering = target.lingering
        let running = target.running.report
        gauges.revision.record(running.revision)
        gauges.generation.record(running.generation ?? 0)
        gauges.quarantined.record(withState { $0.quarantine.count })
        gauges.generations.record(target.generationsInMemory)
        gauges.lingering.record(lingering.count)
        gauges.inFlight.record(lingering.map(\.inFlight).reduce(0, +))
        return lingering
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

    /// This module's part of the ledger.
    var record: LedgerRecord.Module {
        let running = target.running
        return withState { state in
            LedgerRecord.Module(
                desired: state.desired.map { LedgerRecord.Version($0) },
                attempted: state.attempted.map { LedgerRecord.Version($0) },
                running: LedgerRecord.Version(running.report, running.artifact),
                lastGood: state.proven.last?.version,
                kept: state.proven.map(\.version).filter { $0.artifact != nil },
                quarantine: state.quarantine, broughtBy: state.broughtBy,
                issued: state.answeredIssueTimes == IssueTimes() ? nil : state.answeredIssueTimes)
        }
    }
}

extension VersionReport {
    var withoutGeneration: VersionReport {
        VersionReport(revision: revision, digest: digest, version: version)
    }
}
