public import CReloadPlugin
internal import CReloadTrial
internal import Glibc
public import ReloadProtocol
internal import Synchronization

/// One opened plugin with its one instance.
///
/// It is closed exactly once, by ``close()``, when nothing holds its generation any more.
@safe @usableFromInline
package struct PluginLibrary: Sendable {
    @usableFromInline typealias CallFunction =
        @convention(c) (
            UnsafeMutableRawPointer?, UInt32, reload_slice, UnsafePointer<reload_sink>?
        ) -> Int32

    /// The plugin's own name, for people.
    package let name: String
    /// The plugin's own version, for people.
    package let version: String
    /// Number of its state's format, 0 = none.
    let stateSchema: UInt32
    // Pointers into the library and to its instance, which are there until `close`; that comes when nothing holds the
    // generation any more. The ABI lets `call` come from many threads.
    nonisolated(unsafe) private let loaded: creload_trial_loaded
    // The two that a call needs.
    @usableFromInline nonisolated(unsafe) let callFunction: CallFunction
    @usableFromInline nonisolated(unsafe) let instance: UnsafeMutableRawPointer?
    let mustStayMapped: Bool

    /// Opens the copy, checks its table and creates the instance.
    ///
    /// - Throws: `plugin.not_opened` with `dlerror`, `plugin.no_entry`, `plugin.abi_mismatch`, `plugin.not_created`.
    init(path: String, mustStayMapped: Bool, retained: RetainedCount) throws(ReloadError) {
        var loaded = unsafe creload_trial_loaded()
        var failure = creload_trial_failure()
        guard unsafe creload_trial_load(path, mustStayMapped, &loaded, &failure), let table = unsafe loaded.table,
            let call = unsafe table.pointee.call
        else {
            // Even one that opens and then fails stays in memory.
            if mustStayMapped, failure.step != CRELOAD_TRIAL_STEP_OPEN { retained.increment() }
            throw ReloadError(failure)
        }
        if mustStayMapped { retained.increment() }
        unsafe self.loaded = unsafe loaded
        self.mustStayMapped = mustStayMapped
        unsafe callFunction = unsafe call
        unsafe instance = unsafe loaded.instance
        name = unsafe Self.text(table.pointee.name)
        version = unsafe Self.text(table.pointee.version)
        stateSchema = unsafe table.pointee.state_schema
    }

    private static func text(_ pointer: UnsafePointer<CChar>?) -> String {
        guard let pointer = unsafe pointer else { return "" }
        return unsafe String(fromPlugin: UnsafeRawBufferPointer(start: pointer, count: strlen(pointer))).excerpt
    }

    /// The plugin's own proof: `plugin.self_test_failed` with its reason.
    func selfTest() throws(ReloadError) {
        var failure = creload_trial_failure()
        let passed = unsafe withUnsafePointer(to: loaded) { unsafe creload_trial_self_test($0, &failure) }
        guard passed else { throw ReloadError(failure) }
    }

    /// The plugin's `call`; appends what it writes. With a status other than `RELOAD_OK` what it wrote is the reason.
    ///
    /// - Parameter library: Only the pointers to function and instance are loaded from it: a copy would be counted, in a
    ///   place that all threads share.
    @inlinable @inline(__always)
    static func call(
        _ library: UnsafePointer<PluginLibrary>, operation: UInt32, input: Span<UInt8>, into output: inout [UInt8]
    ) -> FailedCall? {
        let call = unsafe library.pointee.callFunction
        let instance = unsafe library.pointee.instance
        let before = output.count
        let status = unsafe input.withUnsafeBytes { input in
            unsafe collect(into: &output) { unsafe call(instance, operation, slice(input), $0) }
        }
        return unsafe status == RELOAD_OK ? nil : library.pointee.failure(operation, status, &output, before)
    }

    @usableFromInline @inline(never)
    func failure(
        _ operation: UInt32, _ status: Int32, _ output: inout [UInt8], _ start: Int
    ) -> FailedCall {
        defer { output.removeSubrange(start...) }
        return FailedCall(
            ReloadError(
                PluginCallFailure(
                    plugin: "\(name) \(version)", operation: operation, status: status,
                    message: String(decoding: output[start...], as: UTF8.self).excerpt)))
    }

    /// The state for a later version.
    func snapshotState() throws(ReloadError) -> [UInt8] {
        guard stateSchema != 0, let snapshot = unsafe loaded.table?.pointee.snapshot_state else { return [] }
        var output: [UInt8] = []
        let status = unsafe Self.collect(into: &output) { unsafe snapshot(loaded.instance, $0) }
        guard status == RELOAD_OK else {
            throw ReloadError(.pluginStateNotGiven, "\(name) \(version) gave no state: status \(status)")
        }
        return output
    }

    /// The same for a trial; nil when there is none. What it is nil for beside that comes out at the hand-over itself.
    var stateForTrial: Trial.HandedState? {
        guard stateSchema != 0, let bytes = try? snapshotState() else { return nil }
        return Trial.HandedState(schema: stateSchema, bytes: bytes)
    }

    /// Takes over the state of the version before: `plugin.state_refused` with its reason.
    func restoreState(_ state: [UInt8], schema: UInt32) throws(ReloadError) {
        var failure = creload_trial_failure()
        let taken = unsafe state.withUnsafeBytes { bytes in
            unsafe withUnsafePointer(to: loaded) {
                unsafe creload_trial_restore_state($0, schema, Self.slice(bytes), &failure)
            }
        }
        guard taken else { throw ReloadError(failure) }
    }

    @inlinable
    static func slice(_ bytes: UnsafeRawBufferPointer) -> reload_slice {
        unsafe reload_slice(bytes: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), count: bytes.count)
    }

    /// Runs `body` with a sink of the host's, which appends to `output`.
    @inlinable @inline(__always)
    static func collect(into output: inout [UInt8], _ body: (UnsafePointer<reload_sink>) -> Int32) -> Int32 {
        unsafe withUnsafeMutablePointer(to: &output) { output in
            var sink = unsafe reload_sink(context: output) { context, bytes, count in
                guard let output = unsafe context?.assumingMemoryBound(to: [UInt8].self) else { return RELOAD_FAILED }
                unsafe output.pointee.append(
                    contentsOf: UnsafeBufferPointer(start: bytes, count: bytes == nil ? 0 : count))
                return RELOAD_OK
            }
            return unsafe body(&sink)
        }
    }

    /// Destroys the instance and closes the library.
    func close() {
        var loaded = unsafe loaded
        unsafe creload_trial_unload(&loaded)
    }
}

/// Says in one word that a call did not fail, or else how.
@usableFromInline
package final class FailedCall: Sendable {
    @usableFromInline package let error: ReloadError

    init(_ error: ReloadError) { self.error = error }
}

extension ReloadError {
    init(_ failure: creload_trial_failure) {
        var failure = failure
        let text = unsafe withUnsafeBytes(of: &failure.text) { bytes in
            unsafe String(fromPlugin: bytes.prefix { $0 != 0 })
        }
        let reason = text.isEmpty ? "it gave no reason (status \(failure.status))" : text
        switch failure.step {
        case CRELOAD_TRIAL_STEP_OPEN: self.init(.pluginNotOpened, reason)
        case CRELOAD_TRIAL_STEP_ENTRY: self.init(.pluginNoEntry, reason)
        case CRELOAD_TRIAL_STEP_ABI: self.init(.pluginABIMismatch, reason)
        case CRELOAD_TRIAL_STEP_CREATE: self.init(.pluginNotCreated, reason)
        case CRELOAD_TRIAL_STEP_RESTORE: self.init(.pluginStateRefused, "it did not take over the state: \(reason)")
        default: self.init(.pluginSelfTestFailed, reason)
        }
    }
}
