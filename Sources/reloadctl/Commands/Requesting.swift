internal import ReloadAMQP
internal import ReloadCore

extension RequestRun {
    /// Publishes, waits, shows, and ends the command with the status of the answers: what `publish`, `rollback` and
    /// `release` have in common.
    mutating func perform(json: Bool) throws {
        try send(json: json)
        if json {
            try StandardOutput.line(SummaryLine(answers, confirmed: true).jsonLine())
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
        try finish()
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
                    guard let line = try? AnswerLine(instance, answer, request: run.id).jsonLine() else { return }
                    StandardOutput.line(line)
                })
        } catch {
            live.erase()
            try giveUp(because: error, json: json)
        }
    }

    /// Nobody confirmed: says what that means.
    private func giveUp(because error: any Error, json: Bool) throws {
        let status: ExitStatus
        let reason: String
        switch error {
        case let error as Interrupted:
            status = .signal(error.signal)
            reason = "interrupted"
        case let error as BrokerError:
            status = .broker
            reason = "\(error)"
        default:
            throw error
        }
        // A refusal is certain; silence is not.
        let isRefused =
            (error as? BrokerError).map { $0.isChannelOnly || $0.code == .unroutable || $0.code == .badMessage }
            ?? false
        let fate =
            progress == .unsent || isRefused
            ? "nothing was published" : "no confirm for request \(id), which may still be carried out"
        StandardError.line("reloadctl: \(reason); \(fate)")
        if json { try StandardOutput.line(SummaryLine(answers, confirmed: false).jsonLine()) }
        throw status
    }

    /// Ends the command with what the answers come to, or with the signal that ended the wait.
    func finish() throws(ExitStatus) {
        if let problem { StandardError.line("reloadctl: lost the broker while waiting: \(problem)") }
        if let signal {
            StandardError.line("reloadctl: interrupted; \(answers.given.count) answered, \(answers.missing) did not")
            throw .signal(signal)
        }
        try ExitStatus(answers).check()
    }

    var destinationText: String {
        request.destination.map { " that \($0.pattern.printable) matches" } ?? ""
    }
}
