internal import FoundationEssentials
package import ReloadProtocol
internal import Synchronization

/// The target behind ``Config``: one decoded value.
package final class ConfigTarget<Value: Sendable & Decodable>: Target {
    package let name: String
    package var kind: ModuleKind { .config }
    package let registeredFile: String?
    package let slot: Slot<Value>
    private let validate: @Sendable (Value) throws -> Void
    private let observers: Observers<Value>
    private let generationLimit: Int
    /// What was odd about the first version, though it was taken; empty if nothing was.
    let note: String

    /// Decodes the first version; throws what is wrong with it.
    ///
    /// - Parameter elsewhere: where a large value is freed that a call let go of last.
    package init(
        name: String, file: String, artifact: StagedArtifact, version: VersionReport, generationLimit: Int,
        validate: @escaping @Sendable (Value) throws -> Void,
        elsewhere: @escaping Slot<Value>.Elsewhere
    ) throws(ReloadError) {
        self.name = name
        self.registeredFile = file
        self.generationLimit = generationLimit
        self.validate = validate
        let (value, note) = try Self.decode(artifact, formatOf: artifact.origin == "inline" ? file : artifact.origin)
        try Self.check(value, validate)
        self.note = note
        observers = Observers(value)
        slot = Slot(version: version, artifact: artifact, value: value, elsewhere: elsewhere)
    }

    package var running: RunningVersion { slot.running }
    package var seen: RunningVersion { RunningVersion(slot.seen) }
    package var lingering: [LingeringReport] { slot.lingering }
    package var generationsInMemory: Int { slot.generations.count }
    package func pin() -> Pin { slot.pin() }
    package func drain() { slot.drain() }

    package func prepare(
        _ artifact: StagedArtifact, version: VersionReport, timings: inout Timings,
        willOpen: () throws(ReloadError) -> Void
    ) throws(ReloadError) -> any PreparedSwap {
        try checkGenerations(limit: generationLimit, .configTooManyGenerations)
        let (value, note) = try timings.measure("load") { () throws(ReloadError) in
            let decoded = try Self.decode(
                artifact, formatOf: artifact.origin == "inline" ? registeredFile : artifact.origin)
            try Self.check(decoded.value, validate)
            return decoded
        }
        var swap = SlotSwap(slot: slot, artifact: artifact, version: version, value: value, notServed: .configRefused)
        swap.note = note
        swap.changed = { [observers] old, new in observers.notify(old, new) }
        return swap
    }

    /// Adds an observer; see ``Config/onChange(_:)``.
    package func onChange(_ observer: @escaping @Sendable (Value, Value) -> Void) {
        observers.add(observer)
    }

    /// A stream of values, the present one first.
    package func values() -> AsyncStream<Value> {
        observers.stream()
    }

    /// Decodes JSON or YAML; `note` names the keys that the type does not know, as YAML shows them.
    private static func decode(
        _ artifact: StagedArtifact, formatOf file: String?
    ) throws(ReloadError) -> (value: Value, note: String) {
        let bytes = try artifact.bytes()
        guard file?.lowercased().hasSuffix(".json") == true else {
            let decoded = try YAML.decode(Value.self, from: bytes, orThrow: .configInvalid)
            let unknown = decoded.unknownKeys
            return (decoded.value, unknown.isEmpty ? "" : "not known to the service: \(unknown)")
        }
        try checkSize(ofJSON: bytes)
        do {
            return (try JSONDecoder().decode(Value.self, from: Data(bytes.withoutByteOrderMark)), "")
        } catch let error as DecodingError {
            throw ReloadError(.configInvalid, error.pathAndReason, underlying: error)
        } catch {
            throw ReloadError(.configInvalid, "\(error)".excerpt, underlying: error)
        }
    }

    /// A decoder takes a multiple of the bytes in memory for many small values; for YAML see `creload_yaml_read()`.
    private static func checkSize(ofJSON bytes: [UInt8]) throws(ReloadError) {
        let limit = 1_000_000
        guard bytes.count > limit else { return }
        let values = bytes.count { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "[") || $0 == UInt8(ascii: "{") }
        guard values <= limit else { throw ReloadError(.configInvalid, "it has more than 1,000,000 values") }
    }

    private static func check(_ value: Value, _ validate: (Value) throws -> Void) throws(ReloadError) {
        do {
            try validate(value)
        } catch {
            throw ReloadError(.configRefused, "\(error)".excerpt, underlying: error)
        }
    }
}

extension [UInt8] {
    /// Editors of other systems begin a file in UTF-8 with a mark that JSON does not have.
    fileprivate var withoutByteOrderMark: ArraySlice<UInt8> {
        starts(with: [0xef, 0xbb, 0xbf]) ? dropFirst(3) : self[...]
    }
}

/// Who wants to hear of changes. Callbacks run on the thread that reloads, in the order of the changes.
private final class Observers<Value: Sendable>: Sendable {
    private struct State {
        var callbacks: [@Sendable (Value, Value) -> Void] = []
        var continuations: [UInt64: AsyncStream<Value>.Continuation] = [:]
        var next: UInt64 = 0
        /// The last proven one.
        var newest: Value
    }

    private let state: Mutex<State>

    init(_ first: Value) { state = Mutex(State(newest: first)) }

    func add(_ callback: @escaping @Sendable (Value, Value) -> Void) {
        state.withLock { $0.callbacks.append(callback) }
    }

    func stream() -> AsyncStream<Value> {
        // Only the newest value matters to a reader that is slower than the changes.
        let (stream, continuation) = AsyncStream.makeStream(of: Value.self, bufferingPolicy: .bufferingNewest(1))
        let id = state.withLock { state in
            state.next += 1
            state.continuations[state.next] = continuation
            // Here, or a change that comes now would be overtaken by what it changed.
            continuation.yield(state.newest)
            return state.next
        }
        continuation.onTermination = { [weak self] _ in
            _ = self?.state.withLock { $0.continuations.removeValue(forKey: id) }
        }
        return stream
    }

    func notify(_ old: Value, _ new: Value) {
        let callbacks = state.withLock { state in
            state.newest = new
            for continuation in state.continuations.values { continuation.yield(new) }
            return state.callbacks
        }
        for callback in callbacks { callback(old, new) }
    }
}
