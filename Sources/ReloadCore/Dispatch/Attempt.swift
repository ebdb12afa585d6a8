/// One request against the modules it names: all of them change, or none does.
///
/// The caller guarantees that no other attempt touches these modules meanwhile.
struct Attempt {
    /// What the whole request came to, and each module's part.
    struct Outcome {
        var state: ReportState
        var code: ReloadCode = .ok
        var message = ""
        var modules: [ModuleReport]
    }

    /// A module on its way through the attempt.
    private struct Candidate {
        let module: Module
        var timings: Timings
        /// nil: nothing to do, the version runs already.
        var swap: (any PreparedSwap)?
    }

    let request: Request
    let modules: [String: Module]
    let stage: (Request.Module, any Target) throws(ReloadError) -> StagedArtifact

    func run() -> Outcome {
        var candidates: [Candidate] = []
        for wanted in request.modules {
            var timings = Timings()
            do throws(ReloadError) {
                candidates.append(try prepare(wanted, &timings))
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
            let lifted = module.withState { state in
                let count = state.quarantine.count
                state.quarantine = wanted.digest == nil ? [:] : state.quarantine.filter { $0.key != wanted.digest }
                return state.quarantine.count < count
            }
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
        if let kind = wanted.kind, kind != target.kind {
            throw ReloadError(
                .moduleKindMismatch, "\(target.name) is a \(target.kind.rawValue) here, not a \(kind.rawValue)")
        }
        let running = target.running.report
        let artifact: StagedArtifact
        var version: VersionReport
        if request.operation == .rollback {
            let past = try module.rollbackTarget(wanted.revision)
            guard let kept = past.artifact else { throw ReloadError(.moduleNoPrevious, "its copy is gone") }
            artifact = kept
            version = past.report.withoutGeneration
            module.withState { $0.desired = version }
            if version.revision == running.revision { return Candidate(module: module, timings: timings) }
        } else {
            version = VersionReport(
                revision: wanted.revision ?? running.revision + 1, digest: wanted.digest, version: wanted.version)
            guard version.revision >= running.revision else {
                throw ReloadError(
                    .messageStaleRevision, "revision \(version.revision) is older than the running \(running.revision)")
            }
            if request.operation == .apply { module.withState { $0.desired = version } }
            artifact = try timings.measure("stage") { () throws(ReloadError) in try stage(wanted, target) }
            if let digest = wanted.digest, digest != artifact.digest {
                throw ReloadError(
                    .artifactDigestMismatch, "\(artifact.origin) has \(artifact.digest), the request names \(digest)")
            }
            version.digest = artifact.digest
            if request.operation == .apply { module.withState { $0.desired = version } }
            if version.revision == running.revision {
                guard artifact.digest == running.digest else {
                    throw ReloadError(
                        .messageRevisionConflict,
                        "revision \(version.revision) runs with \(running.digest ?? "no digest"), the request brings \(artifact.digest)"
                    )
                }
                return Candidate(module: module, timings: timings)
            }
        }
        if let reason = module.withState({ $0.quarantine[artifact.digest] }) {
            throw ReloadError(.moduleQuarantined, "\(artifact.digest) failed here before: \(reason)")
        }
        module.withState { $0.attempted = version }
        do throws(ReloadError) {
            let swap = try target.prepare(artifact, version: version, timings: &timings)
            return Candidate(module: module, timings: timings, swap: swap)
        } catch {
            quarantine(artifact.digest, of: module, because: error)
            throw error
        }
    }

    /// Only what shows that the bytes are bad: a plugin that was tried and did not work.
    private func quarantine(_ digest: String?, of module: Module, because error: ReloadError) {
        let isTheBytesFault =
            error.code.rawValue.hasPrefix("plugin.") && error.code != .pluginVetUnavailable
            && error.code != .pluginTooManyGenerations
        guard isTheBytesFault, let digest else { return }
        module.withState { $0.quarantine[digest] = "\(error)" }
    }

    private func commit(_ candidates: inout [Candidate]) -> Outcome {
        var committed: [Int] = []
        var current = 0
        do throws(ReloadError) {
            for index in candidates.indices where candidates[index].swap != nil {
                current = index
                var timings = candidates[index].timings
                try timings.measure("swap") { () throws(ReloadError) in try candidates[index].swap?.commit() }
                candidates[index].timings = timings
                committed.append(index)
            }
            for index in committed {
                current = index
                var timings = candidates[index].timings
                try timings.measure("prove") { () throws(ReloadError) in try candidates[index].swap?.prove() }
                candidates[index].timings = timings
            }
        } catch {
            for index in committed.reversed() { candidates[index].swap?.revert() }
            for index in candidates.indices where !committed.contains(index) { candidates[index].swap?.discard() }
            let module = candidates[current].module
            quarantine(module.withState { $0.attempted?.digest }, of: module, because: error)
            var outcome = refusal(at: module.target.name, error, timings: candidates[current].timings)
            if !committed.isEmpty { outcome.state = .rolledBack }
            return outcome
        }
        for index in committed {
            candidates[index].swap?.finish()
            candidates[index].module.recordProven()
        }
        return outcome(.applied, candidates)
    }

    private func outcome(_ state: ReportState, _ candidates: [Candidate]) -> Outcome {
        Outcome(
            state: state,
            modules: candidates.map { candidate in
                candidate.module.report(candidate.swap == nil ? .unchanged : state, timings: candidate.timings)
            })
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
