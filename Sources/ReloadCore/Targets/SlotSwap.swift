internal import ReloadProtocol

/// A candidate for a slot, on its way from prepared to serving. What a kind of target adds to that it gives as closures.
struct SlotSwap<Value: Sendable>: PreparedSwap {
    let slot: Slot<Value>
    let artifact: StagedArtifact
    let version: VersionReport
    let value: Value
    /// The code for a live handle that serves something else than the candidate.
    let notServed: ReloadCode
    var note = ""
    var published: () throws(ReloadError) -> Void = { () throws(ReloadError) in }
    /// Asks what the live handle serves.
    var check: (borrowing Value) throws(ReloadError) -> Void = { (_) throws(ReloadError) in }
    /// After the change is proven.
    var changed: (_ old: Value, _ new: Value) -> Void = { _, _ in }
    /// After the old generation is back.
    var withdrawn: (_ old: Generation<Value>) -> Void = { _ in }
    var discarded: () -> Void = {}
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

    func expose() throws(ReloadError) {
        try published()
    }

    mutating func commit() {
        swapped = slot.replace(version: version, artifact: artifact, value: value)
    }

    /// The same way in as every call of the service.
    func prove() throws(ReloadError) {
        guard let swapped, slot.serves(swapped.new) else {
            throw ReloadError(notServed, "the live handle does not serve the new generation")
        }
        try slot.withCurrent(check)
    }

    func finish() {
        guard let swapped else { return }
        // Retired, it may be closed at once.
        let (old, new) = (swapped.old.value, swapped.new.value)
        slot.retire(swapped.old)
        changed(old, new)
    }

    func takeBack() {
        if let swapped { slot.restore(swapped.old) }
    }

    func withdraw() {
        withdrawn(slot.current)
        if let swapped {
            slot.retire(swapped.new)
        } else {
            discarded()
        }
    }

    func discard() {
        discarded()
    }
}

extension Slot {
    /// What runs, as targets tell it.
    var running: RunningVersion { RunningVersion(current) }
}
