internal import ReloadFleet
internal import ReloadProtocol

/// Publishes, waits and shows: what `publish`, `rollback`, `release` and `status --fresh` have in common.
struct Requesting {
    let watch: SignalWatch
    let isJSON: Bool
    private(set) var run: RequestRun

    init(
        _ request: Request, wait: RequestRun.Wait, key: SigningKey?, timeout: TimeoutOption, broker: BrokerOptions
    ) throws(ReloadError) {
        let watch = try SignalWatch(timeout: timeout.timeout.duration)
        self.init(RequestRun(request, on: try broker.fleet(watch), wait: wait, key: key), watch, isJSON: broker.json)
    }

    init(_ run: RequestRun, _ watch: SignalWatch, isJSON: Bool) {
        self.run = run
        self.watch = watch
        self.isJSON = isJSON
    }

    /// Publishes, waits, shows, and ends the command with the status of the answers.
    consuming func perform() throws {
        run.onStep = { [watch, isJSON] run in
            watch.setLastWords {
                let one = Requesting(run, watch, isJSON: isJSON)
                return run.published == .yes
                    ? one.conclude(because: .unending, endedBy: watch.signal)
                    : one.giveUp(because: .unending, endedBy: watch.signal)
            }
        }
        try send(answersAsJSON: isJSON)
        try conclude(because: run.problem, endedBy: run.wasCancelled ? watch.signal : nil).check()
    }

    /// Shows what the answers come to.
    ///
    /// - Parameters:
    ///   - problem: why the stream could not be read to the end of the wait.
    ///   - signal: what ended it, if that did.
    private func conclude(because problem: ReloadError?, endedBy signal: Int32?) -> ExitStatus {
        if isJSON {
            let notes = notes(problem, endedBy: signal).joined(separator: "; ")
            StandardOutput.line(SummaryLine(run.answers, published: .yes, problem: notes))
        } else {
            let modules = run.request.modules.map { module in
                module.name + (module.revision.map { " revision \($0)" } ?? "")
            }
            StandardOutput.line(
                "\(run.request.operation.rawValue) \(modules.joined(separator: ", ")), request \(run.id)")
            for line in run.answers.text { StandardOutput.line(line) }
        }
        if run.answers.goal == .all([]) {
            StandardError.line(
                "reloadctl: warning: no instance present\(destinationText); "
                    + "the journal keeps the request for those that come")
        }
        return finish(because: problem, endedBy: signal)
    }

    /// Publishes and waits, with live lines or a JSON line for each answer.
    ///
    /// - Throws: ``ExitStatus`` when the request was not confirmed; all is said then.
    mutating func send(answersAsJSON: Bool) throws {
        let live = LiveLines()
        defer { live.erase() }
        do throws(ReloadError) {
            try run.run(
                begun: { live.draw($0.answers) },
                changed: { run, instance in
                    live.draw(run.answers)
                    guard answersAsJSON, let instance, let answer = run.answers.given[instance] else { return }
                    StandardOutput.line(AnswerLine(instance, answer, request: run.id))
                })
        } catch {
            live.erase()
            guard error.code.area == "broker" else { throw error }
            throw giveUp(because: error, endedBy: error.code == .brokerCancelled ? watch.signal : nil)
        }
    }

    /// Nobody confirmed: says what that means.
    private func giveUp(because error: ReloadError, endedBy signal: Int32?) -> ExitStatus {
        let reason = signal == nil ? "\(error)" : "interrupted"
        let meaning =
            run.published == .no
            ? "nothing was published"
            : "request \(run.id) was sent and not confirmed: it may have been taken, and may be carried out"
        StandardError.line("reloadctl: \(reason); \(meaning)")
        if isJSON {
            StandardOutput.line(
                SummaryLine(run.answers, published: run.published, problem: "\(reason); \(meaning)"))
        }
        return signal.map(ExitStatus.signal) ?? .broker
    }

    /// What kept the wait from its end.
    private func notes(_ problem: ReloadError?, endedBy signal: Int32?) -> [String] {
        let lost = problem.map { "lost the broker while waiting: \($0)" }
        let interrupted = signal.map { _ in
            "interrupted; \(run.answers.given.count) answered, \(run.answers.missing) did not"
        }
        return [lost, interrupted].compactMap { $0 }
    }

    /// Says what kept the wait from its end; what the command ends with.
    func finish(because problem: ReloadError?, endedBy signal: Int32?) -> ExitStatus {
        for note in notes(problem, endedBy: signal) { StandardError.line("reloadctl: \(note)") }
        return signal.map(ExitStatus.signal) ?? ExitStatus(run.answers)
    }

    private var destinationText: String {
        run.request.destination.map { " that \($0.pattern.printable) matches" } ?? ""
    }
}
