package import ReloadProtocol

/// The service's own handler: it gets the artifact, does what is slow or may fail, and returns what makes it visible.
package final class HandlerTarget: Target {
    package typealias Prepare = @Sendable (HandlerArtifact) throws -> @Sendable () throws -> Void

    package let name: String
    package var kind: ModuleKind { .custom }
    package let registeredFile: String?
    private let slot: Slot<Void>
    private let handler: Prepare

    /// A target whose service has its first version already: the handler is not called.
    package init(name: String, file: String?, handler: @escaping Prepare) {
        self.name = name
        self.registeredFile = file
        self.handler = handler
        slot = Slot(version: VersionReport(revision: 0, digest: nil), artifact: nil, value: (), elsewhere: { $0() })
    }

    /// A target that comes up with a version it had before: the handler is given it.
    init(
        name: String, file: String?, artifact: StagedArtifact, version: VersionReport, handler: @escaping Prepare
    ) throws(ReloadError) {
        self.name = name
        self.registeredFile = file
        self.handler = handler
        slot = Slot(version: version, artifact: artifact, value: (), elsewhere: { $0() })
        try Self.handlerErrors { try handler(HandlerArtifact(artifact, version))() }
    }

    package var running: RunningVersion { slot.running }
    package var seen: RunningVersion { RunningVersion(slot.seen) }
    package var lingering: [LingeringReport] { slot.lingering }
    package var generationsInMemory: Int { 1 }
    package func pin() -> Pin { slot.pin() }
    package func drain() { slot.drain() }

    package func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings,
        willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> any PreparedSwap {
        let makeVisible = try timings.measure("load") { () throws(ReloadError) in
            try Self.handlerErrors { try handler(HandlerArtifact(artifact, version)) }
        }
        var swap = SlotSwap(slot: slot, artifact: artifact, version: version, value: (), notServed: .handlerFailed)
        swap.published = { () throws(ReloadError) in try Self.handlerErrors(makeVisible) }
        // A handler is given the version before again, the way it was given this one.
        swap.withdrawn = { [handler] old in
            guard let artifact = old.artifact else { return }
            try? handler(HandlerArtifact(artifact, old.version))()
        }
        return swap
    }

    private static func handlerErrors<Result>(_ body: () throws -> Result) throws(ReloadError) -> Result {
        do {
            return try body()
        } catch {
            throw ReloadError(.handlerFailed, "\(error)".excerpt, underlying: error)
        }
    }
}

/// What a service's own handler is given to load.
public struct HandlerArtifact: Sendable {
    /// A private copy of the bytes; it stays as long as this version runs or can be rolled back to.
    public let path: String
    /// `sha256:<hex>` of the copy.
    public let digest: String
    /// The revision that was asked for.
    public let revision: Int64
    /// The publisher's text for people.
    public let version: String?

    init(_ artifact: StagedArtifact, _ version: VersionReport) {
        path = artifact.path
        digest = artifact.digest
        revision = version.revision
        self.version = version.version
    }
}
