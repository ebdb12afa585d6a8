internal import Dispatch
internal import FoundationEssentials
internal import Logging
internal import Metrics
package import ReloadProtocol
internal import Synchronization

/// The way of an outcome: ledger, report, acknowledgement.
extension Reloader {
    /// Answers a request and those it took the place of.
    ///
    /// - Parameter isLast: none of those is tried instead.
    func answer(_ job: ReloadJob, _ outcome: Attempt.Outcome, isLast: Bool) {
        log(job, outcome)
        // An expired request must not count as the newest one.
        if outcome.state != .expired { noteIssue(of: isLast ? [job] + job.folded : [job]) }
        let older = isLast || job.folded.isEmpty ? job.olderTickets : []
        // Whoever waits at a queue of its own gets a report of its own.
        let own = older.filter { $0.replyTo != nil }
        answer(job.ticket, outcome, superseded: older.filter { $0.replyTo == nil })
        for ticket in own { answer(ticket, Attempt.Outcome(state: .superseded)) }
        let hasSwitched = outcome.state == .applied || outcome.state == .rolledBack
        if hasSwitched { drain(job.moduleNames) }
        if outcome.state == .applied { announceSoon() }
    }

    /// Answers requests that others took the place of.
    func answerSuperseded(_ tickets: [Ticket]) {
        var tickets = tickets
        for ticket in tickets where ticket.replyTo != nil { answer(ticket, Attempt.Outcome(state: .superseded)) }
        tickets.removeAll { $0.replyTo != nil }
        // The last one with an id speaks for the others.
        guard let index = tickets.lastIndex(where: { $0.id != nil }) ?? tickets.indices.last else { return }
        let speaker = tickets.remove(at: index)
        answer(speaker, Attempt.Outcome(state: .superseded), superseded: tickets)
    }

    func answer(
        _ ticket: Ticket, _ outcome: Attempt.Outcome, superseded: [Ticket] = []
    ) {
        if add(ticket, outcome, superseded: superseded) { sendAll() }
    }

    /// The same for a thread that must not wait. However many come, one worker sends them all.
    func answerLater(_ ticket: Ticket, _ outcome: Attempt.Outcome, _ weights: [Weight]) {
        if add(ticket, outcome, weights: weights) { workers.run { [self] in sendAll() } }
    }

    /// Whether nobody is sending answers.
    private func add(
        _ ticket: Ticket, _ outcome: Attempt.Outcome, superseded: [Ticket] = [], weights: [Weight] = []
    ) -> Bool {
        Counter(label: "reload_agent_requests_total", dimensions: [("state", outcome.state.rawValue)], factory: metrics)
            .increment()
        if !superseded.isEmpty {
            Counter(label: "reload_agent_requests_total", dimensions: [("state", "superseded")], factory: metrics)
                .increment(by: superseded.count)
        }
        let answer = Answer(ticket: ticket, outcome: outcome, superseded: superseded, weights: weights)
        return answering.withLock { answering in
            answering.waiting.append(answer)
            defer { answering.isUnderWay = true }
            return !answering.isUnderWay
        }
    }

    private func sendAll() {
        while let answers = takeAnswers() { send(answers) }
    }

    private func takeAnswers() -> [Answer]? {
        answering.withLock { answering in
            guard !answering.waiting.isEmpty else {
                answering.isUnderWay = false
                return nil
            }
            defer { answering.waiting = [] }
            return answering.waiting
        }
    }

    /// First the ledger, then the report, then the acknowledgement.
    private func send(_ answers: [Answer]) {
        var outgoing: [(OutgoingReport, Answer)] = []
        for answer in answers {
            let outcome = answer.outcome
            var report = report(
                for: answer.ticket.id, outcome.state, code: outcome.code, message: outcome.message,
                modules: outcome.modules)
            let ids = answer.superseded.compactMap(\.id)
            if !ids.isEmpty { report.superseded = ids }
            let message = OutgoingReport(
                report: report, replyTo: answer.ticket.replyTo, correlationID: answer.ticket.correlationID)
            outgoing.append((message, answer))
            ledger.add(answered: answer.tickets.compactMap(\.rememberedID), report: message)
            for place in answer.tickets.compactMap(\.place) { ledger.position.settle(place) }
        }
        let isSaved = ledger.write(records)
        FaultPoint.reached(.saved)
        for (message, answer) in outgoing {
            outlets.report(message) { [self] in
                FaultPoint.reached(.reported)
                ledger.confirmed(message.id)
                // On a stream the place in the ledger is what counts.
                acknowledge(answer.tickets, isSaved || answer.ticket.place != nil)
            }
        }
        if isSaved { acknowledgeUnsaved() }
    }

    private func acknowledge(_ tickets: [Ticket], _ mayGo: Bool) {
        let acknowledgements = state.withLock { state in
            tickets.flatMap { ticket in ticket.rememberedID.map { state.answers.answer($0) } ?? [ticket.acknowledge] }
        }
        if mayGo {
            for acknowledge in acknowledgements { acknowledge() }
            FaultPoint.reached(.acknowledged)
        } else {
            answering.withLock { $0.unsaved += acknowledgements }
        }
    }

    private func acknowledgeUnsaved() {
        let acknowledgements = answering.withLock { answering in
            defer { answering.unsaved = [] }
            return answering.unsaved
        }
        for acknowledge in acknowledgements { acknowledge() }
    }

    private func log(_ job: ReloadJob, _ outcome: Attempt.Outcome) {
        var metadata: Logger.Metadata = [
            "request": "\(job.ticket.id ?? "")", "operation": "\(job.request.operation.rawValue)",
            "modules": "\(job.request.modules.map(\.name).joined(separator: ",").excerpt)",
            "state": "\(outcome.state.rawValue)",
        ]
        if job.foldCount > 0 { metadata["superseded"] = "\(job.foldCount)" }
        if outcome.code != .ok { metadata["code"] = "\(outcome.code)" }
        if !outcome.message.isEmpty { metadata["reason"] = "\(outcome.message)" }
        switch outcome.state {
        case .failed, .rolledBack: logger.error("reload failed", metadata: metadata)
        case .refused: logger.warning("reload refused", metadata: metadata)
        default: logger.info("reload request answered", metadata: metadata)
        }
    }

    /// Reports what runs now in a moment: changes that come together share a report, and no answer waits behind it.
    private func announceSoon() {
        let isFirst = state.withLock { state in
            defer { state.isAnnouncementPlanned = true }
            return !state.isAnnouncementPlanned
        }
        guard isFirst else { return }
        later.asyncAfter(deadline: .now() + .milliseconds(100)) { [weak self] in
            guard let self else { return }
            let isStopping = state.withLock { state in
                state.isAnnouncementPlanned = false
                return state.isStopping
            }
            if !isStopping { announce(.online) }
        }
    }

    /// Reports the whole inventory under `online` or `offline`. One `online` report is on its way at a time; when the broker is
    /// away, the next one goes out when it is back.
    ///
    /// - Parameter note: what people should know besides.
    package func announce(_ presence: ReportState, note: String = "") {
        let message = state.withLock { state -> String? in
            if !note.isEmpty { state.note = (state.note.isEmpty ? note : "\(state.note); \(note)").excerpt }
            if presence == .online {
                state.isAnnouncementDue = state.isAnnouncing
                guard !state.isAnnouncing else { return nil }
                state.isAnnouncing = true
            }
            defer { state.note = "" }
            return state.note
        }
        guard let message else { return }
        let outgoing = OutgoingReport(
            report: report(for: nil, presence, message: message, modules: inventory()), replyTo: nil, correlationID: nil
        )
        outlets.report(outgoing) { [self] in
            guard presence == .online else { return }
            let isDue = state.withLock { state in
                defer { state.isAnnouncementDue = false }
                state.isAnnouncing = false
                return state.isAnnouncementDue
            }
            if isDue { announce(.online) }
        }
    }

    /// Writes what has changed since the last answer: the place in the stream, above all.
    package func save() {
        if ledger.write(records) { acknowledgeUnsaved() }
    }

    func inventory() -> [ModuleReport] {
        recordRequestAge()
        return state.withLock { Array($0.modules.values) }
            .map { module in
                module.recordGauges()
                return module.report(.online)
            }
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
            state: reportState, code: code, message: message, modules: modules, interval: settings.reportInterval,
            at: now())
    }
}
