internal import ReloadAMQP
internal import ReloadCore

extension RequestRun {
    /// Publishes, waits, shows, and ends the command with the status of the answers: what `publish`, `rollback` and
    /// `release` have in common.
    mutating func perform(json: Bool) throws {
        lastWords = { run in
            var run = run
            let error = run.hung()
            return run.progress == .confirmed
                ? run.conclude(json: json) : run.giveUp(because: run.signal.map(Interrupted.init) ?? error, json: json)
        }
        try send(json: json)
        try conclude(json: json).check()
    }

    /// Shows what the answers come to.
    private func conclude(json: Bool) -> ExitStatus {
        if json {
            StandardOutput.line(SummaryLine(answers, published: .yes, problem: notes.joined(separator: "; ")))
        } else {
            let modules = request.modules.map { module in
                module.name + (module.revision.map { " revision \($0)" } ?? "")
            }
            StandardOutput.line("\(request.operation.rawValue) \(modules.joined(separator: ", ")), request \(id)")
            for line in answers.text { StandardOutput.line(line) }
        }
        if answers.goal == .all([]) {
            StandardError.line(
                "reloadctl: warning: no instance present\(destinationText); "
                    + "the journal keeps the request for those that come")
        }
        return finish()
    }

    /// Publishes and waits, with live lines or a JSON line for each answer.
    ///
    /// - Throws: ``ExitStatus`` when the request was not confirmed; all is said then.
    mutating func send(json: Bool) throws {
        let live = LiveLines()
        defer { live.erase() }
        do {
            try run(
                begun: { live.draw($0.answers) },
                changed: { run, instance in
                    live.draw(run.answers)
                    guard json, let instance, let answer = run.answers.given[instance] else { return }
                    StandardOutput.line(AnswerLine(instance, answer, request: run.id))
                })
        } catch let error where error is BrokerError || error is Interrupted {
            live.erase()
            throw giveUp(because: error, json: json)
        }
    }

    /// Nobody confirmed: says what that means.
    private func giveUp(because error: any Error, json: Bool) -> ExitStatus {
        let published = fate(after: error as? BrokerError)
        let reason = error is Interrupted ? "interrupted" : "\(error)"
        let meaning =
            published == .no
            ? "nothing was published"
            : "request \(id) was sent and not confirmed: it may have been taken, and may be carried out"
        StandardError.line("reloadctl: \(reason); \(meaning)")
        if json { StandardOutput.line(SummaryLine(answers, published: published, problem: "\(reason); \(meaning)")) }
        return (error as? Interrupted).map { .signal($0.signal) } ?? .broker
    }

    /// Whether the request was published. A refusal of the whole channel is certain; silence is not, nor is a basic.nack,
    /// which one of several queues is enough for.
    private func fate(after error: BrokerError?) -> SummaryLine.Fate {
        let isRefused =
            error.map { $0.isChannelOnly || $0.code == .unroutable || $0.code == .badMessage } ?? false
        return switch progress {
        case .unsent, .sending: .no
        case .unconfirmed: isRefused ? .no : .unknown
        case .confirmed: .yes
        }
    }

    /// What kept the wait from its end.
    private var notes: [String] {
        let lost = problem.map { "lost the broker while waiting: \($0)" }
        let interrupted = signal.map { _ in
            "interrupted; \(answers.given.count) answered, \(answers.missing) did not"
        }
        return [lost, interrupted].compactMap { $0 }
    }

    /// Says what kept the wait from its end; what the command ends with.
    func finish() -> ExitStatus {
        for note in notes { StandardError.line("reloadctl: \(note)") }
        return signal.map(ExitStatus.signal) ?? ExitStatus(answers)
    }

    var destinationText: String {
        request.destination.map { " that \($0.pattern.printable) matches" } ?? ""
    }
}
