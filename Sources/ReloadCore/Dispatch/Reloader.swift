internal import Dispatch
package import FoundationEssentials
internal import Glibc
package import Logging
package import Metrics
package import ReloadProtocol
internal import Synchronization

/// Takes requests, runs them in order and reports what became of them. Knows modules and messages, no broker.
///
/// Its parts: coming up with what was there before (`ComingUp.swift`), requests and their order (here), whose they are
/// (`Authenticating.swift`), answers (`Answering.swift`).
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
        /// Unconfirmed reports that are kept on disk.
        package var reportLimit = 1000
        /// Bytes of requests that may wait before no more are read ahead.
        package var waitingBytes = 64 << 20
        /// How candidates are tried; nil tries nothing beforehand: one that crashes then takes the service with it.
        package var trial: Trial? = Trial()
        /// Most generations of one module in memory at once, the running one and those that cannot be unloaded included.
        package var generationLimit = 1000
        /// After this time an old generation that something still holds is reported.
        package var drainDeadline = Duration.seconds(60)
        /// Time between two `online` reports, which reports bear.
        package var reportInterval = Duration.seconds(30)
        /// Whose requests are taken; nil takes unsigned ones.
        package var trustedKeys: TrustedKeysFile?
        /// The exchange that requests are published to, as their signatures name it.
        package var controlExchange = "reload.control"

        package init(service: String, instance: String) {
            self.service = service
            self.instance = instance
        }
    }

    /// What a reloader needs of the outside. `done` is called on any thread when the broker has taken the message.
    package struct Outlets: Sendable {
        package var report: @Sendable (_ outgoing: OutgoingReport, _ done: @escaping @Sendable () -> Void) -> Void
        package var deadLetter:
            @Sendable (_ envelope: Envelope, _ error: ReloadError, _ done: @escaping @Sendable () -> Void) -> Void

        package init(
            report: @escaping @Sendable (OutgoingReport, @escaping @Sendable () -> Void) -> Void,
            deadLetter: @escaping @Sendable (Envelope, ReloadError, @escaping @Sendable () -> Void) -> Void
        ) {
            self.report = report
            self.deadLetter = deadLetter
        }
    }

    struct State {
        var modules: [String: RegisteredModule] = [:]
        var queues = ModuleQueues<ReloadJob>()
        var answers: AnswerTable
        var arrivals: UInt64 = 0
        var sequence: UInt64 = 0
        /// A backlog is being read: nothing is loaded before its end is known.
        var isReadingBacklog = false
        /// A fresh instance reads what was there before it: nobody waits for its word on what changes nothing.
        var isNewcomer: Bool
        var isStopping = false
        /// How many loads of a module in a row took the place of others, at most 4.
        var floods: [String: Int] = [:]
        /// An `online` report is on its way; another one is due after it.
        var isAnnouncing = false
        var isAnnouncementDue = false
        var isAnnouncementPlanned = false
        /// What the next one is to say besides.
        var note = ""
        /// When the newest request was issued that was taken; before the first one the time of the start.
        var newestRequest: Date
    }

    /// Answers on their way to the ledger. One thread at a time takes all there are, so that they share a write.
    struct AnswerBatch {
        var waiting: [Answer] = []
        var isUnderWay = false
        /// What may be acknowledged when the ledger can be written again.
        var unsaved: [@Sendable () -> Void] = []
    }

    struct Answer {
        var ticket: Ticket
        var outcome: Attempt.Outcome
        var superseded: [Ticket]
        /// What counts until the broker has it.
        var weights: [Weight] = []

        var tickets: [Ticket] { [ticket] + superseded }
    }

    /// Tickets that one report answers; beyond that another report is sent.
    private static let ticketLimit = 1000
    /// How long no request for a module comes after a first flood of them.
    private static let floodPause = Duration.milliseconds(50)
    /// Requests that may be unanswered before no more are read ahead.
    private static let unansweredLimit = 50_000

    package let settings: Settings
    let directory: StateDirectory
    /// When the agent was made.
    let workingDirectory: WorkingDirectory
    /// This instance as destinations name it.
    package let addressee: Addressee
    /// What outlives the process.
    package let ledger: Ledger
    let outlets: Outlets
    let logger: Logger
    let now: @Sendable () -> Date
    let workers = Workers()
    /// For what is due after a while. Not a global queue: Dispatch looks after those every second.
    let later = DispatchQueue(label: "reload-agent.later")
    let state: Mutex<State>
    package let metrics: any MetricsFactory
    let requestAge: Gauge
    private let waiting = Weight.Total()
    /// Messages that are not carried out and whose answers are on their way to the broker.
    private let refusals = Weight.Total()
    let answering = Mutex(AnswerBatch())
    /// Held while modules are switched, and while all are pinned.
    let switching = Mutex(())
    /// Attempts that an earlier process did not survive.
    let marks: [AttemptMark]

    /// Reads what an earlier process left in the directory.
    ///
    /// - Parameter now: The clock that decides what has expired.
    package init(
        settings: Settings, directory: StateDirectory, outlets: Outlets, logger: Logger,
        metrics: (any MetricsFactory)? = nil, now: @escaping @Sendable () -> Date = { Date() }
    ) {
        let metrics = metrics ?? MetricsSystem.factory
        var settings = settings
        settings.trial?.logger = logger
        let workingDirectory = WorkingDirectory()
        self.workingDirectory = workingDirectory
        settings.artifactRoots = settings.artifactRoots.map(workingDirectory.absolute)
        self.settings = settings
        addressee = Addressee(service: settings.service, instance: settings.instance)
        self.directory = directory
        self.outlets = outlets
        self.logger = logger
        self.metrics = metrics
        self.now = now
        requestAge = Gauge(label: "reload_agent_newest_request_age_seconds", factory: metrics)
        ledger = Ledger(directory, reportLimit: settings.reportLimit, logger: logger, metrics: metrics)
        marks = ledger.takeMarks()
        var answers = AnswerTable(capacity: settings.answerTableCapacity)
        for id in ledger.answered {
            _ = answers.arrive(id) {}
            _ = answers.answer(id)
        }
        state = Mutex(
            State(
                answers: answers, isNewcomer: ledger.position.isFresh, newestRequest: ledger.newestRequest ?? now()))
    }

    // MARK: Receiving

    /// Takes a message on the thread that received it; returns without having reloaded anything.
    ///
    /// - Parameters:
    ///   - isOversized: The body was over the limit and is not in the envelope.
    ///   - place: Where it was in the stream.
    ///   - acknowledge: Called once, on any thread, when the answer is with the broker.
    package func receive(
        _ envelope: Envelope, isOversized: Bool, place: StreamPosition.Place? = nil,
        acknowledge: @escaping @Sendable () -> Void
    ) {
        let settle = { @Sendable [ledger] in
            if let place { ledger.position.settle(place) }
            acknowledge()
        }
        var isForOthers = false
        if case .string(let pattern)? = envelope.headers[Request.destinationHeader] {
            isForOthers = !Destination(pattern).matches(addressee)
        }
        // The header is not signed: whoever changes it must not keep a signed request from this instance.
        if isForOthers, settings.trustedKeys == nil { return settle() }
        // An empty id does not identify a message.
        let id = envelope.messageID.flatMap { $0.isEmpty ? nil : $0 }
        let replyTo = envelope.replyTo.flatMap { $0.isEmpty || $0.utf8.contains(0) ? nil : $0 }
        var ticket = Ticket(
            id: id, replyTo: replyTo, correlationID: envelope.correlationID ?? id, place: place,
            acknowledge: acknowledge)
        let request: Request
        do throws(ReloadError) {
            guard !isOversized else {
                throw ReloadError(
                    .messageTooLarge, "the body has \(envelope.bodySize) bytes, more than this agent takes")
            }
            request = try Request.decode(envelope.body)
        } catch {
            if isForOthers { return settle() }
            if settings.trustedKeys != nil { ticket.distrust() }
            guard isNew(ticket, settle) else { return }
            return unreadable(envelope, error, ticket)
        }
        if let destination = request.destination, !destination.matches(addressee) { return settle() }
        let changesNothing = isExpired(request) || request.operation == .validate || request.operation == .inventory
        if changesNothing, state.withLock({ $0.isNewcomer && $0.isReadingBacklog }) { return settle() }
        do throws(ReloadError) {
            try authenticate(envelope, request)
        } catch {
            ticket.distrust()
            guard isNew(ticket, settle) else { return }
            return refuse(envelope, request, error, ticket)
        }
        guard isNew(ticket, settle) else { return }
        do throws(ReloadError) {
            if !isExpired(request) { try order(request, ticket.id) }
        } catch {
            return refuse(envelope, request, error, ticket)
        }
        logger.debug(
            "reload request received",
            metadata: [
                "request": "\(envelope.messageID ?? "")", "operation": "\(request.operation.rawValue)",
                "modules": "\(request.modules.map(\.name).joined(separator: ",").excerpt)",
            ])
        let job = ReloadJob(
            request: request, ticket: ticket,
            arrival: state.withLock { state in
                state.arrivals += 1
                return state.arrivals
            }, bytes: envelope.footprint, of: waiting)
        if request.operation == .inventory || isExpired(request) {
            return workers.run { [self] in answer(job, outcome(of: job), isLast: true) }
        }
        let (overflow, started) = state.withLock { state -> ([Ticket], [UInt64]) in
            let (_, overflow) = state.queues.fold(job, keep: settings.keep + 1, limit: Self.ticketLimit)
            // Held back until the end of the backlog is known, unless there is no more room for it.
            let isHeld = state.isReadingBacklog && hasRoom(state)
            return (overflow, isHeld ? [] : state.queues.start(in: job.moduleNames))
        }
        if !overflow.isEmpty { workers.run { [self] in answerSuperseded(overflow) } }
        for id in started { run(id) }
    }

    /// Whether a message is to be worked on. Another copy of one that is under way is settled with it, and one that is
    /// answered at once.
    private func isNew(_ ticket: Ticket, _ settle: @escaping @Sendable () -> Void) -> Bool {
        let arrival = state.withLock { state -> AnswerTable.Arrival? in
            guard !state.isStopping else { return nil }
            guard let id = ticket.id else { return .new }
            guard ticket.isRemembered else { return state.answers.knows(id) ? .answered : .new }
            return state.answers.arrive(id, acknowledge: settle)
        }
        switch arrival {
        case nil, .underWay: return false
        case .answered:
            settle()
            return false
        case .new: return true
        }
    }

    /// A backlog is being read, or its end has come.
    package func backlogChanged(_ isReading: Bool) {
        let started = state.withLock { state -> [UInt64] in
            state.isReadingBacklog = isReading
            if !isReading { state.isNewcomer = false }
            return isReading ? [] : state.queues.start(in: state.queues.modules)
        }
        for id in started { run(id) }
    }

    /// Whether more requests may be read before those that wait are answered.
    ///
    /// Refusals cost others nothing but their place in line: no more of them are on their way than leave room for the answers of
    /// good requests, in the ledger and before the broker.
    package var hasRoom: Bool {
        refusals.sum < settings.reportLimit / 2 && state.withLock { hasRoom($0) }
    }

    private func hasRoom(_ state: borrowing State) -> Bool {
        waiting.sum < settings.waitingBytes && state.answers.underWay < Self.unansweredLimit
    }

    private func isExpired(_ request: Request) -> Bool {
        request.expiresAt.map { $0 <= now() } ?? false
    }

    /// What nobody can read is kept in the dead-letter exchange, and said.
    private func unreadable(_ envelope: Envelope, _ error: ReloadError, _ ticket: Ticket) {
        logger.warning(
            "reload message refused", metadata: ["code": "\(error.code)", "reason": "\(error.message)"])
        let answer = refusalAnswer(envelope, error, ticket)
        if error.code == .messageUnknownOperation || error.code == .messageUnknownKind {
            answer()
        } else {
            outlets.deadLetter(envelope, error, answer)
        }
    }

    /// Answers a message that is not carried out. It counts as waiting until then: nothing else bounds how many of them are on
    /// their way to the broker.
    func refusalAnswer(_ envelope: Envelope, _ error: ReloadError, _ ticket: Ticket) -> @Sendable () -> Void {
        let weights = [Weight(envelope.footprint, of: waiting), Weight(1, of: refusals)]
        return { [self] in
            answerLater(ticket, Attempt.Outcome(state: error.state, code: error.code, message: error.message), weights)
        }
    }

    // MARK: Running

    private func run(_ id: UInt64) {
        workers.run { [self] in
            waitForTheEndOfAFlood(id)
            guard var job = begin(id) else { return }
            var outcome = outcome(of: job)
            let isStepBack = job.request.operation == .rollback && job.request.modules.allSatisfy { $0.revision == nil }
            // A missed version that is no good here was none elsewhere: nobody went back to it.
            while isStepBack, !outcome.state.isSuccess, let next = job.without(attempt(job).rollbackTargets) {
                job = next
                outcome = self.outcome(of: job)
            }
            let mustReinstate = !outcome.state.isSuccess && !isStepBack
            let started = state.withLock { [job] state in
                // What it took the place of is tried now, the newest first, as other instances did before it came.
                if mustReinstate { reinstate(job, &state) }
                state.queues.remove(id)
                return state.queues.start(in: job.moduleNames + job.folded.flatMap(\.moduleNames))
            }
            for next in started { run(next) }
            answer(job, outcome, isLast: !mustReinstate)
            prepareTrial(for: job.moduleNames, after: .milliseconds(10))
        }
    }

    /// Has the process that tries the next plugin started before it is needed, and after what is going on now: it takes a
    /// processor for some milliseconds.
    func prepareTrial(for names: [String], after delay: DispatchTimeInterval) {
        guard let trial = settings.trial,
            state.withLock({ state in names.contains { state.modules[$0]?.target.kind == .plugin } })
        else { return }
        later.asyncAfter(deadline: .now() + delay) { [weak self] in
            if self?.state.withLock({ $0.isStopping }) == false { trial.prepare() }
        }
    }

    /// As long as requests that take the place of one another keep coming, loading one of them would be for nothing. Each load
    /// in a flood doubles the pause that is taken for its end, and the time after which the next one is loaded anyway.
    private func waitForTheEndOfAFlood(_ id: UInt64) {
        let level = state.withLock { state in
            state.queues[id]?.moduleNames.compactMap { state.floods[$0] }.max() ?? 0
        }
        let limit = ContinuousClock.now + .seconds(1 << level)
        while let last = state.withLock({ $0.isStopping ? nil : $0.queues[id]?.foldedAt }) {
            let now = ContinuousClock.now
            let rest = min(last + Self.floodPause * (1 << level), limit) - now
            guard rest > .zero else { return }
            usleep(UInt32(rest / .microseconds(1)) + 1)
        }
    }

    private func begin(_ id: UInt64) -> ReloadJob? {
        state.withLock { state in
            guard !state.isStopping, let job = state.queues.begin(id) else { return nil }
            for name in job.moduleNames where state.modules[name] != nil {
                state.floods[name] = job.foldCount == 0 ? nil : min(state.floods[name, default: 0] + 1, 4)
            }
            return job
        }
    }

    private func reinstate(_ job: ReloadJob, _ state: inout State) {
        guard !job.folded.isEmpty else { return }
        var newest: UInt64?
        for older in job.folded.reversed() {
            newest = state.queues.fold(older, keep: settings.keep + 1, limit: .max).id
        }
        guard let newest else { return }
        _ = state.queues.update(newest) { $0.superseded += job.superseded }
    }

    private func outcome(of job: ReloadJob) -> Attempt.Outcome {
        guard !isExpired(job.request) else {
            let error = ReloadError(.messageExpired, "it expired before it was looked at")
            return Attempt.Outcome(state: .expired, code: error.code, message: error.message)
        }
        guard job.request.operation != .inventory else {
            return Attempt.Outcome(state: .unchanged, modules: inventory())
        }
        let attempt = attempt(job)
        let start = ContinuousClock.now
        let outcome = job.request.operation == .release ? attempt.release() : attempt.run()
        record(outcome, of: job.request, took: start.duration(to: .now))
        return outcome
    }

    private func record(_ outcome: Attempt.Outcome, of request: Request, took duration: Duration) {
        let kinds = Set(outcome.modules.map { $0.kind?.rawValue ?? "unknown" })
        let kind = kinds.count == 1 ? kinds.first ?? "" : "several"
        Timer(
            label: "reload_agent_attempt_seconds", dimensions: [("kind", kind), ("outcome", outcome.state.rawValue)],
            factory: metrics
        ).recordNanoseconds(Int64(duration / .nanoseconds(1)))
        let isChange = request.operation == .apply || request.operation == .rollback
        for report in outcome.modules {
            for (stage, milliseconds) in report.timings {
                Timer(label: "reload_agent_stage_seconds", dimensions: [("stage", stage)], factory: metrics)
                    .recordNanoseconds(Int64(milliseconds * 1_000_000))
            }
            guard isChange, report.code != .moduleNotAttempted, report.code.area != "message",
                let module = state.withLock({ $0.modules[report.name] })
            else { continue }
            module.recordAttempt(successful: report.state.isSuccess, at: now())
        }
    }

    private func attempt(_ job: ReloadJob) -> Attempt {
        let roots = ArtifactRoots(self.roots)
        return Attempt(
            job: job, modules: state.withLock { $0.modules }, directory: directory,
            atOnce: { [self] body in switching.withLock { _ in body() } },
            stage: { [self] (wanted, target) throws(ReloadError) in try stage(wanted, target, roots) })
    }

    private func stage(
        _ wanted: Request.Module, _ target: any Target, _ roots: ArtifactRoots
    ) throws(ReloadError) -> StagedArtifact {
        switch wanted.artifact {
        case .registeredFile:
            guard let file = target.registeredFile else {
                throw ReloadError(
                    .artifactMissing, "the request names no artifact, and \(target.name) has no file here")
            }
            return try directory.stage(fileAt: file, module: target.name)
        case .path(let path):
            return try directory.stage(try roots.open(path), module: target.name)
        case .folder(let folder):
            let name = URL(fileURLWithPath: target.registeredFile ?? target.name).lastPathComponent
            return try directory.stage(try roots.open("\(folder)/\(name)"), module: target.name)
        case .inline(let base64):
            let padding = base64.utf8.suffix(2).count { $0 == UInt8(ascii: "=") }
            guard base64.utf8.count / 4 * 3 - padding <= directory.artifactLimit else {
                throw ReloadError(
                    .artifactTooLarge, "inline has more than \(directory.artifactLimit) bytes")
            }
            guard base64.utf8.count % 4 == 0, let bytes = Data(base64Encoded: base64) else {
                throw ReloadError(.artifactBadInline, "inline is not base64")
            }
            return try directory.stage(bytes: [UInt8](bytes), module: target.name)
        }
    }

    var roots: [String] {
        guard settings.artifactRoots.isEmpty else { return settings.artifactRoots }
        let files = state.withLock { $0.modules.values.compactMap(\.target.registeredFile) }
        return files.map { URL(fileURLWithPath: $0).deletingLastPathComponent().path }.sorted()
    }

    /// Takes no more requests and waits for the attempts under way, at most for `grace`. What waits in line is neither
    /// answered nor acknowledged: the broker keeps it.
    package func stop(grace: Duration) {
        state.withLock { $0.isStopping = true }
        workers.stop(grace: grace)
    }

    /// Saves for the last time and gives the state directory to whoever comes next.
    package func close() {
        later.sync { Trial.dismiss() }  // not while the next one is being started
        save()
        directory.close()
    }
}
