internal import Synchronization

/// How many libraries of one module are in memory that cannot be unloaded.
final class RetainedCount: Sendable {
    private let count = Atomic<Int>(0)

    var value: Int { count.load(ordering: .relaxed) }

    func increment() { count.add(1, ordering: .relaxed) }
}
