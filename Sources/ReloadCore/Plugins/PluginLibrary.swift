internal import CReloadHost
internal import CReloadPlugin
internal import Synchronization

/// One opened plugin with its one instance.
///
/// It is closed exactly once, by ``close()``, after the last call has left its generation.
@safe package final class PluginLibrary: Sendable {
    /// The plugin's own name, for people.
    package let name: String
    /// The plugin's own version, for people.
    package let version: String
    /// Number of its state's format, 0 = none.
    let stateSchema: UInt32
    // The pointers are written once, before any other thread sees this object, and read-only until `close`, which the
    // slot calls when no call is inside and none can enter; the ABI lets `call` come from many threads.
    nonisolated(unsafe) private let loaded: creload_loaded

    /// Opens the copy, checks its table and creates the instance.
    ///
    /// - Throws: `plugin.not_opened` with `dlerror`, `plugin.no_entry`, `plugin.abi_mismatch`, `plugin.not_created`.
    init(path: String, mustStayMapped: Bool) throws(ReloadError) {
        var loaded = unsafe creload_loaded()
        var failure = creload_failure()
        guard unsafe creload_load(path, mustStayMapped, &loaded, &failure), let table = unsafe loaded.table else {
            throw ReloadError(failure)
        }
        unsafe self.loaded = unsafe loaded
        name = unsafe Self.text(table.pointee.name)
        version = unsafe Self.text(table.pointee.version)
        stateSchema = unsafe table.pointee.state_schema
    }

    private static func text(_ pointer: UnsafePointer<CChar>?) -> String {
        guard let pointer = unsafe pointer else { return "" }
        return unsafe String(cString: pointer).excerpt
    }

    /// The plugin's own proof: `plugin.self_test_failed` with its reason.
    func selfTest() throws(ReloadError) {
        var failure = creload_failure()
        let passed = unsafe withUnsafePointer(to: loaded) { unsafe creload_self_test($0, &failure) }
        guard passed else { throw ReloadError(failure) }
    }

    /// The plugin's `call`. A status other than `RELOAD_OK` throws ``PluginCallError`` with what it wrote as the reason.
    func call(operation: UInt32, input: [UInt8]) throws(PluginCallError) -> [UInt8] {
        let (status, output) = unsafe collect { sink in
            guard let call = unsafe loaded.table?.pointee.call else { return RELOAD_FAILED }
            return unsafe input.withUnsafeBytes { unsafe call(loaded.instance, operation, Self.slice($0), sink) }
        }
        guard status == RELOAD_OK else {
            throw PluginCallError(
                plugin: "\(name) \(version)", operation: operation, status: status,
                message: String(decoding: output, as: UTF8.self).excerpt)
        }
        return output
    }

    /// The state for a later version.
    func snapshotState() throws(ReloadError) -> [UInt8] {
        guard stateSchema != 0, let snapshot = unsafe loaded.table?.pointee.snapshot_state else { return [] }
        let (status, output) = unsafe collect { unsafe snapshot(loaded.instance, $0) }
        guard status == RELOAD_OK else {
            throw ReloadError(.pluginStateNotGiven, "\(name) \(version) gave no state: status \(status)")
        }
        return output
    }

    /// Takes over the state of the version before.
    func restoreState(_ state: [UInt8], schema: UInt32) throws(ReloadError) {
        guard let restore = unsafe loaded.table?.pointee.restore_state else { return }
        let (status, reason) = unsafe collect { sink in
            unsafe state.withUnsafeBytes { bytes in
                unsafe restore(loaded.instance, schema, Self.slice(bytes), sink)
            }
        }
        guard status == RELOAD_OK else {
            let text = String(decoding: reason, as: UTF8.self).excerpt
            throw ReloadError(
                .pluginStateRefused, "\(name) \(version) refused state of schema \(schema): status \(status) \(text)")
        }
    }

    private static func slice(_ bytes: UnsafeRawBufferPointer) -> reload_slice {
        unsafe reload_slice(bytes: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), count: bytes.count)
    }

    /// Runs `body` with a sink of the host's and returns what was written to it.
    private func collect(_ body: (UnsafePointer<reload_sink>) -> Int32) -> (status: Int32, output: [UInt8]) {
        var output: [UInt8] = []
        let status = unsafe withUnsafeMutablePointer(to: &output) { output in
            var sink = unsafe reload_sink(context: output) { context, bytes, count in
                guard let output = unsafe context?.assumingMemoryBound(to: [UInt8].self) else { return RELOAD_FAILED }
                unsafe output.pointee.append(
                    contentsOf: UnsafeBufferPointer(start: bytes, count: bytes == nil ? 0 : count))
                return RELOAD_OK
            }
            return unsafe body(&sink)
        }
        return (status, output)
    }

    /// Destroys the instance and closes the library.
    func close() {
        var loaded = unsafe loaded
        unsafe creload_unload(&loaded)
    }
}

/// A plugin answered a call with a status other than `RELOAD_OK`.
public struct PluginCallError: Error, Sendable, CustomStringConvertible {
    /// Name and version of the plugin that answered.
    public let plugin: String
    /// What was asked of it.
    public let operation: UInt32
    /// What it returned; `RELOAD_UNKNOWN_OPERATION` is 2, other numbers are the plugin's own.
    public let status: Int32
    /// Its reason.
    public let message: String

    /// For people.
    public var description: String {
        "\(plugin) answered operation \(operation) with status \(status)\(message.isEmpty ? "" : ": ")\(message)"
    }
}

extension ReloadError {
    init(_ failure: creload_failure) {
        var failure = failure
        let text = unsafe withUnsafeBytes(of: &failure.text) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        let reason = text.isEmpty ? "it gave no reason (status \(failure.status))" : text
        switch failure.step {
        case CRELOAD_STEP_OPEN: self.init(.pluginNotOpened, reason)
        case CRELOAD_STEP_ENTRY: self.init(.pluginNoEntry, reason)
        case CRELOAD_STEP_ABI: self.init(.pluginABIMismatch, reason)
        case CRELOAD_STEP_CREATE: self.init(.pluginNotCreated, reason)
        default: self.init(.pluginSelfTestFailed, reason)
        }
    }
}
