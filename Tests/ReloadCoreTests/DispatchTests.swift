import Foundation
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

@Suite(.timeLimit(.minutes(5))) struct ModuleQueuesTests {
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

@Suite(.timeLimit(.minutes(5))) struct AnswerTableTests {
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
