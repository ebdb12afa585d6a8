internal import CBench
internal import CReloadPlugin
internal import Dispatch
internal import FoundationEssentials
internal import Reloading
internal import Synchronization

/// A config of a few words.
struct Limits: Decodable, Sendable {
    var depth: Int
    var pages: Int
    var delay: Double

    var sum: Int64 { Int64(depth) &+ Int64(pages) &+ Int64(bitPattern: delay.bitPattern) }
}

/// One with text and lists, whose copies are counted.
struct Rules: Decodable, Sendable {
    var depth: Int
    var agent: String
    var hosts: [String]
}

private let text = """
    depth: 7
    pages: 1000
    delay: 0.5
    agent: crawler/1.0 (+https://example.org/bot)
    hosts: [a.example, b.example, c.example, d.example]

    """

/// A way to do one operation: runs it so many times.
typealias Loop = @Sendable (_ count: Int) -> Void

extension HotPath {
    /// Reads a small config as a whole, and one field of a larger one.
    static func configReads(_ agent: ReloadAgent, _ folder: String, _ rounds: Int, _ operations: Int) throws {
        let file = folder + "/config.yaml"
        try Data(text.utf8).write(to: URL(fileURLWithPath: file))
        let limits = try agent.config("limits", file: file, as: Limits.self)
        let rules = try agent.config("rules", file: file, as: Rules.self)
        let guardedLimits = Guarded(limits.current)
        let guardedRules = Guarded(rules.current)
        nonisolated(unsafe) let plainLimits = unsafe allocated(limits.current)
        nonisolated(unsafe) let plainRules = unsafe allocated(rules.current)
        measure(
            [
                ("small load", { count in for _ in 0..<count { cbench_keep(unsafe plainLimits.pointee.sum) } }),
                ("small mutex", { count in for _ in 0..<count { cbench_keep(guardedLimits.current.sum) } }),
                ("small current", { count in for _ in 0..<count { cbench_keep(limits.current.sum) } }),
                ("load", { count in for _ in 0..<count { cbench_keep(Int64(unsafe plainRules.pointee.depth)) } }),
                ("mutex", { count in for _ in 0..<count { cbench_keep(Int64(guardedRules.current.depth)) } }),
                ("current", { count in for _ in 0..<count { cbench_keep(Int64(rules.current.depth)) } }),
                (
                    "withCurrent",
                    { count in for _ in 0..<count { cbench_keep(Int64(rules.withCurrent { $0.depth })) } }
                ),
            ], rounds, operations)
    }

    private static func allocated<Value>(_ value: Value) -> UnsafeMutablePointer<Value> {
        let place = UnsafeMutablePointer<Value>.allocate(capacity: 1)
        unsafe place.initialize(to: value)
        return unsafe place
    }

    /// Calls a function that does nothing.
    static func pluginCalls(_ agent: ReloadAgent, _ file: String, _ rounds: Int, _ operations: Int) throws {
        let handle = try agent.plugin("empty", file: file)
        guard let table = unsafe cbench_open_plugin(file), let call = unsafe table.pointee.call else { throw Mistake() }
        let nothing = unsafe reload_slice(bytes: nil, count: 0)
        nonisolated(unsafe) let (function, input) = unsafe (call, nothing)
        measure(
            [
                (
                    "direct",
                    { count in
                        var sink = unsafe cbench_no_sink
                        for _ in 0..<count { cbench_keep(Int64(unsafe function(nil, 1, input, &sink))) }
                    }
                ),
                (
                    "call",
                    { count in for _ in 0..<count { cbench_keep(Int64((try? handle.call([]))?.count ?? -1)) } }
                ),
                (
                    "into",
                    { count in
                        let input: [UInt8] = []
                        var output: [UInt8] = []
                        for _ in 0..<count {
                            cbench_keep((try? handle.call(input.span, into: &output)) == nil ? -1 : 0)
                        }
                    }
                ),
            ], rounds, operations)
    }

    /// Every variant on one and on two threads, in turn, without what the loop itself takes.
    private static func measure(_ variants: [(name: String, loop: Loop)], _ rounds: Int, _ operations: Int) {
        let empty: Loop = { count in for index in 0..<count { cbench_keep(Int64(index)) } }
        for (_, loop) in variants { loop(operations / 10) }
        for _ in 0..<rounds {
            for threads in [1, 2] {
                let own = nanoseconds(empty, operations, threads)
                for (name, loop) in variants {
                    Line(variant: name, threads: threads, ns: nanoseconds(loop, operations, threads) - own).say()
                }
            }
        }
        Line(begin: "end").say()
    }

    /// For each operation, on the slowest of the threads.
    private static func nanoseconds(_ loop: @escaping Loop, _ operations: Int, _ threads: Int) -> Double {
        let done = DispatchGroup()
        let start = Start(missing: threads)
        for _ in 0..<threads {
            DispatchQueue(label: "loop").async(group: done) {
                start.wait()
                let began = cbench_now()
                loop(operations)
                start.note(cbench_now() - began)
            }
        }
        done.wait()
        return Double(start.longest) / Double(operations)
    }
}

/// Lets threads begin together.
private final class Start: Sendable {
    private let missing: Atomic<Int>
    private let most = Atomic<Int64>(0)

    init(missing: Int) {
        self.missing = Atomic(missing)
    }

    func wait() {
        missing.subtract(1, ordering: .acquiringAndReleasing)
        while missing.load(ordering: .acquiring) > 0 {}
    }

    func note(_ nanoseconds: Int64) { most.max(nanoseconds, ordering: .acquiringAndReleasing) }
    var longest: Int64 { most.load(ordering: .acquiring) }
}

/// What a service would write that has no agent: a copy of the value out of a `Mutex`.
private final class Guarded<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    init(_ value: Value) {
        self.value = Mutex(value)
    }

    var current: Value { value.withLock { $0 } }
}
