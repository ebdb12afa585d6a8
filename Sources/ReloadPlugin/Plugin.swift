/// A plugin written in Swift: the author's side of the ABI in `CReloadPlugin`.
///
/// Conform a type to this protocol and export it with one line; the compiler compares that line with the C header:
///
/// ```swift
/// import CReloadPlugin
/// import ReloadPlugin
///
/// struct Shouter: Plugin {
///     static let name = "shouter"
///     static let version = "1.0.0"
///
///     func call(_ operation: UInt32, _ input: Span<UInt8>) throws -> [UInt8] {
///         guard operation == 1 else { throw PluginFailure.unknownOperation(operation) }
///         return try Array(String(copying: UTF8Span(validating: input)).uppercased().utf8)
///     }
///
///     func selfTest() throws {}
/// }
///
/// @implementation @c
/// public func reload_plugin_entry(_ host: UInt32) -> UnsafePointer<reload_plugin>? {
///     exportPlugin(Shouter.self, host: host)
/// }
/// ```
///
/// Whatever these functions throw becomes the failure that the service sees, with the error's description as its text.
/// A trap (an index out of range, an overflow) still ends the whole service.
public protocol Plugin: Sendable {
    /// What the plugin is called, for people.
    static var name: String { get }

    /// Which version this is, for people.
    static var version: String { get }

    /// The number of the state's format; 0, the default, means that the plugin has no state to hand on.
    static var stateSchema: UInt32 { get }

    /// Makes an instance; one serves all threads of the service.
    init() throws

    /// Does the work. Comes from any thread, from many at once.
    ///
    /// - Parameters:
    ///   - operation: what to do, an agreement between service and plugin. Throw
    ///     ``PluginFailure/unknownOperation(_:)`` for one that this plugin does not know.
    ///   - input: bytes whose meaning is the same agreement; never trust them.
    /// - Returns: the bytes that the service gets.
    func call(_ operation: UInt32, _ input: Span<UInt8>) throws -> [UInt8]

    /// Proves that this instance works; throws when it does not. Must end by itself, and may overlap with calls.
    func selfTest() throws

    /// The state for the version that comes next. May overlap with calls; never called when `stateSchema` is 0.
    func snapshotState() throws -> [UInt8]

    /// Takes over the state of the version before, ahead of the first call; never called when `stateSchema` is 0.
    ///
    /// Throwing keeps the old version in service.
    ///
    /// - Parameters:
    ///   - state: what the version before returned from `snapshotState`.
    ///   - schema: that version's `stateSchema`.
    func restoreState(_ state: Span<UInt8>, schema: UInt32) throws
}

extension Plugin {
    /// No state.
    public static var stateSchema: UInt32 { 0 }

    /// Nothing to hand on.
    public func snapshotState() throws -> [UInt8] { [] }

    /// Refuses: a plugin that has state says how it takes over an older one.
    public func restoreState(_ state: Span<UInt8>, schema: UInt32) throws {
        throw PluginFailure.stateRefused("state of schema \(schema) is not understood")
    }
}
