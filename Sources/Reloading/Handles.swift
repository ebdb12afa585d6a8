public import ReloadCore
internal import ReloadProtocol

/// A configuration that changes while the service runs.
public struct Config<Value: Decodable & Sendable>: Sendable {
    let target: ConfigTarget<Value>
    @usableFromInline let slot: Slot<Value>

    init(_ target: ConfigTarget<Value>) {
        self.target = target
        slot = target.slot
    }

    /// The value in use, copied out. Read it once for each unit of work: two reads may see two versions.
    ///
    /// A read takes no lock and allocates nothing. The copy retains every array, dictionary and string in the value, which costs
    /// more than the read: ``withCurrent(_:)`` copies nothing.
    @inlinable
    public var current: Value { slot.withCurrent { copy $0 } }

    /// Runs `body` with the value in use, which is not copied: `rules.withCurrent { $0.hosts.contains(host) }`. Keep it short:
    /// a version that was replaced stays in memory until `body` returns.
    @inlinable
    public func withCurrent<Result, Failure: Error>(
        _ body: (borrowing Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try slot.withCurrent(body)
    }

    /// The version in use.
    public var status: ModuleStatus { ModuleStatus(target.seen.report) }

    /// Calls `observer` with the old and the new value after each change, on the thread that reloads and before the change
    /// is reported: keep it short.
    public func onChange(_ observer: @escaping @Sendable (_ old: Value, _ new: Value) -> Void) {
        target.onChange(observer)
    }

    /// The value in use, then each change. A reader that is slower than the changes gets the newest and misses those
    /// between.
    public var values: AsyncStream<Value> { target.values() }
}

/// A plugin that is replaced while the service runs.
public struct PluginHandle: Sendable {
    @usableFromInline let target: PluginTarget

    /// Calls the plugin in use. From any thread; a swap neither blocks nor fails a call, and one call sees one version.
    ///
    /// It takes no lock. The array it returns is the only thing it allocates.
    ///
    /// - Parameters:
    ///   - input: What the plugin is to work on; what it means is between the service and the plugin.
    ///   - operation: What the plugin is to do with it.
    /// - Returns: The bytes the plugin wrote.
    /// - Throws: `ReloadError` with `plugin.call_failed`; its `pluginCall` has the plugin's status and reason.
    @inlinable
    public func call(_ input: [UInt8], operation: UInt32 = 1) throws(ReloadError) -> [UInt8] {
        try target.call(input, operation: operation)
    }

    /// The same, appended to an array: one that is used again with its capacity makes a call that allocates nothing.
    ///
    /// - Throws: the same; `output` is then as it was.
    @inlinable
    public func call(
        _ input: Span<UInt8>, operation: UInt32 = 1, into output: inout [UInt8]
    ) throws(ReloadError) {
        if let failed = target.call(input, operation: operation, into: &output) { throw failed.error }
    }

    /// The version in use, held for several calls that belong together, also over suspensions. It stays in memory as long as
    /// this does.
    public var pinned: PinnedPlugin { PinnedPlugin(target: target, pin: target.pin()) }

    /// The version in use.
    public var status: ModuleStatus { ModuleStatus(target.seen.report) }
}

/// One version of a plugin.
public struct PinnedPlugin: Sendable {
    let target: PluginTarget
    let pin: Pin

    /// Calls this version; see ``PluginHandle/call(_:operation:)``.
    public func call(_ input: [UInt8], operation: UInt32 = 1) throws(ReloadError) -> [UInt8] {
        var output: [UInt8] = []
        if let failed = target.call(input.span, operation: operation, into: &output, pin) { throw failed.error }
        return output
    }
}

/// A module with the service's own handler.
public struct HandlerHandle: Sendable {
    let target: HandlerTarget

    /// The version in use.
    public var status: ModuleStatus { ModuleStatus(target.seen.report) }
}

/// The version of a module that is in use.
public struct ModuleStatus: Sendable, Equatable {
    /// The publisher's number; 0 for the file the service registered.
    public let revision: Int64
    /// Text for people: the publisher's, else the plugin's own.
    public let version: String?
    /// `sha256:<hex>` of the bytes; nil for a handler that was not asked to load anything yet.
    public let digest: String?
    /// Counts this module's activations in this process.
    public let generation: UInt64

    init(_ report: VersionReport) {
        revision = report.revision
        version = report.version
        digest = report.digest
        generation = report.generation ?? 0
    }
}

/// The name of before.
@available(*, deprecated, renamed: "HandlerHandle")
public typealias ModuleHandle = HandlerHandle
