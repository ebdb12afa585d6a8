public import FoundationEssentials

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
public struct Request: Sendable, Equatable {
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

    /// What it asks for one module.
    public struct Module: Sendable, Equatable {
        /// What the target is registered under, such as `crawler.parser`; at most 255 bytes.
        public var name: String
        /// nil: whatever the module is here (only the article's message leaves it out).
        public var kind: ModuleKind?
        /// nil: the next local one (the article's message), or for a rollback the previous good one.
        public var revision: Int64?
        /// Text for people, at most 255 bytes.
        public var version: String?
        /// Where the bytes come from.
        public var artifact: ArtifactSource
        /// `sha256:<hex>` the bytes must have.
        public var digest: String?

        /// What is asked for one module.
        public init(
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

    /// What is asked for.
    public var operation: Operation
    /// Who asks, for people: `reloadctl@ops-1`.
    public var origin: String?
    /// When it was made.
    public var issuedAt: Date?
    /// Until when it may be carried out; nil: until a newer revision comes.
    public var expiresAt: Date?
    /// Glob over `service:instance`; nil means all.
    public var destination: Destination?
    /// All or none of them are switched; empty only for an inventory. At most 1,000, each name once.
    public var modules: [Module]

    /// A request; nothing is checked before ``encode()`` or an instance reads it.
    public init(
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
public enum ArtifactSource: Sendable, Equatable {
    /// The target's registered file is read again.
    case registeredFile
    /// A file under the artifact roots.
    case path(String)
    /// A file of the registered file's name in this folder (the article's `is_append_path`).
    case folder(String)
    /// The bytes in the request, still in base64.
    case inline(String)
}

extension ArtifactSource {
    /// The bytes in the request.
    public static func inline(bytes: [UInt8]) -> ArtifactSource { .inline(Data(bytes).base64EncodedString()) }
}
