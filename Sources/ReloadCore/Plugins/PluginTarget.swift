/// The target behind ``PluginHandle``: one shared library with one instance.
package final class PluginTarget: Target {
    package let name: String
    package var kind: ModuleKind { .plugin }
    package let registeredFile: String?
    package let slot: Slot<PluginLibrary>
    private let settings: Settings

    /// How candidates are tried and how many old ones are held.
    package struct Settings: Sendable {
        /// nil tries nothing beforehand: a candidate that crashes then takes the service with it.
        package var vetting: Vetting?
        /// Most generations in memory at once, the running one and those that cannot be unloaded included.
        package var generationLimit: Int

        package init(vetting: Vetting? = Vetting(), generationLimit: Int = 1000) {
            self.vetting = vetting
            self.generationLimit = generationLimit
        }
    }

    /// Loads the first version; throws what is wrong with it.
    package init(
        name: String, file: String, artifact: StagedArtifact, version: VersionReport, settings: Settings,
        willOpen: () throws(ReloadError) -> Void,
        onDrained: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void
    ) throws(ReloadError) {
        self.name = name
        self.registeredFile = file
        self.settings = settings
        var timings = Timings()
        let library = try Self.load(artifact, settings, retained: retained, &timings, willOpen)
        var version = version
        version.version = version.version ?? library.version
        slot = Slot(version: version, artifact: artifact, value: library) { generation in
            // Not on the thread of the call that happened to be the last: `destroy` may take its time.
            onDrained { generation.value.close() }
        }
    }

    package var running: RunningVersion { slot.running }
    package var lingering: [LingeringReport] { slot.lingering }
    private let retained = RetainedCount()

    package func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings,
        willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> any PreparedSwap {
        let held = retained.value + slot.heldGenerations
        guard held < settings.generationLimit else {
            throw ReloadError(
                .pluginTooManyGenerations,
                "\(held) generations of \(name) are in memory, the limit is \(settings.generationLimit); restart to free them"
            )
        }
        let library = try Self.load(artifact, settings, retained: retained, &timings, willOpen)
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
        swap.check = { (generation) throws(ReloadError) in try generation.value.selfTest() }
        swap.dropped = { library.close() }
        return swap
    }

    private static func load(
        _ artifact: StagedArtifact, _ settings: Settings, retained: RetainedCount, _ timings: inout Timings,
        _ willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> PluginLibrary {
        let mustStayMapped = try timings.measure("vet") { () throws(ReloadError) in
            let file = try ELFFile(path: artifact.path)
            try settings.vetting?.check(artifact.path)
            return file.mustStayMapped
        }
        return try timings.measure("load") { () throws(ReloadError) in
            try willOpen()
            if mustStayMapped { retained.increment() }
            let library = try PluginLibrary(path: artifact.path, mustStayMapped: mustStayMapped)
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
            let schema = running.value.stateSchema
            guard schema != 0, library.stateSchema != 0 else { return }
            try library.restoreState(try running.value.snapshotState(), schema: schema)
        }
    }
}

extension PluginTarget {
    /// Calls the plugin in use; see ``PluginLibrary``.
    package func call(_ input: [UInt8], operation: UInt32) throws(PluginCallError) -> [UInt8] {
        try slot.withCurrent { (generation) throws(PluginCallError) in
            try generation.value.call(operation: operation, input: input)
        }
    }
}
