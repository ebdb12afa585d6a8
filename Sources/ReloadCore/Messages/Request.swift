package import FoundationEssentials

/// What a request asks for.
public enum Operation: String, Sendable, Codable, CaseIterable {
    /// Load the named versions and switch to them.
    case apply
    /// Everything `apply` does but the switch.
    case validate
    /// Go back to `revision`, or to the newest proven version older than the running one.
    case rollback
    /// Report everything that runs here.
    case inventory
    /// Lift a quarantine.
    case release
}

/// What kind of target a module is.
public enum ModuleKind: String, Sendable, Codable, CaseIterable {
    /// A shared library behind the plugin ABI.
    case plugin
    /// A JSON or YAML file decoded into the service's own type.
    case config
    /// The service's own handler.
    case custom
}

/// One request as it was understood, `reload.request.v1` or the source article's message.
package struct Request: Sendable, Equatable {
    /// What it asks for one module.
    package struct Module: Sendable, Equatable {
        package var name: String
        /// nil: whatever the module is here (only the article's message leaves it out).
        package var kind: ModuleKind?
        /// nil: the next local one (the article's message), or for a rollback the previous good one.
        package var revision: Int64?
        package var version: String?
        package var artifact: ArtifactSource
        /// `sha256:<hex>` the bytes must have.
        package var digest: String?

        package init(
            name: String, kind: ModuleKind?, revision: Int64?, version: String?, artifact: ArtifactSource,
            digest: String? = nil
        ) {
            self.name = name
            self.kind = kind
            self.revision = revision
            self.version = version
            self.artifact = artifact
            self.digest = digest
        }
    }

    package var operation: Operation
    package var origin: String?
    package var issuedAt: Date?
    package var expiresAt: Date?
    /// Glob over `service:instance`; nil means all.
    package var destination: Destination?
    package var modules: [Module]

    package init(
        operation: Operation, origin: String? = nil, issuedAt: Date? = nil, expiresAt: Date? = nil,
        destination: Destination? = nil, modules: [Module]
    ) {
        self.operation = operation
        self.origin = origin
        self.issuedAt = issuedAt
        self.expiresAt = expiresAt
        self.destination = destination
        self.modules = modules
    }
}

/// Where the bytes of a version come from.
package enum ArtifactSource: Sendable, Equatable {
    /// The target's registered file is read again.
    case registeredFile
    /// A file under the artifact roots.
    case path(String)
    /// A file of the registered file's name in this folder (the article's `is_append_path`).
    case folder(String)
    /// The bytes in the request, still in base64.
    case inline(String)
}
