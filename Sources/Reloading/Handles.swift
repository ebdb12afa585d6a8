public import ReloadCore

/// A configuration that changes while the service runs.
public struct Config<Value: Decodable & Sendable>: Sendable {
    let target: ConfigTarget<Value>

    /// The value in use. Read it once for each unit of work: two reads may see two versions.
    public var current: Value { target.slot.current.value }

    /// The version in use.
    public var status: ModuleStatus { ModuleStatus(target.running.report) }

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
    let target: PluginTarget

    /// Calls the plugin in use. From any thread; a swap neither blocks nor fails a call, and one call sees one version.
    ///
    /// - Parameters:
    ///   - input: What the plugin is to work on; what it means is between the service and the plugin.
    ///   - operation: What the plugin is to do with it.
    /// - Returns: The bytes the plugin wrote.
    /// - Throws: ``PluginCallError`` with the plugin's status and reason.
    public func call(_ input: [UInt8], operation: UInt32 = 1) throws(PluginCallError) -> [UInt8] {
        try target.call(input, operation: operation)
    }

    /// The version in use.
    public var status: ModuleStatus { ModuleStatus(target.running.report) }
}

/// A module with the service's own handler.
public struct ModuleHandle: Sendable {
    let target: HandlerTarget

    /// The version in use.
    public var status: ModuleStatus { ModuleStatus(target.running.report) }
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
