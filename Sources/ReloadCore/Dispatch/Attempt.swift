internal import ReloadProtocol

/// One request against the modules it names: all of them change, or none does.
///
/// The caller guarantees that no other attempt touches these modules meanwhile.
struct Attempt {
    /// What the whole request came to, and each module's part.
    struct Outcome {
        var state: ReportState
        var code: ReloadCode = .ok
        var message = ""
        var modules: [ModuleReport] = []
    }

    /// A module on its way through the attempt.
    private struct Candidate {
        let module: RegisteredModule
        var timings: Timings
        /// nil: nothing to do, the version runs already.
        var swap: (any PreparedSwap)?
        /// Set when code of the candidate was loaded into this process.
        var mark: AttemptMark?

        /// Takes a step of the swap and adds its time to `stage`.
        mutating func measure<Failure: Error>(
            _ stage: String, _ step: (inout any PreparedSwap) throws(Failure) -> Void
        ) throws(Failure) {
            guard var swap else { return }
            defer { self.swap = swap }
            try timings.measure(stage) { () throws(Failure) in try step(&swap) }
        }
    }

    /// What is to be loaded, and under which version.
    private struct Choice {
        var version: VersionReport
        var artifact: StagedArtifact
    }

    let job: ReloadJob
    let modules: [String: RegisteredModule]
    let directory: StateDirectory
    /// Runs its argument while no snapshot is taken.
    let atOnce: (() -> Void) -> Void
    let stage: (Request.Module, any Target) throws(ReloadError) -> StagedArtifact

    private var request: Request { job.request }

    func run() -> Outcome {
        // Whatever comes of it, this process has survived it.
        defer { for module in request.modules { AttemptMark.clear(module.name, in: directory.attempts) } }
        var candidates: [Candidate] = []
        for wanted in request.modules {
            var timings = Timings()
            do throws(ReloadError) {
                let candidate = try prepare(wanted, &timings)
                candidates.append(candidate)
                if request.modules.count > 1 { blame(candidate, isPrepared: true) }
            } catch {
                for candidate in candidates { candidate.swap?.discard() }
                return refusal(at: wanted.name, error, timings: timings)
            }
        }
        if request.operation == .validate {
            for candidate in candidates { candidate.swap?.discard() }
            return outcome(.validated, candidates)
        }
        guard candidates.contains(where: { $0.swap != nil }) else { return outcome(.unchanged, candidates) }
        return commit(&candidates)
    }

    /// Lifts the quarantine of the named digests, or of all of the named modules.
    func release() -> Outcome {
        for wanted in request.modules where modules[wanted.name] == nil {
            return refusal(at: wanted.name, unknown(wanted.name), timings: Timings())
        }
        var isChanged = false
        let reports = request.modules.compactMap { wanted -> ModuleReport? in
            guard let module = modules[wanted.name] else { return nil }
            let lifted = module.withState { $0.quarantine.release(wanted.digest) }
            isChanged = isChanged || lifted
            return module.report(lifted ? .applied : .unchanged)
        }
        return Outcome(state: isChanged ? .applied : .unchanged, modules: reports)
    }

    private func unknown(_ name: String) -> ReloadError {
        ReloadError(.moduleUnknown, "no module \"\(name.excerpt)\" here")
    }

    private func prepare(_ wanted: Request.Module, _ timings: inout Timings) throws(ReloadError) -> Candidate {
        guard let module = modules[wanted.name] else { throw unknown(wanted.name) }
        let target = module.target
        if let id = job.ticket.id, request.operation == .rollback, module.withState({ $0.broughtBy == id }) {
            return Candidate(module: module, timings: timings)
        }
        if let kind = wanted.kind, kind != target.kind {
            throw ReloadError(
                .moduleKindMismatch, "\(target.name) is a \(target.kind.rawValue) here, not a \(kind.rawValue)")
        }
        let choice =
            request.operation == .rollback
            ? try chooseForRollback(wanted, module, &timings) : try choose(wanted, module, &timings)
        let running = target.running.report
        if choice.version.revision == running.revision {
            guard choice.artifact.digest == running.digest else {
                throw conflict(choice, with: running, that: "runs")
            }
            return Candidate(module: module, timings: timings)
        }
        if let reason = module.withState({ $0.quarantine.reason(for: choice.artifact.digest) }) {
            throw ReloadError(.moduleQuarantined, "\(choice.artifact.digest) failed here before: \(reason)")
        }
        module.withState { $0.attempted = choice.version }
        do throws(ReloadError) {
            var mark: AttemptMark?
            let swap = try target.prepare(choice.artifact, version: choice.version, timings: &timings) {
                () throws(ReloadError) in mark = try self.mark(target.name, choice)
            }
            return Candidate(module: module, timings: timings, swap: swap, mark: mark)
        } catch {
            module.quarantine(choice.artifact.digest, because: error)
            throw error
        }
    }

    private func choose(
        _ wanted: Request.Module, _ module: RegisteredModule, _ timings: inout Timings
    ) throws(ReloadError) -> Choice {
        let running = module.target.running.report
        let next = running.revision == .max ? nil : running.revision + 1
        guard let revision = wanted.revision ?? next else {
            throw ReloadError(.messageStaleRevision, "there is no revision after the running \(running.revision)")
        }
        var version = VersionReport(revision: revision, digest: wanted.digest, version: wanted.version)
        guard version.revision >= running.revision else {
            throw ReloadError(
                .messageStaleRevision, "revision \(version.revision) is older than the running \(running.revision)")
        }
        let isApplied = request.operation == .apply
        let before = module.withState { state in
            defer { if isApplied, state.desired?.revision != version.revision { state.desired = version } }
            return state.desired
        }
        let artifact = try stage(wanted, module, &timings)
        version.digest = artifact.digest
        let choice = Choice(version: version, artifact: artifact)
        if let before, before.revision == wanted.revision, let digest = before.digest, digest != artifact.digest {
            throw conflict(choice, with: before, that: "was asked for")
        }
        if isApplied { module.withState { $0.desired = version } }
        return choice
    }

    private func chooseForRollback(
        _ wanted: Request.Module, _ module: RegisteredModule, _ timings: inout Timings
    ) throws(ReloadError) -> Choice {
        let running = module.target.running.report.revision
        let proven = module.withState { $0.proven.filter { $0.version.artifact != nil } }
        guard let revision = rollbackTarget(of: module) else {
            let kept = proven.map { "\($0.version.revision)" }.joined(separator: ", ")
            throw ReloadError(
                .moduleNoPrevious,
                "no proven version \(wanted.revision.map { "with revision \($0)" } ?? "older than revision \(running)") is kept here; kept: \(kept)"
            )
        }
        let choice: Choice
        if let past = proven.last(where: { $0.version.revision == revision }) {
            let artifact: StagedArtifact
            if let kept = past.artifact {
                artifact = kept
            } else {
                artifact = try directory.adopt(past.version, module: wanted.name)
            }
            choice = Choice(version: past.version.report, artifact: artifact)
        } else if let missed = job.missed(revision, of: wanted.name) {
            let artifact = try stage(missed, module, &timings)
            choice = Choice(
                version: VersionReport(revision: revision, digest: artifact.digest, version: missed.version),
                artifact: artifact)
        } else {
            throw ReloadError(.moduleNoPrevious, "the copy of revision \(revision) is gone")
        }
        module.withState { $0.desired = choice.version }
        return choice
    }

    private func rollbackTarget(of module: RegisteredModule) -> Int64? {
        let proven = module.withState { $0.proven.filter { $0.version.artifact != nil } }
        return job.rollbackTarget(
            of: module.target.name, from: module.target.running.report.revision, proven: proven.map(\.version.revision))
    }

    /// The revisions that a rollback leads to.
    var rollbackTargets: [String: Int64] {
        let named = request.modules.compactMap { modules[$0.name] }
        return named.reduce(into: [:]) { $0[$1.target.name] = rollbackTarget(of: $1) }
    }

    private func stage(
        _ wanted: Request.Module, _ module: RegisteredModule, _ timings: inout Timings
    ) throws(ReloadError) -> StagedArtifact {
        let artifact = try timings.measure("stage") { () throws(ReloadError) in try stage(wanted, module.target) }
        if let digest = wanted.digest, digest != artifact.digest {
            throw ReloadError(
                .artifactDigestMismatch, "\(artifact.origin) has \(artifact.digest), the request names \(digest)")
        }
        FaultPoint.reached(.staged)
        return artifact
    }

    private func conflict(_ choice: Choice, with other: VersionReport, that: String) -> ReloadError {
        ReloadError(
            .messageRevisionConflict,
            "revision \(choice.version.revision) \(that) with \(other.digest ?? "no digest"), the request brings \(choice.artifact.digest)"
        )
    }

    /// Called when the candidate has passed everything that can be done without opening it in the service.
    private func mark(_ module: String, _ choice: Choice) throws(ReloadError) -> AttemptMark {
        FaultPoint.reached(.tried)
        let mark = AttemptMark(
            module: module, digest: choice.artifact.digest, revision: choice.version.revision,
            version: choice.version.version, request: job.ticket.id, replyTo: job.ticket.replyTo,
            correlationID: job.ticket.correlationID)
        try directory.set(mark)
        FaultPoint.reached(.marked)
        return mark
    }

    /// Of several modules only the one whose code runs next is to blame if the process dies.
    private func blame(_ candidate: Candidate, isPrepared: Bool) {
        guard var mark = candidate.mark else { return }
        mark.isPrepared = isPrepared
        try? directory.set(mark)
    }

    private func commit(_ candidates: inout [Candidate]) -> Outcome {
        FaultPoint.reached(.opened)
        var published: [Int] = []
        var current = 0
        do throws(ReloadError) {
            for index in candidates.indices where candidates[index].swap != nil {
                current = index
                try candidates[index].measure("swap") { (swap) throws(ReloadError) in try swap.expose() }
                published.append(index)
            }
            atOnce {
                for index in published { candidates[index].measure("swap") { swap in swap.commit() } }
            }
            FaultPoint.reached(.switched)
            for index in published {
                current = index
                if request.modules.count > 1 { blame(candidates[index], isPrepared: false) }
                try candidates[index].measure("prove") { (swap) throws(ReloadError) in try swap.prove() }
                if request.modules.count > 1 { blame(candidates[index], isPrepared: true) }
            }
        } catch {
            atOnce {
                for index in published { candidates[index].swap?.takeBack() }
            }
            for index in published.reversed() { candidates[index].swap?.withdraw() }
            for index in candidates.indices where !published.contains(index) { candidates[index].swap?.discard() }
            let module = candidates[current].module
            module.quarantine(module.withState { $0.attempted?.digest }, because: error)
            var outcome = refusal(at: module.target.name, error, timings: candidates[current].timings)
            if !published.isEmpty { outcome.state = .rolledBack }
            return outcome
        }
        FaultPoint.reached(.proven)
        for index in published {
            candidates[index].swap?.finish()
            candidates[index].module.recordProven(broughtBy: job.ticket.id)
        }
        return outcome(.applied, candidates)
    }

    private func outcome(_ state: ReportState, _ candidates: [Candidate]) -> Outcome {
        let modules = candidates.map { candidate in
            var report = candidate.module.report(candidate.swap == nil ? .unchanged : state, timings: candidate.timings)
            report.message = candidate.swap?.note ?? ""
            return report
        }
        let notes = modules.map(\.message).filter { !$0.isEmpty }
        return Outcome(state: state, message: notes.joined(separator: "; "), modules: modules)
    }

    /// The outcome when one module stopped the whole request.
    private func refusal(at name: String, _ error: ReloadError, timings: Timings) -> Outcome {
        let reports = request.modules.map { wanted in
            let isCulprit = wanted.name == name
            let reason =
                isCulprit
                ? error : ReloadError(.moduleNotAttempted, "\(name.excerpt) of the same request: \(error.code)")
            return modules[wanted.name]?.report(reason.state, error: reason, timings: isCulprit ? timings : Timings())
                ?? ModuleReport(
                    name: wanted.name.excerpt, kind: wanted.kind, state: reason.state, code: reason.code,
                    message: reason.message)
        }
        return Outcome(state: error.state, code: error.code, message: error.message, modules: reports)
    }
}
