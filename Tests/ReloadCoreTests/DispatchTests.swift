import Foundation
import Synchronization
import Testing

@testable import ReloadCore

@Suite struct ModuleQueuesTests {
    @Test func oneModuleRunsInOrderAndOthersGoOn() {
        var queues = ModuleQueues<String>()
        let a1 = queues.enqueue("a1", modules: ["a"])
        let a2 = queues.enqueue("a2", modules: ["a"])
        let b1 = queues.enqueue("b1", modules: ["b"])
        #expect(queues.start(in: ["a", "b"]) == [a1, b1])
        #expect(queues.start(in: ["a", "b"]).isEmpty)
        #expect(queues.begin(a1) == "a1")
        #expect(queues.waiting(in: ["a"]) == [a2])
        queues.remove(a1)
        #expect(queues.start(in: ["a"]) == [a2])
    }

    @Test func aJobOverSeveralModulesWaitsForAllAndHoldsAll() {
        var queues = ModuleQueues<String>()
        let a = queues.enqueue("a", modules: ["a"])
        let b = queues.enqueue("b", modules: ["b"])
        let ab = queues.enqueue("ab", modules: ["a", "b", "a"])
        let b2 = queues.enqueue("b2", modules: ["b"])
        #expect(queues.start(in: ["a", "b"]) == [a, b])
        queues.remove(b)
        #expect(queues.start(in: ["b"]).isEmpty)
        queues.remove(a)
        #expect(queues.start(in: ["a"]) == [ab])
        #expect(queues.start(in: ["b"]).isEmpty)
        queues.remove(ab)
        #expect(queues.start(in: ["a", "b"]) == [b2])
    }

    @Test func aJobThatIsTakenOutIsNotBegun() {
        var queues = ModuleQueues<String>()
        let first = queues.enqueue("a1", modules: ["a"])
        let second = queues.enqueue("a2", modules: ["a"])
        #expect(queues.start(in: ["a"]) == [first])
        queues.remove(first)
        #expect(queues.begin(first) == nil)
        #expect(queues.start(in: ["a"]) == [second])
    }

    @Test func nothingIsLeftBehind() {
        var queues = ModuleQueues<Int>()
        for job in 0..<1000 { queues.enqueue(job, modules: ["\(job % 7)", "\(job % 3)"]) }
        var running = queues.start(in: queues.modules)
        var finished = 0
        while let id = running.popLast() {
            finished += 1
            queues.remove(id)
            running += queues.start(in: queues.modules)
        }
        #expect(finished == 1000)
        #expect(queues.count == 0)
    }
}

@Suite struct AnswerTableTests {
    @Test func answersOnce() {
        var table = AnswerTable(capacity: 10)
        #expect(table.arrive("x") {} == .new)
        #expect(table.arrive("x") {} == .underWay)
        #expect(table.answer("x").count == 2)
        #expect(table.arrive("x") {} == .answered)
        #expect(table.answer("x").isEmpty)
    }

    @Test func forgetsTheOldest() {
        var table = AnswerTable(capacity: 3)
        for id in ["a", "b", "c", "d"] {
            _ = table.arrive(id) {}
            _ = table.answer(id)
        }
        #expect(table.arrive("b") {} == .answered)
        #expect(table.arrive("a") {} == .new)
    }
}

@Suite struct SlotTests {
    private final class Closed: Sendable {
        let numbers = Mutex<[UInt64]>([])
    }

    private final class Shared: Sendable {
        let isOver = Atomic(false)
        let entered = Atomic(0)
        let violations = Atomic(0)
    }

    private func slot(_ closed: Closed) -> Slot<String> {
        Slot(version: VersionReport(revision: 0, digest: nil), artifact: nil, value: "one") { generation in
            closed.numbers.withLock { $0.append(generation.number) }
        }
    }

    @Test func anOldGenerationIsClosedAfterItsLastCall() {
        let closed = Closed()
        let slot = slot(closed)
        slot.withCurrent { outer in
            let swapped = slot.replace(version: VersionReport(revision: 1, digest: nil), artifact: nil, value: "two")
            slot.retire(swapped.old)
            #expect(outer.value == "one")
            #expect(slot.lingering.map(\.generation) == [1])
            #expect(slot.lingering.first?.inFlight == 1)
            slot.withCurrent { inner in #expect(inner.value == "two") }
            #expect(closed.numbers.withLock { $0.isEmpty })
        }
        #expect(closed.numbers.withLock { $0 } == [1])
        #expect(slot.lingering.isEmpty)
    }

    @Test func aRestoredGenerationIsNotClosedAndNumbersAreNotReused() {
        let closed = Closed()
        let slot = slot(closed)
        let failed = slot.replace(version: VersionReport(revision: 1, digest: nil), artifact: nil, value: "two")
        slot.restore(failed.old)
        #expect(slot.current.value == "one")
        #expect(closed.numbers.withLock { $0 } == [2])
        let next = slot.replace(version: VersionReport(revision: 2, digest: nil), artifact: nil, value: "three")
        #expect(next.new.number == 3)
    }

    @Test func aSwapIsProvenOnlyWhileTheLiveHandleServesIt() throws {
        let slot = slot(Closed())
        let directory = try StateDirectory(
            path: NSTemporaryDirectory() + "reload-\(UUID().uuidString)", artifactLimit: 10)
        var swap = SlotSwap(
            slot: slot, artifact: try directory.stage(bytes: [], module: "m"),
            version: VersionReport(revision: 1, digest: nil), value: "two", notServed: .configRefused)
        try swap.commit()
        try swap.prove()
        _ = slot.replace(version: VersionReport(revision: 2, digest: nil), artifact: nil, value: "another's")
        #expect {
            try swap.prove()
        } throws: { error in
            (error as? ReloadError)?.code == .configRefused
        }
    }

    @Test func everyGenerationIsClosedOnceWhileThreadsCall() {
        let closed = Closed()
        let slot = slot(closed)
        let shared = Shared()
        let readers = (0..<2).map { _ in
            let ended = DispatchSemaphore(value: 0)
            Thread {
                while !shared.isOver.load(ordering: .relaxed) {
                    slot.withCurrent { generation in
                        shared.entered.add(1, ordering: .relaxed)
                        if closed.numbers.withLock({ $0.contains(generation.number) }) {
                            shared.violations.add(1, ordering: .relaxed)
                        }
                    }
                }
                ended.signal()
            }.start()
            return ended
        }
        while shared.entered.load(ordering: .relaxed) == 0 {}
        let swaps: UInt64 = 2000
        for revision in 1...Int64(swaps) {
            let swapped = slot.replace(
                version: VersionReport(revision: revision, digest: nil), artifact: nil, value: "\(revision)")
            slot.retire(swapped.old)
        }
        shared.isOver.store(true, ordering: .relaxed)
        for reader in readers { reader.wait() }
        #expect(shared.violations.load(ordering: .relaxed) == 0)
        #expect(closed.numbers.withLock { $0.sorted() } == Array(1...swaps))
    }
}
