/// The service's own handler: it gets the artifact, does what is slow or may fail, and returns what makes it visible.
package final class HandlerTarget: Target {
    package typealias Prepare = @Sendable (HandlerArtifact) throws -> @Sendable () throws -> Void

    package let name: String
    package var kind: ModuleKind { .custom }
    package let registeredFile: String?
    private let slot: Slot<Void>
    private let handler: Prepare

    package init(name: String, file: String?, handler: @escaping Prepare) {
        self.name = name
        self.registeredFile = file
        self.handler = handler
        slot = Slot(version: VersionReport(revision: 0, digest: nil), artifact: nil, value: ())
    }

    package var running: RunningVersion { slot.running }
    package var lingering: [LingeringReport] { slot.lingering }

    package func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings
    ) throws(ReloadError) -> any PreparedSwap {
        let commit = try timings.measure("load") { () throws(ReloadError) in
            try Self.handlerErrors {
                try handler(
                    HandlerArtifact(
                        path: artifact.path, digest: artifact.digest, revision: version.revision,
                        version: version.version))
            }
        }
        return HandlerSwap(target: self, artifact: artifact, version: version, makeVisible: commit)
    }

    private static func handlerErrors<Result>(_ body: () throws -> Result) throws(ReloadError) -> Result {
        do {
            return try body()
        } catch {
            throw ReloadError(.handlerFailed, "\(error)".excerpt, underlying: error)
        }
    }

    private struct HandlerSwap: PreparedSwap {
        let target: HandlerTarget
        let artifact: StagedArtifact
        let version: VersionReport
        let makeVisible: @Sendable () throws -> Void
        var swapped: (old: Generation<Void>, new: Generation<Void>)?

        init(
            target: HandlerTarget, artifact: StagedArtifact, version: VersionReport,
            makeVisible: @escaping @Sendable () throws -> Void
        ) {
            self.target = target
            self.artifact = artifact
            self.version = version
            self.makeVisible = makeVisible
        }

        mutating func commit() throws(ReloadError) {
            try HandlerTarget.handlerErrors(makeVisible)
            swapped = target.slot.replace(version: version, artifact: artifact, value: ())
        }

        func prove() {}

        func finish() {
            if let swapped { target.slot.retire(swapped.old) }
        }

        /// A handler is given the version before again, the way it was given this one.
        func revert() {
            guard let swapped else { return }
            target.slot.restore(swapped.old)
            guard let artifact = swapped.old.artifact else { return }
            let old = swapped.old.version
            try? target.handler(
                HandlerArtifact(
                    path: artifact.path, digest: artifact.digest, revision: old.revision, version: old.version))()
        }

        func discard() {}
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
}
