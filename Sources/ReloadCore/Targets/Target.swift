/// What is registered under a module's name in one instance: a plugin, a config, or the service's own handler.
///
/// A target turns a staged artifact into something that can be switched to. It does no ordering and writes no reports.
package protocol Target: Sendable {
    var name: String { get }
    var kind: ModuleKind { get }
    /// The file the service registered: what runs at the start, and what is read again when a request names no artifact.
    var registeredFile: String? { get }
    /// What runs, and the artifact it was made from.
    var running: RunningVersion { get }
    var lingering: [LingeringReport] { get }

    /// Proves a candidate as far as that is possible without switching to it.
    ///
    /// - Parameter willOpen: called before code of the candidate is loaded into this process, and not for what is only read.
    func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings,
        willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> any PreparedSwap
}

/// What runs in a slot, and the copy it was made from.
package struct RunningVersion: Sendable {
    package var report: VersionReport
    package var artifact: StagedArtifact?
}

/// A proven candidate. Exactly one of these paths is taken: `commit`, `prove`, `finish`; `commit`, `revert`; `discard`.
package protocol PreparedSwap {
    /// Switches new calls to the candidate.
    mutating func commit() throws(ReloadError)
    /// Asks the new version through the live handle.
    func prove() throws(ReloadError)
    /// Retires the version before.
    func finish()
    /// Switches back.
    func revert()
    /// Drops a candidate that was not switched to.
    func discard()
}

/// Milliseconds for each stage of an attempt, as they go into the report.
package struct Timings: Sendable {
    package private(set) var milliseconds: [String: Double] = [:]

    package init() {}

    /// Runs `body` and adds its time to `stage`.
    package mutating func measure<Result>(
        _ stage: String, _ body: () throws(ReloadError) -> Result
    ) throws(ReloadError) -> Result {
        let start = ContinuousClock.now
        defer {
            let elapsed = (start.duration(to: .now) / .microseconds(1)).rounded() / 1000
            milliseconds[stage, default: 0] += elapsed
        }
        return try body()
    }
}
