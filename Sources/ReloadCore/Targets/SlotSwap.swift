/// A candidate for a slot, on its way from prepared to serving. What a kind of target adds to that it gives as closures.
struct SlotSwap<Value: Sendable>: PreparedSwap {
    let slot: Slot<Value>
    let artifact: StagedArtifact
    let version: VersionReport
    let value: Value
    /// The code for a live handle that serves something else than the candidate.
    let notServed: ReloadCode
    /// Makes the candidate visible where the slot does not reach; a throw leaves everything as it was.
    var publish: () throws(ReloadError) -> Void = { () throws(ReloadError) in }
    /// Asks the generation that the live handle serves.
    var check: (Generation<Value>) throws(ReloadError) -> Void = { (_) throws(ReloadError) in }
    /// After the change is proven.
    var changed: (_ old: Generation<Value>, _ new: Generation<Value>) -> Void = { _, _ in }
    /// After the old generation is back.
    var reverted: (_ old: Generation<Value>) -> Void = { _ in }
    /// Instead of the switch.
    var dropped: () -> Void = {}
    private var swapped: (old: Generation<Value>, new: Generation<Value>)?

    init(
        slot: Slot<Value>, artifact: StagedArtifact, version: VersionReport, value: Value, notServed: ReloadCode
    ) {
        self.slot = slot
        self.artifact = artifact
        self.version = version
        self.value = value
        self.notServed = notServed
    }

    mutating func commit() throws(ReloadError) {
        try publish()
        swapped = slot.replace(version: version, artifact: artifact, value: value)
    }

    /// The same way in as every call of the service.
    func prove() throws(ReloadError) {
        try slot.withCurrent { (generation) throws(ReloadError) in
            guard generation === swapped?.new else {
                throw ReloadError(notServed, "the live handle does not serve the new generation")
            }
            try check(generation)
        }
    }

    func finish() {
        guard let swapped else { return }
        slot.retire(swapped.old)
        changed(swapped.old, swapped.new)
    }

    func revert() {
        guard let swapped else { return }
        slot.restore(swapped.old)
        reverted(swapped.old)
    }

    func discard() {
        dropped()
    }
}

extension Slot {
    /// What runs, as targets tell it.
    var running: RunningVersion {
        let generation = current
        var report = generation.version
        report.generation = generation.number
        return RunningVersion(report: report, artifact: generation.artifact)
    }
}
