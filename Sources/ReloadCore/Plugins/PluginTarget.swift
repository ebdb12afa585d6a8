public import ReloadProtocol

/// The target behind ``PluginHandle``: one shared library with one instance.
@usableFromInline
package final class PluginTarget: Target {
    package let name: String
    package var kind: ModuleKind { .plugin }
    package let registeredFile: String?
    @usableFromInline package let slot: Slot<PluginLibrary>
    private let trial: Trial?
    private let generationLimit: Int
    private let retained = RetainedCount()

    /// Loads the first version; throws what is wrong with it.
    ///
    /// - Parameters:
    ///   - trial: nil tries nothing beforehand: a candidate that crashes then takes the service with it.
    ///   - isProven: this first version was proven here before and needs no trial.
    ///   - elsewhere: where a library is destroyed that a call left last.
    package init(
        name: String, file: String, artifact: StagedArtifact, version: VersionReport, trial: Trial?,
        isProven: Bool, generationLimit: Int, willOpen: () throws(ReloadError) -> Void,
        elsewhere: @escaping Slot<PluginLibrary>.Elsewhere
    ) throws(ReloadError) {
        self.name = name
        self.registeredFile = file
        self.trial = trial
        self.generationLimit = generationLimit
        var timings = Timings()
        let library = try Self.load(artifact, isProven ? nil : trial, nil, retained, &timings, willOpen)
        var version = version
        version.version = version.version ?? library.version
        slot = Slot(version: version, artifact: artifact, value: library, elsewhere: elsewhere) { generation in
            generation.value.close()
        }
    }

    package var running: RunningVersion { slot.running }
    package var seen: RunningVersion { RunningVersion(slot.seen) }
    package var lingering: [LingeringReport] { slot.lingering }
    package var generationsInMemory: Int { retained.value + slot.generations.count { !$0.value.mustStayMapped } }
    package func pin() -> Pin { slot.pin() }
    package func drain() { slot.drain() }

    package func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings,
        willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> any PreparedSwap {
        try checkGenerations(limit: generationLimit, .pluginTooManyGenerations)
        let library = try Self.load(artifact, trial, slot, retained, &timings, willOpen)
        do throws(ReloadError) {
            try timings.measure("load") { () throws(ReloadError) in try self.handState(to: library) }
        } catch {
            library.close()
            throw error
        }
        var version = version
        version.version = version.version ?? library.version
        var swap = SlotSwap(
            slot: slot, artifact: artifact, version: version, value: library, notServed: .pluginSelfTestFailed)
        swap.check = { (library) throws(ReloadError) in try library.selfTest() }
        swap.discarded = { library.close() }
        return swap
    }

    private static func load(
        _ artifact: StagedArtifact, _ trial: Trial?, _ slot: Slot<PluginLibrary>?, _ retained: RetainedCount,
        _ timings: inout Timings, _ willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> PluginLibrary {
        let mustStayMapped = try timings.measure("vet") { () throws(ReloadError) in
            let file = try ELFFile(path: artifact.path)
            try NeededLibraries.check(file, at: artifact.path)
            try trial?.check(artifact.path, state: slot?.withCurrent { $0.stateForTrial })
            return file.mustStayMapped
        }
        return try timings.measure("load") { () throws(ReloadError) in
            try willOpen()
            let library = try PluginLibrary(path: artifact.path, mustStayMapped: mustStayMapped, retained: retained)
            do throws(ReloadError) {
                try library.selfTest()
            } catch {
                library.close()
                throw error
            }
            return library
        }
    }

    private func handState(to library: PluginLibrary) throws(ReloadError) {
        try slot.withCurrent { (running) throws(ReloadError) in
            let schema = running.stateSchema
            guard schema != 0, library.stateSchema != 0 else { return }
            try library.restoreState(try running.snapshotState(), schema: schema)
        }
    }
}

extension PluginTarget {
    /// Calls the plugin in use; see ``PluginLibrary``.
    @inlinable
    package func call(_ input: Span<UInt8>, operation: UInt32, into output: inout [UInt8]) -> FailedCall? {
        unsafe slot.withPointer { unsafe PluginLibrary.call($0, operation: operation, input: input, into: &output) }
    }

    /// The same with an array of its own.
    @inlinable
    package func call(_ input: [UInt8], operation: UInt32) throws(ReloadError) -> [UInt8] {
        var output: [UInt8] = []
        if let failed = call(input.span, operation: operation, into: &output) { throw failed.error }
        return output
    }

    /// Calls the plugin that is pinned.
    package func call(
        _ input: Span<UInt8>, operation: UInt32, into output: inout [UInt8], _ pin: Pin
    ) -> FailedCall? {
        unsafe pin.withPointer(in: slot) {
            unsafe PluginLibrary.call($0, operation: operation, input: input, into: &output)
        }
    }
}
