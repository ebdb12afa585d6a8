internal import CBench
internal import CReloadPlugin
internal import Foundation
internal import Reloading
internal import Synchronization

/// The value that is read: of the size of a real config.
struct Rules: Decodable, Sendable {
    var revision: Int64
    var depth: Int
    var agent: String
    var hosts: [String]

    static let text = """
        revision: 1
        depth: 7
        agent: crawler/1.0 (+https://example.org/bot)
        hosts: [a.example, b.example, c.example, d.example]

        """
}

/// A way to do one operation: runs it so many times.
typealias Loop = @Sendable (_ count: Int) -> Void

extension HotPath {
    /// Reads one field of the config.
    static func configReads(_ agent: ReloadAgent, _ folder: String, _ rounds: Int, _ operations: Int) throws {
        try Data(Rules.text.utf8).write(to: URL(fileURLWithPath: folder + "/rules.yaml"))
        let config = try agent.config("rules", file: folder + "/rules.yaml", as: Rules.self)
        let guarded = Guarded(config.current)
        let plain = UnsafeMutablePointer<Rules>.allocate(capacity: 1)
        unsafe plain.initialize(to: config.current)
        nonisolated(unsafe) let field = unsafe plain
        measure(
            [
                ("load", { count in for _ in 0..<count { cbench_keep(Int64(unsafe field.pointee.depth)) } }),
                ("mutex", { count in for _ in 0..<count { cbench_keep(Int64(guarded.current.depth)) } }),
                ("current", { count in for _ in 0..<count { cbench_keep(Int64(config.current.depth)) } }),
            ], rounds, operations)
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
            done.enter()
            Thread {
                start.wait()
                let began = cbench_now()
                loop(operations)
                start.note(cbench_now() - began)
                done.leave()
            }.start()
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
private final class Guarded: Sendable {
    private let value: Mutex<Rules>

    init(_ value: Rules) {
        self.value = Mutex(value)
    }

    var current: Rules { value.withLock { $0 } }
}
