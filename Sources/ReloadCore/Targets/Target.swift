package import ReloadProtocol

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
    /// What a call would use: inside a snapshot that may be an older one.
    var seen: RunningVersion { get }
    /// Old generations that something holds.
    var lingering: [LingeringReport] { get }
    /// The running one, those that something holds, and what cannot be unloaded.
    var generationsInMemory: Int { get }

    /// Holds the generation that runs now.
    func pin() -> Pin
    /// Closes old generations that nothing holds, which may take its time.
    func drain()

    /// Proves a candidate as far as that is possible without switching to it.
    ///
    /// - Parameter willOpen: called before code of the candidate is loaded into this process, and not for what is only read.
    func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings,
        willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> any PreparedSwap
}

extension Target {
    /// Throws when one more generation would be too many.
    func checkGenerations(limit: Int, _ code: ReloadCode) throws(ReloadError) {
        // Those before may be waiting for the end of their request.
        if generationsInMemory >= limit { drain() }
        let count = generationsInMemory
        guard count >= limit else { return }
        throw ReloadError(
            code,
            "\(count) generations of \(name) are in memory, the limit is \(limit): they go when their last call has returned, and libraries that cannot be unloaded with a restart"
        )
    }
}

/// What runs in a slot, and the copy it was made from.
package struct RunningVersion: Sendable {
    package var report: VersionReport
    package var artifact: StagedArtifact?

    init<Value>(_ generation: Generation<Value>) {
        report = generation.version
        report.generation = generation.number
        artifact = generation.artifact
    }
}

/// A proven candidate. Exactly one of these paths is taken: `publish`, `commit`, `prove`, `finish`; `publish`, maybe `commit`
/// and `takeBack`, `withdraw`; `discard`.
package protocol PreparedSwap {
    /// What is odd about the candidate, for people, though it is taken; empty if nothing is.
    var note: String { get }
    /// Makes the candidate visible where the live handle does not reach; a throw leaves everything as it was.
    func expose() throws(ReloadError)
    /// Switches new calls to the candidate. Waits for nothing, because several modules are switched at once.
    mutating func commit()
    /// Asks the new version through the live handle.
    func prove() throws(ReloadError)
    /// Retires the version before.
    func finish()
    /// Switches new calls back. As quick as `commit`.
    func takeBack()
    /// Undoes `publish`.
    func withdraw()
    /// Drops a candidate that was not switched to.
    func discard()
}

/// Milliseconds for each stage of an attempt, as they go into the report.
package struct Timings: Sendable {
    package private(set) var milliseconds: [String: Double] = [:]

    package init() {}

    /// Runs `body` and adds its time to `stage`.
    package mutating func measure<Result, Failure: Error>(
        _ stage: String, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let start = ContinuousClock.now
        defer {
            let elapsed = (start.duration(to: .now) / .microseconds(1)).rounded() / 1000
            milliseconds[stage, default: 0] += elapsed
        }
        return try body()
    }
}
