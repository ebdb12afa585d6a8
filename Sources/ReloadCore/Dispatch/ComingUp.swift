internal import Dispatch
internal import FoundationEssentials
internal import Logging
package import ReloadProtocol
internal import Synchronization

/// What an instance begins with: the modules it has, and what an earlier process left.
extension Reloader {
    /// Registers a config and decodes the version it comes up with.
    package func config<Value: Sendable & Decodable>(
        _ name: String, file: String, validate: @escaping @Sendable (Value) throws -> Void
    ) throws(ReloadError) -> ConfigTarget<Value> {
        let file = workingDirectory.absolute(file)
        let target = try comeUp(name, file: file) { (artifact, version) throws(ReloadError) in
            try ConfigTarget(
                name: name, file: file, artifact: artifact, version: version, generationLimit: settings.generationLimit,
                validate: validate, elsewhere: { [workers] work in workers.run(work) })
        }
        if !target.note.isEmpty {
            logger.warning("config taken", metadata: ["module": "\(name)", "reason": "\(target.note)"])
        }
        register(target)
        return target
    }

    /// Registers a plugin and loads the version it comes up with. One that an earlier process of the same executable has proven
    /// since the machine was started is not tried again beforehand.
    package func plugin(_ name: String, file: String) throws(ReloadError) -> PluginTarget {
        let file = workingDirectory.absolute(file)
        defer { AttemptMark.clear(name, in: directory.attempts) }
        let target = try comeUp(name, file: file) { (artifact, version) throws(ReloadError) in
            let isSecondTry = marks.contains {
                $0.mayTryAgain && $0.module == name && $0.digest == artifact.digest
            }
            return try PluginTarget(
                name: name, file: file, artifact: artifact, version: version, trial: settings.trial,
                isProven: isProven(artifact.digest, name),
                generationLimit: settings.generationLimit,
                willOpen: { () throws(ReloadError) in
                    var mark = AttemptMark(
                        module: name, digest: artifact.digest, revision: version.revision, version: version.version)
                    mark.mayTryAgain = !isSecondTry
                    // A service comes up on a full disk as well.
                    do throws(ReloadError) { try directory.set(mark) } catch {
                        logger.warning("attempt not marked", metadata: ["module": "\(name)", "reason": "\(error)"])
                    }
                },
                elsewhere: { [workers] work in workers.run(work) })
        }
        register(target)
        return target
    }

    /// Registers the service's own handler. It is called for the version it had before a restart; a first version the service
    /// has already.
    package func handler(
        _ name: String, file: String?, _ handler: @escaping HandlerTarget.Prepare
    ) -> HandlerTarget {
        let file = file.map(workingDirectory.absolute)
        let kept = keptVersion(of: name) { (artifact, version) throws(ReloadError) in
            try HandlerTarget(name: name, file: file, artifact: artifact, version: version, handler: handler)
        }
        let target = kept ?? HandlerTarget(name: name, file: file, handler: handler)
        register(target)
        return target
    }

    /// Registers a target; one of the same name takes its place.
    package func register(_ target: any Target) {
        let module = RegisteredModule(
            target: target, keep: settings.keep, restored: ledger.restored(target.name), metrics: metrics)
        state.withLock { $0.modules[target.name] = module }
    }

    /// The version a module had before a restart, if a request brought it there; else the registered file, and if that is
    /// not good, the last copy of it that was.
    private func comeUp<Made>(
        _ name: String, file: String, _ make: (StagedArtifact, VersionReport) throws(ReloadError) -> Made
    ) throws(ReloadError) -> Made {
        if let made = keptVersion(of: name, make) { return made }
        do throws(ReloadError) {
            let artifact = try directory.stage(fileAt: file, module: name)
            if let error = quarantined(artifact.digest, name) {
                // It took the service with it before. Only if there is nothing else it gets one more chance.
                if let made = keptVersion(of: name, ofRegisteredFile: true, make) { return made }
                logger.error("registered file used although it failed", metadata: ["reason": "\(error)"])
            }
            return try make(artifact, VersionReport(revision: 0, digest: artifact.digest))
        } catch {
            guard let made = keptVersion(of: name, ofRegisteredFile: true, make) else { throw error }
            logger.error(
                "registered file not good, its last copy is used",
                metadata: ["module": "\(name)", "reason": "\(error)"])
            return made
        }
    }

    /// Whether an earlier process has proven these bytes under the same circumstances.
    private func isProven(_ digest: String, _ module: String) -> Bool {
        ledger.isOfThisEnvironment && ledger.restored(module)?.kept.contains { $0.digest == digest } == true
    }

    private func quarantined(_ digest: String?, _ module: String) -> ReloadError? {
        digest.flatMap { ledger.restored(module)?.quarantine.reason(for: $0) }
            .map { ReloadError(.moduleQuarantined, $0) }
    }

    /// The newest proven version whose copy still does.
    private func keptVersion<Made>(
        of name: String, ofRegisteredFile: Bool = false,
        _ make: (StagedArtifact, VersionReport) throws(ReloadError) -> Made
    ) -> Made? {
        guard let restored = ledger.restored(name), ofRegisteredFile || (restored.lastGood?.revision ?? 0) > 0 else {
            return nil
        }
        for version in restored.kept.reversed() where (version.revision == 0) == ofRegisteredFile {
            do throws(ReloadError) {
                if let error = quarantined(version.digest, name) { throw error }
                return try make(try directory.adopt(version, module: name), version.report)
            } catch {
                logger.error(
                    "kept version not good",
                    metadata: ["module": "\(name)", "revision": "\(version.revision)", "reason": "\(error)"])
                // The fleet runs something that is gone here: it has to be had from the stream again.
                if error.code.area == "artifact", !ofRegisteredFile { readAgain() }
            }
        }
        return nil
    }

    private func readAgain() {
        ledger.forgetPlace()
        state.withLock { state in
            state.answers = AnswerTable(capacity: settings.answerTableCapacity)
            state.isNewcomer = true
            // The old requests that are read again are not replayed by anybody.
            for module in state.modules.values {
                module.withState { ($0.issueTimes, $0.answeredIssueTimes) = (IssueTimes(), IssueTimes()) }
            }
        }
    }

    /// Answers what an earlier process could not answer, and sends again what the broker did not confirm to it. Called once,
    /// when every module is registered.
    package func start() {
        var predecessors: [String: Report] = [:]
        for outgoing in ledger.unconfirmed {
            let report = outgoing.report
            if report.instance != settings.instance { predecessors[report.instance] = report }
            outlets.report(outgoing) { [ledger] in ledger.confirmed(outgoing.id) }
        }
        // These are reports of an earlier instance name: that instance is gone, so say offline for it.
        for (name, last) in predecessors {
            let goodbye = Report(
                request: nil, service: settings.service, instance: name, sequence: last.sequence + 1, state: .offline,
                interval: last.interval,
                at: now())
            outlets.report(OutgoingReport(report: goodbye)) {}
        }
        for mark in marks where !mark.mayTryAgain && mark.request != nil {
            let error = mark.error
            let module =
                state.withLock { $0.modules[mark.module] }?.report(error.state, error: error)
                ?? ModuleReport(
                    name: mark.module, kind: .plugin, state: error.state, code: error.code, message: error.message)
            let ticket = Ticket(
                id: mark.request, replyTo: mark.replyTo, correlationID: mark.correlationID, acknowledge: {})
            _ = state.withLock { state in mark.request.map { state.answers.arrive($0) {} } }
            answer(
                ticket,
                Attempt.Outcome(state: error.state, code: error.code, message: error.message, modules: [module]))
        }
        ledger.write(records)
        prepareTrial(for: state.withLock { Array($0.modules.keys) }, after: .seconds(1))
    }

    /// What the ledger is to say of the registered modules.
    func records() -> [String: LedgerRecord.Module] {
        state.withLock { $0.modules }.mapValues(\.record)
    }
}
