import Foundation
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// Of many requests for the same modules only the newest is loaded, and all are answered.
@Suite(.timeLimit(.minutes(5))) struct FoldingTests {
    private func job(
        _ arrival: UInt64, _ revisions: [String: Int64], _ operation: Request.Operation = .apply
    ) -> ReloadJob {
        let modules = revisions.sorted { $0.key < $1.key }.map {
            Request.Module(name: $0.key, kind: nil, revision: $0.value, version: nil, artifact: .registeredFile)
        }
        return ReloadJob(
            request: Request(operation: operation, modules: modules),
            ticket: Ticket(id: "\(arrival)", acknowledge: {}), arrival: arrival, bytes: 10, of: Weight.Total())
    }

    /// What is left in line after these came: each with those it took the place of, the newest first, and those that are only
    /// answered.
    private func lines(_ jobs: [ReloadJob], keep: Int = 3) -> [String] {
        var queues = ModuleQueues<ReloadJob>()
        for job in jobs { _ = queues.fold(job, keep: keep, limit: .max) }
        return queues.waiting(in: queues.modules).compactMap { queues[$0] }.map { job in
            let folded = job.folded.compactMap(\.ticket.id).joined(separator: ",")
            let superseded = job.superseded.compactMap(\.id).joined(separator: ",")
            return "\(job.ticket.id ?? "")(\(folded))[\(superseded)]"
        }
    }

    @Test func theNewestRevisionStandsForAll() {
        #expect(lines((1...6).map { job($0, ["a": Int64($0)]) }) == ["6(5,4,3)[1,2]"])
        // Whatever the order they come in.
        #expect(lines([job(1, ["a": 9]), job(2, ["a": 4]), job(3, ["a": 7])]) == ["1(3,2)[]"])
    }

    @Test func everyModuleHasItsOwn() {
        #expect(
            lines([job(1, ["a": 1]), job(2, ["b": 1]), job(3, ["a": 2]), job(4, ["b": 2])]) == ["3(1)[]", "4(2)[]"])
    }

    @Test func oneRevisionTwiceIsNotFolded() {
        #expect(lines([job(1, ["a": 1]), job(2, ["a": 1])]) == ["1()[]", "2()[]"])
    }

    @Test func severalModulesAreReplacedOnlyByTheSameOrMore() {
        #expect(lines([job(1, ["a": 1, "b": 1]), job(2, ["a": 2])]) == ["1()[]", "2()[]"])
        #expect(lines([job(1, ["a": 1]), job(2, ["b": 1]), job(3, ["a": 2, "b": 2])]) == ["3(2,1)[]"])
        #expect(lines([job(1, ["a": 1, "b": 5]), job(2, ["a": 2, "b": 2])]) == ["1()[]", "2()[]"])
    }

    @Test func otherOperationsStandForThemselves() {
        let jobs = [job(1, ["a": 1]), job(2, ["a": 2], .validate), job(3, ["a": 3]), job(4, ["a": 4], .release)]
        #expect(lines(jobs) == ["2()[]", "3(1)[]", "4()[]"])
    }

    @Test func aRollbackTakesThePlaceOfWhatItTakesBack() {
        let jobs = [job(1, ["a": 5]), job(2, ["a": 6]), job(3, ["a": 5], .rollback)]
        #expect(lines(jobs) == ["3(2,1)[]"])
        #expect(lines(jobs + [job(4, ["a": 7])]) == ["4(3,2,1)[]"])
        // Older than what was taken back: it would not have been applied elsewhere.
        #expect(lines(jobs + [job(4, ["a": 6])]) == ["3(2,1)[]", "4()[]"])
    }

    @Test func whatHasBegunIsLeftAlone() {
        var queues = ModuleQueues<ReloadJob>()
        let first = queues.fold(job(1, ["a": 1]), keep: 3, limit: .max).id
        #expect(queues.start(in: ["a"]) == [first])
        _ = queues.begin(first)
        let second = queues.fold(job(2, ["a": 2]), keep: 3, limit: .max).id
        #expect(queues.fold(job(3, ["a": 3]), keep: 3, limit: .max).id == second)
        #expect(queues.count == 2)
    }

    @Test func aJobHoldsOnlySoManyTickets() {
        var queues = ModuleQueues<ReloadJob>()
        var overflow: [String?] = []
        for arrival in UInt64(1)...10 {
            overflow += queues.fold(job(arrival, ["a": Int64(arrival)]), keep: 1, limit: 4).overflow.map(\.id)
        }
        #expect(overflow == ["1", "2", "3", "4", "5", "6", "7", "8"].prefix(overflow.count).map { $0 })
        #expect(overflow.count == 8)
    }

    @Test func bytesAreCountedAsLongAsTheyAreHeld() {
        let total = Weight.Total()
        var queues = ModuleQueues<ReloadJob>()
        for arrival in UInt64(1)...10 {
            let module = Request.Module(
                name: "a", kind: nil, revision: Int64(arrival), version: nil, artifact: .registeredFile)
            let job = ReloadJob(
                request: Request(operation: .apply, modules: [module]), ticket: Ticket(acknowledge: {}),
                arrival: arrival, bytes: 10, of: total)
            _ = queues.fold(job, keep: 2, limit: .max)
        }
        #expect(total.sum == 30)
        for id in queues.waiting(in: ["a"]) { queues.remove(id) }
        #expect(total.sum == 0)
    }
}

@Suite(.timeLimit(.minutes(2))) struct CatchUpTests {
    private func body(_ module: String, _ revision: Int64, _ depth: Int64, operation: String = "apply") -> String {
        let artifact =
            operation == "apply" ? #","inline":"\#(Data("depth: \(depth)".utf8).base64EncodedString())""# : ""
        let number = revision < 0 ? "" : #","revision":\#(revision)"#
        return
            #"{"protocol":"reload.request.v1","operation":"\#(operation)","modules":[{"name":"\#(module)"\#(number)\#(artifact)}]}"#
    }

    @Test func aBacklogCostsOneLoadForEachModule() async throws {
        let scene = try Scene()
        let modules = try (0..<10).map { try scene.rules("rules\($0)") }
        scene.reloader.backlogChanged(true)
        for number in 0..<1000 {
            scene.send(body("rules\(number % 10)", Int64(number), Int64(number)), id: "\(number)")
        }
        #expect(modules.allSatisfy { $0.slot.current.number == 1 })
        scene.reloader.backlogChanged(false)
        let answers = await scene.answers(1000)
        #expect(answers.count == 1000)
        #expect(answers.values.allSatisfy { $0.count == 1 })
        #expect(answers.filter { $0.value == [.applied] }.keys.sorted() == (990..<1000).map { "\($0)" })
        for (number, module) in modules.enumerated() {
            #expect(module.slot.current.number == 2)
            #expect(module.slot.current.value == Rules(depth: 990 + number))
        }
    }

    @Test func whenTheNewestDoesNotWorkTheOneBeforeIsLoaded() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        scene.reloader.backlogChanged(true)
        for (revision, depth) in [(1, 1), (2, 2), (3, 3), (4, -1), (5, -1)] {
            scene.send(body("rules", Int64(revision), Int64(depth)), id: "\(revision)")
        }
        scene.reloader.backlogChanged(false)
        let answers = await scene.answers(5)
        #expect(
            answers == [
                "5": [.refused], "4": [.refused], "3": [.applied], "2": [.superseded], "1": [.superseded],
            ])
        #expect(rules.slot.current.value == Rules(depth: 3))
        #expect(scene.acknowledged.withLock { $0.sorted() } == ["1", "2", "3", "4", "5"])
    }

    @Test(arguments: [(-1, 2), (1, 1), (7, 3)] as [(Int64, Int)])
    func aRollbackThatWasMissedLeadsToWhatTheOthersRun(to revision: Int64, depth: Int) async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        scene.reloader.backlogChanged(true)
        for revision in Int64(1)...3 { scene.send(body("rules", revision, revision), id: "\(revision)") }
        scene.send(body("rules", revision, 0, operation: "rollback"), id: "rollback")
        scene.reloader.backlogChanged(false)
        let answers = await scene.answers(4)
        // There is no revision 7 to go back to, so the newest one stands.
        #expect(answers["rollback"] == (revision == 7 ? [.refused] : [.applied]))
        #expect(rules.slot.current.value == Rules(depth: depth))
        #expect(answers.values.allSatisfy { $0.count == 1 })
    }

    @Test func aRollbackPassesOverWhatWasNoGood() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        scene.send(body("rules", 1, 1), id: "one")
        #expect(try await scene.report(for: "one").state == .applied)
        scene.reloader.backlogChanged(true)
        scene.send(body("rules", 2, -1), id: "bad")
        scene.send(body("rules", 3, 3), id: "good")
        scene.send(body("rules", -1, 0, operation: "rollback"), id: "rollback")
        scene.reloader.backlogChanged(false)
        let answers = await scene.answers(3)
        // The others went from 3 to 1: revision 2 was never good.
        #expect(rules.running.report.revision == 1)
        #expect(answers["rollback"] == [.unchanged])
        #expect(answers["bad"] == [.superseded])
        #expect(answers["good"] == [.superseded])
    }

    @Test func twoRollbacksAreTwoStepsBack() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        for revision in Int64(1)...3 {
            scene.send(body("rules", revision, revision), id: "\(revision)")
            #expect(try await scene.report(for: "\(revision)").state == .applied)
        }
        scene.reloader.backlogChanged(true)
        for id in ["first", "second"] { scene.send(body("rules", -1, 0, operation: "rollback"), id: id) }
        scene.reloader.backlogChanged(false)
        #expect(await scene.answers(2) == ["first": [.superseded], "second": [.applied]])
        #expect(rules.running.report.revision == 1)
    }

    @Test func aFloodIsAHandfulOfLoadsAndEachRequestIsAnsweredOnce() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let count = 5000
        for number in 1...count { scene.send(body("rules", Int64(number), Int64(number)), id: "\(number)") }
        let answers = await scene.answers(count)
        #expect(answers.values.allSatisfy { $0.count == 1 })
        #expect(rules.slot.current.value == Rules(depth: count))
        #expect(rules.slot.current.number <= 20, "\(rules.slot.current.number) loads")
    }

    @Test func whoWaitsAtAQueueOfItsOwnGetsItsOwnReport() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        scene.reloader.backlogChanged(true)
        scene.send(body("rules", 1, 1), id: "one", replyTo: "mine")
        scene.send(body("rules", 2, 2), id: "two")
        scene.reloader.backlogChanged(false)
        let report = try await scene.outgoing(for: "one")
        #expect(report.report.state == .superseded)
        #expect(report.replyTo == "mine")
    }

    @Test func aNewcomerSaysNothingOfWhatHadExpired() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        let old =
            #"{"protocol":"reload.request.v1","operation":"inventory","expires_at":"2026-01-01T00:00:00Z"}"#
        scene.reloader.backlogChanged(true)
        scene.send(old, id: "before")
        scene.reloader.backlogChanged(false)
        #expect(scene.acknowledged.withLock { $0 } == ["before"])
        scene.send(old, id: "after")
        #expect(try await scene.report(for: "after").state == .expired)
    }

    @Test func whenThereIsNoRoomLoadingBeginsBeforeTheEnd() async throws {
        let scene = try Scene(waitingBytes: 500)
        let rules = try scene.rules()
        scene.reloader.backlogChanged(true)
        for revision in Int64(1)...20 { scene.send(body("rules", revision, revision), id: "\(revision)") }
        let answers = await scene.answers(20)
        #expect(answers.count == 20)
        #expect(rules.slot.current.value == Rules(depth: 20))
    }
}
