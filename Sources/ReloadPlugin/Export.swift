public import CReloadPlugin
import Synchronization

/// The table that a plugin's exported `reload_plugin_entry` returns.
///
/// A library exports one plugin: further calls return the table of the first.
///
/// - Parameters:
///   - type: the plugin.
///   - host: the host's ABI, as the entry function gets it.
/// - Returns: the table, valid as long as the library is loaded; nil when the host speaks another major version.
public func exportPlugin<P: Plugin>(_ type: P.Type, host: UInt32) -> UnsafePointer<reload_plugin>? {
    guard host >> 16 == UInt32(RELOAD_ABI_MAJOR) else { return nil }
    let export = exported.withLock { exported in
        let export = exported ?? Export(type)
        exported = export
        return export
    }
    return unsafe UnsafePointer(export.table)
}

/// What this library exports. C's `create` has no argument that could say which type to make, hence a global; it belongs
/// to one library because this module is linked into each plugin statically.
private let exported = Mutex<Export?>(nil)

/// `@safe` and `@unchecked Sendable`: the table is written once, before the value is shared, and never changed or freed.
@safe private struct Export: @unchecked Sendable {
    let type: any Plugin.Type
    let table: UnsafeMutablePointer<reload_plugin>

    init(_ type: any Plugin.Type) {
        let hasState = type.stateSchema != 0
        self.type = type
        unsafe table = .allocate(capacity: 1)
        unsafe table.initialize(
            to: reload_plugin(
                size: UInt32(MemoryLayout<reload_plugin>.size),
                abi_major: UInt16(RELOAD_ABI_MAJOR),
                abi_minor: UInt16(RELOAD_ABI_MINOR),
                flags: 0,
                state_schema: type.stateSchema,
                reserved: 0,
                name: permanentCString(type.name),
                version: permanentCString(type.version),
                create: createInstance,
                call: callInstance,
                self_test: testInstance,
                snapshot_state: hasState ? snapshotInstance : nil,
                restore_state: hasState ? restoreInstance : nil,
                destroy: destroyInstance
            )
        )
    }
}

private func permanentCString(_ text: String) -> UnsafePointer<CChar>? {
    let units = text.utf8CString
    let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: units.count)
    _ = unsafe copy.initialize(from: units)
    return unsafe UnsafePointer(copy.baseAddress)
}

// MARK: - The functions in the table

/// What the host's `void *instance` points to.
private final class Instance: Sendable {
    let plugin: any Plugin

    init(_ plugin: any Plugin) {
        self.plugin = plugin
    }
}

private func createInstance(
    _ place: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ error: UnsafePointer<reload_sink>?
) -> Int32 {
    unsafe answer(error) {
        guard let place = unsafe place, let type = exported.withLock({ $0?.type }) else {
            throw PluginFailure("create needs the entry to be called first, and a place for the instance")
        }
        let instance = Instance(try type.init())
        unsafe place.pointee = Unmanaged.passRetained(instance).toOpaque()
        return []
    }
}

private func callInstance(
    _ instance: UnsafeMutableRawPointer?, _ operation: UInt32, _ input: reload_slice,
    _ output: UnsafePointer<reload_sink>?
) -> Int32 {
    unsafe answer(output) {
        try unsafe plugin(at: instance).call(operation, UnsafeBufferPointer(input).span)
    }
}

private func testInstance(_ instance: UnsafeMutableRawPointer?, _ error: UnsafePointer<reload_sink>?) -> Int32 {
    unsafe answer(error) {
        try unsafe plugin(at: instance).selfTest()
        return []
    }
}

private func snapshotInstance(_ instance: UnsafeMutableRawPointer?, _ output: UnsafePointer<reload_sink>?) -> Int32 {
    unsafe answer(output) {
        try unsafe plugin(at: instance).snapshotState()
    }
}

private func restoreInstance(
    _ instance: UnsafeMutableRawPointer?, _ schema: UInt32, _ state: reload_slice, _ error: UnsafePointer<reload_sink>?
) -> Int32 {
    unsafe answer(error) {
        try unsafe plugin(at: instance).restoreState(UnsafeBufferPointer(state).span, schema: schema)
        return []
    }
}

private func destroyInstance(_ instance: UnsafeMutableRawPointer?) {
    guard let instance = unsafe instance else { return }
    unsafe Unmanaged<Instance>.fromOpaque(instance).release()
}

private func plugin(at instance: UnsafeMutableRawPointer?) throws -> any Plugin {
    guard let instance = unsafe instance else { throw PluginFailure("called without an instance") }
    return unsafe Unmanaged<Instance>.fromOpaque(instance).takeUnretainedValue().plugin
}

/// Runs `body` and writes what it returns, or why it failed, to the sink in one piece: a plugin that throws has written
/// nothing that could stand before the reason.
private func answer(_ sink: UnsafePointer<reload_sink>?, _ body: () throws -> [UInt8]) -> Int32 {
    do {
        return unsafe write(try body(), to: sink)
    } catch {
        _ = unsafe write(Array(String(describing: error).utf8), to: sink)
        return (error as? PluginFailure)?.status ?? RELOAD_FAILED
    }
}

private func write(_ bytes: [UInt8], to sink: UnsafePointer<reload_sink>?) -> Int32 {
    guard !bytes.isEmpty else { return RELOAD_OK }
    guard let sink = unsafe sink?.pointee, let write = unsafe sink.write else { return RELOAD_FAILED }
    return unsafe bytes.withUnsafeBufferPointer { unsafe write(sink.context, $0.baseAddress, $0.count) }
}

extension UnsafeBufferPointer<UInt8> {
    /// The bytes of a slice from C; one without bytes, or with a count that no memory has, is empty.
    fileprivate init(_ slice: reload_slice) {
        let isEmpty = unsafe slice.bytes == nil || slice.count < 0
        unsafe self.init(start: isEmpty ? nil : slice.bytes, count: isEmpty ? 0 : slice.count)
    }
}
