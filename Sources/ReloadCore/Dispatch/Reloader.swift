package import Foundation
package import Logging
package import Metrics
internal import Synchronization

/// Takes requests, runs them in order and reports what became of them. Knows modules and messages, no broker.
package final class Reloader: Sendable {
    /// What is fixed for the life of an instance.
    package struct Settings: Sendable {
        package var service: String
        package var instance: String
        /// Folders a request's `path` may lead into; none: the folders of the registered files.
        package var artifactRoots: [String] = []
        /// Proven versions kept for rollback, beside the running one.
        package var keep = 3
        /// Answered message ids that are remembered.
        package var answerTableCapacity = 10_000
        package var plugins = PluginTarget.Settings()

        package init(service: String, instance: String) {
            self.service = service
            self.instance = instance
        }
    }

    /// A report with where it goes. `done` is called when the broker has it.
    package struct Outgoing: Sendable {
        package var report: Report
        /// Queue that wants a copy.
        package var replyTo: String?
        package var correlationID: String?
    }

    /// What a reloader needs of the outside. `done` is called on any thread when the broker has taken the message.
    package struct Outlets: Sendable {
        package var report: @Sendable (_ outgoing: Outgoing, _ done: @escaping @Sendable () -> Void) -> Void
        package var deadLetter:
            @Sendable (_ envelope: Envelope, _ error: ReloadError, _ done: @escaping @Sendable () -> Void) -> Void

        package init(
            report: @escaping @Sendable (Outgoing, @escaping @Sendable () -> Void) -> Void,
            deadLetter: @escaping @Sendable (Envelope, ReloadError, @escaping @Sendable () -> Void) -> Void
        ) {
            self.report = report
            self.deadLetter = deadLetter
        }
    }

    private struct Job: Sendable {
        var request: Request
        var envelope: Envelope
        var acknowledge: @Sendable () -> Void
    }

    private struct State {
        var modules: [String: Module] = [:]
        var queues = ModuleQueues<Job>()
        var answers: AnswerTable
        var sequence: UInt64 = 0
        var isStopping = false
    }

    private let settings: Settings
    private let directory: StateDirectory
    private let outlets: Outlets
    private let logger: Logger
    private let now: @Sendable () -> Date
    private let workers = Workers()
    private let state: Mutex<State>
    private let metrics: any MetricsFactory

    /// - Parameter now: The clock that decides what has expired.
    package init(
        settings: Settings, directory: StateDirectory, outlets: Outlets, logger: Logger,
        metrics: (any MetricsFactory)? = nil, now: @escaping @Sendable () -> Date = { Date() }
    ) {
        self.settings = settings
        self.directory = directory
        self.outlets = outlets
        self.logger = logger
        self.metrics = metrics ?? MetricsSystem.factory
        self.now = now
        state = Mutex(State(answers: AnswerTable(capacity: settings.answerTableCapacity)))
    }

    // MARK: Registering

    /// Registers a config and decodes its first version.
    package func config<Value: Sendable & Decodable>(
        _ name: String, file: String, validate: @escaping @Sendable (Value) throws -> Void
    ) throws(ReloadError) -> ConfigTarget<Value> {
        let artifact = try directory.stage(fileAt: file, module: name)
        let target = try ConfigTarget(name: name, file: file, artifact: artifact, validate: validate)
        register(target)
        return target
    }

    /// Registers a plugin and loads its first version.
    package func plugin(_ name: String, file: String) throws(ReloadError) -> PluginTarget {
        let artifact = try directory.stage(fileAt: file, module: name)
        let target = try PluginTarget(
            name: name, file: file, artifact: artifact, settings: settings.plugins,
            onDrained: { [workers] work in workers.run(work) })
        register(target)
        return target
    }

    /// Registers the service's own handler. It is not called for a first version: the service has that already.
    package func handler(
        _ name: String, file: String?, _ handler: @escaping HandlerTarget.Prepare
    ) -> HandlerTarget {
        let target = HandlerTarget(name: name, file: file, handler: handler)
        register(target)
        return target
    }

    /// Registers a target; one of the same name takes its place.
    package func register(_ target: any Target) {
        let module = Module(target: target, keep: settings.keep)
        state.withLock { $0.modules[target.name] = module }
    }

    // MARK: Receiving

    /// Takes a message on the thread that received it; returns without having reloaded anything.
    ///
    /// - Parameters:
    ///   - isOversized: The body was over the limit and is not in the envelope.
    ///   - acknowledge: Called once, on any thread, when the answer is with the broker.
    package func receive(_ envelope: Envelope, isOversized: Bool, acknowledge: @escaping @Sendable () -> Void) {
        if case .string(let pattern)? = envelope.headers[Request.destinationHeader],
            !Destination(pattern).matches(service: settings.service, instance: settings.instance)
        {
            return acknowledge()
        }
        let request: Request
        do throws(ReloadError) {
            guard !isOversized else {
                throw ReloadError(
                    .messageTooLarge, "the body has \(envelope.bodySize) bytes, more than this agent takes")
            }
            request = try Request.decode(envelope.body)
        } catch {
            return unreadable(envelope, error, acknowledge)
        }
        if let destination = request.destination,
            !destination.matches(service: settings.service, instance: settings.instance)
        {
            return acknowledge()
        }
        let arrival = state.withLock { state -> AnswerTable.Arrival? in
            guard !state.isStopping else { return nil }
            guard let id = envelope.messageID else { return .new }
            return state.answers.arrive(id, acknowledge: acknowledge)
        }
        switch arrival {
        case nil, .underWay: return
        case .answered: return acknowledge()
        case .new: break
        }
        logger.debug(
            "reload request received",
            metadata: [
                "request": "\(envelope.messageID ?? "")", "operation": "\(request.operation.rawValue)",
                "modules": "\(request.modules.map(\.name).joined(separator: ",").excerpt)",
            ])
        let job = Job(request: request, envelope: envelope, acknowledge: acknowledge)
        if request.operation == .inventory || isExpired(request) {
            return finish(job, outcome(of: job))
        }
        let runnable = state.withLock { $0.queues.enqueue(job, modules: request.modules.map(\.name)) }
        if let runnable { run(runnable.id, runnable.job) }
    }

    private func isExpired(_ request: Request) -> Bool {
        request.expiresAt.map { $0 <= now() } ?? false
    }

    /// What nobody can read is kept in the dead-letter exchange, and said.
    private func unreadable(_ envelope: Envelope, _ error: ReloadError, _ acknowledge: @escaping @Sendable () -> Void) {
        logger.warning(
            "reload message refused", metadata: ["code": "\(error.code)", "reason": "\(error.message)"])
        count(error.state)
        let outgoing = Outgoing(
            report: report(for: envelope.messageID, error.state, code: error.code, message: error.message, modules: []),
            replyTo: envelope.replyTo, correlationID: envelope.correlationID ?? envelope.messageID)
        let isReadable = error.code == .messageUnknownOperation || error.code == .messageUnknownKind
        outlets.report(outgoing) { [outlets] in
            if isReadable { acknowledge() } else { outlets.deadLetter(envelope, error, acknowledge) }
        }
    }

    private func run(_ id: UInt64, _ job: Job) {
        workers.run { [self] in
            guard !state.withLock({ $0.isStopping }) else { return }
            finish(job, outcome(of: job))
            for next in state.withLock({ $0.queues.finish(id) }) { run(next.id, next.job) }
        }
    }

    private func outcome(of job: Job) -> Attempt.Outcome {
        guard !isExpired(job.request) else {
            let error = ReloadError(.messageExpired, "it expired before it was looked at")
            return Attempt.Outcome(state: .expired, code: error.code, message: error.message, modules: [])
        }
        guard job.request.operation != .inventory else {
            return Attempt.Outcome(state: .unchanged, modules: inventory())
        }
        let modules = state.withLock { $0.modules }
        let attempt = Attempt(request: job.request, modules: modules) { [self] (wanted, target) throws(ReloadError) in
            try stage(wanted, target)
        }
        let start = ContinuousClock.now
        let outcome = job.request.operation == .release ? attempt.release() : attempt.run()
        Timer(label: "reload_agent_attempt", factory: metrics)
            .recordNanoseconds(Int64(start.duration(to: .now) / .nanoseconds(1)))
        return outcome
    }

    private func stage(_ wanted: Request.Module, _ target: any Target) throws(ReloadError) -> StagedArtifact {
        switch wanted.artifact {
        case .registeredFile:
            guard let file = target.registeredFile else {
                throw ReloadError(
                    .artifactMissing, "the request names no artifact, and \(target.name) has no file here")
            }
            return try directory.stage(fileAt: file, module: target.name)
        case .path(let path):
            return try directory.stage(fileAt: try roots.resolve(path), module: target.name)
        case .folder(let folder):
            let name = URL(fileURLWithPath: target.registeredFile ?? target.name).lastPathComponent
            return try directory.stage(fileAt: try roots.resolve("\(folder)/\(name)"), module: target.name)
        case .inline(let base64):
            guard base64.utf8.count / 4 * 3 <= directory.artifactLimit else {
                throw ReloadError(
                    .artifactTooLarge, "inline has more than \(directory.artifactLimit) bytes")
            }
            guard let bytes = Data(base64Encoded: base64) else {
                throw ReloadError(.artifactBadInline, "inline is not base64")
            }
            return try directory.stage(bytes: [UInt8](bytes), module: target.name)
        }
    }

    private var roots: ArtifactRoots {
        guard settings.artifactRoots.isEmpty else { return ArtifactRoots(settings.artifactRoots) }
        let files = state.withLock { $0.modules.values.compactMap(\.target.registeredFile) }
        return ArtifactRoots(files.sorted().map { URL(fileURLWithPath: $0).deletingLastPathComponent().path })
    }

    /// Reports an outcome, and acknowledges when the report is with the broker.
    private func finish(_ job: Job, _ outcome: Attempt.Outcome) {
        log(job, outcome)
        count(outcome.state)
        let id = job.envelope.messageID
        let outgoing = Outgoing(
            report: report(
                for: id, outcome.state, code: outcome.code, message: outcome.message, modules: outcome.modules),
            replyTo: job.envelope.replyTo, correlationID: job.envelope.correlationID ?? id)
        outlets.report(outgoing) { [self] in
            guard let id else { return job.acknowledge() }
            for acknowledge in state.withLock({ $0.answers.answer(id) }) { acknowledge() }
        }
        if outcome.state == .applied { announce(.online) }
    }

    private func log(_ job: Job, _ outcome: Attempt.Outcome) {
        var metadata: Logger.Metadata = [
            "request": "\(job.envelope.messageID ?? "")", "operation": "\(job.request.operation.rawValue)",
            "modules": "\(job.request.modules.map(\.name).joined(separator: ",").excerpt)",
            "state": "\(outcome.state.rawValue)",
        ]
        if outcome.code != .ok {
            metadata["code"] = "\(outcome.code)"
            metadata["reason"] = "\(outcome.message)"
        }
        switch outcome.state {
        case .failed, .rolledBack: logger.error("reload failed", metadata: metadata)
        case .refused: logger.warning("reload refused", metadata: metadata)
        default: logger.info("reload request answered", metadata: metadata)
        }
    }

    private func count(_ state: ReportState) {
        Counter(label: "reload_agent_requests", dimensions: [("state", state.rawValue)], factory: metrics).increment()
    }

    // MARK: Reporting

    /// Reports the whole inventory under `online` or `offline`.
    package func announce(_ presence: ReportState, done: @escaping @Sendable () -> Void = {}) {
        outlets.report(
            Outgoing(report: report(for: nil, presence, modules: inventory()), replyTo: nil, correlationID: nil), done)
    }

    private func inventory() -> [ModuleReport] {
        state.withLock { Array($0.modules.values) }
            .map { $0.report(.online) }
            .sorted { $0.name < $1.name }
    }

    private func report(
        for request: String?, _ reportState: ReportState, code: ReloadCode = .ok, message: String = "",
        modules: [ModuleReport]
    ) -> Report {
        let sequence = state.withLock { state in
            state.sequence += 1
            return state.sequence
        }
        return Report(
            request: request, service: settings.service, instance: settings.instance, sequence: sequence,
            state: reportState, code: code, message: message, modules: modules, at: now())
    }

    /// Takes no more requests and waits for the attempts under way, at most for `grace`. What waits in line is neither
    /// answered nor acknowledged: the broker keeps it.
    package func stop(grace: Duration) {
        state.withLock { $0.isStopping = true }
        workers.stop(grace: grace)
    }
}
