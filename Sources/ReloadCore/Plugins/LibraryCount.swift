internal import Synchronization

/// How many libraries of one module are in memory: the one that serves, those that something holds, and those that cannot
/// be unloaded.
final class LibraryCount: Sendable {
    private let count = Atomic<Int>(0)

    var value: Int { count.load(ordering: .relaxed) }

    func increment() { count.add(1, ordering: .relaxed) }

    func decrement() { count.subtract(1, ordering: .relaxed) }
}
