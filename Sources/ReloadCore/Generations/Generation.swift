internal import CReloadGuard
package import ReloadProtocol
internal import Synchronization

/// One activation of a version in this process.
///
/// A generation is retired when a newer one takes its place, and drained when nothing holds it any more; only then is its
/// value closed.
@safe package final class Generation<Value: Sendable>: Sendable {
    /// Local counter for each module, never reused.
    package let number: UInt64
    /// What was activated.
    package let version: VersionReport
    /// The copy it was made from; kept as long as it may be rolled back to or still runs.
    package let artifact: StagedArtifact?
    // Made and freed with this object; in between only the guard's atomic operations write to it.
    nonisolated(unsafe) let block: UnsafeMutablePointer<creload_guard_block>
    private let isClosed = Atomic(false)

    init(number: UInt64, version: VersionReport, artifact: StagedArtifact?, value: Value) {
        self.number = number
        self.version = version
        self.artifact = artifact
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: Int(CRELOAD_GUARD_VALUE_OFFSET) + MemoryLayout<Value>.size,
            alignment: Int(CRELOAD_GUARD_CACHE_LINE))
        unsafe block = memory.bindMemory(to: creload_guard_block.self, capacity: 1)
        unsafe block.initialize(to: creload_guard_block(pins: 0))
        unsafe creload_guard_value(block).bindMemory(to: Value.self, capacity: 1).initialize(to: value)
    }

    deinit {
        close()
        unsafe UnsafeMutableRawPointer(block).deallocate()
    }

    /// Lets the value go, when nothing holds it any more.
    func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        unsafe creload_guard_value(block).assumingMemoryBound(to: Value.self).deinitialize(count: 1)
    }

    /// Copied out; only of a generation that is current or held, or before it is closed.
    package var value: Value { unsafe creload_guard_value(block).assumingMemoryBound(to: Value.self).pointee }

    /// Calls that have not returned, and pins. Only of a generation that is not the live one.
    var inFlight: Int { unsafe creload_guard_holders(block) }
}
