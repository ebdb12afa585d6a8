internal import CReloadYAML
internal import Foundation
internal import Synchronization
internal import Yams

/// Nobody changes it. Made once, because each new one looks through the whole environment for an encoding.
nonisolated(unsafe) private let yaml = YAMLDecoder()

/// The target behind ``Config``: one decoded value.
package final class ConfigTarget<Value: Sendable & Decodable>: Target {
    package let name: String
    package var kind: ModuleKind { .config }
    package let registeredFile: String?
    package let slot: Slot<Value>
    private let validate: @Sendable (Value) throws -> Void
    private let observers: Observers<Value>
    private let generationLimit: Int

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
        let value = try Self.decode(artifact, formatOf: artifact.origin == "inline" ? file : artifact.origin)
        try Self.check(value, validate)
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
        let value = try timings.measure("load") { () throws(ReloadError) in
            let value = try Self.decode(
                artifact, formatOf: artifact.origin == "inline" ? registeredFile : artifact.origin)
            try Self.check(value, validate)
            return value
        }
        var swap = SlotSwap(slot: slot, artifact: artifact, version: version, value: value, notServed: .configRefused)
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

    private static func decode(_ artifact: StagedArtifact, formatOf file: String?) throws(ReloadError) -> Value {
        let bytes = try artifact.bytes()
        do {
            if file?.lowercased().hasSuffix(".json") == true {
                try checkSize(ofJSON: bytes)
                return try JSONDecoder().decode(Value.self, from: Data(bytes))
            }
            var line = 0
            if let excess = unsafe creload_yaml_excess(bytes, bytes.count, &line) {
                throw ReloadError(.configInvalid, "line \(line): \(unsafe String(cString: excess))")
            }
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw ReloadError(.configInvalid, "it is not UTF-8")
            }
            return try unsafe yaml.decode(Value.self, from: text)
        } catch let error as ReloadError {
            throw error
        } catch let error as DecodingError {
            throw ReloadError(.configInvalid, error.pathAndReason, underlying: error)
        } catch {
            throw ReloadError(.configInvalid, "\(error)".excerpt, underlying: error)
        }
    }

    /// A decoder takes a multiple of the bytes in memory for many small values; for YAML see `creload_yaml_excess()`.
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
