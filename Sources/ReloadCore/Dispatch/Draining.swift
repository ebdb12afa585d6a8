internal import Dispatch
internal import Logging
internal import Metrics
internal import ReloadProtocol
internal import Synchronization

/// What is held beside the running generations: snapshots, and old generations that calls have not left.
extension Reloader {
    /// Holds the generation that each module runs now, all at one moment; nil inside a snapshot of this agent.
    package func snapshot() -> Snapshot? {
        let outer = Snapshot.current
        guard outer?.innermost(of: self) == nil else { return nil }
        let modules = state.withLock { $0.modules }
        let pins = switching.withLock { _ in modules.values.map { $0.target.pin() } }
        return Snapshot(of: self, pins: pins, inside: outer)
    }

    /// Closes old generations of these modules that nothing holds, and has an eye on the others.
    func drain(_ names: [String]) {
        for module in names.compactMap({ name in state.withLock { $0.modules[name] } }) {
            module.target.drain()
            let lingering = module.recordGauges()
            let new = module.withState { state in
                let new = Set(lingering.map(\.generation)).subtracting(state.watched)
                state.watched.formUnion(new)
                return new
            }
            guard !new.isEmpty else { continue }
            let deadline = DispatchTime.now() + .milliseconds(Int(settings.drainDeadline.wholeMilliseconds))
            later.asyncAfter(deadline: deadline) { [weak self, module] in
                self?.lookAfter(new, of: module)
            }
        }
    }

    /// The deadline of these generations has come. They are never forced: their code and their values may be in use.
    private func lookAfter(_ generations: Set<UInt64>, of module: RegisteredModule) {
        module.withState { $0.watched.subtract(generations) }
        let overdue = module.recordGauges().filter { generations.contains($0.generation) }
        guard !overdue.isEmpty, !state.withLock({ $0.isStopping }) else { return }
        for entry in overdue {
            logger.warning(
                "an old generation is still in use",
                metadata: [
                    "module": "\(module.target.name)", "generation": "\(entry.generation)",
                    "in_flight": "\(entry.inFlight)", "age_ms": "\(entry.ageMilliseconds)",
                ])
        }
        let text = overdue.map {
            "generation \($0.generation) has \($0.inFlight) in flight after \($0.ageMilliseconds) ms"
        }
        announce(.online, note: "\(module.target.name) drains slowly: \(text.joined(separator: ", "))")
    }
}
