internal import Synchronization

/// How many libraries of one module were opened that cannot be unloaded again.
final class RetainedCount: Sendable {
    private let count = Atomic<Int>(0)

    var value: Int { count.load(ordering: .relaxed) }

    func increment() {
        count.add(1, ordering: .relaxed)
    }
}
