import Foundation
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// What an instance knows after a restart, whether the process ended in order or not.
@Suite(.timeLimit(.minutes(5))) struct RestartTests {
    private func depth(_ number: Int) -> String {
        #","inline":"\#(Data("depth: \(number)".utf8).base64EncodedString())""#
    }

    @Test func itComesUpOnTheLastGoodVersion() async throws {
        let first = try Scene()
        _ = try first.rules()
        for revision in 5...7 {
            #expect(try await first.apply("rules", Int64(revision), more: depth(revision)).state == .applied)
        }
        // Refused, so not good.
        #expect(try await first.apply("rules", 8, more: depth(-1)).state == .refused)
        first.kill()
        let second = try Scene(in: first.folder)
        let rules = try second.rules()
        #expect(rules.slot.current.value == Rules(depth: 7))
        #expect(rules.running.report.revision == 7)
        second.reloader.start()
        let answer = try await second.answer(to: #"{"protocol":"reload.request.v1","operation":"inventory"}"#)
        #expect(answer.modules.first?.desired?.revision == 8)
        #expect(answer.modules.first?.attempted?.revision == 8)
        #expect(answer.modules.first?.running?.generation == 1)
        // An older revision is still stale, and the history is still there.
        #expect(try await second.apply("rules", 6, more: depth(6)).code == .messageStaleRevision)
        #expect(try await second.apply("rules", 6, operation: "rollback").state == .applied)
        #expect(rules.slot.current.value == Rules(depth: 6))
    }

    @Test func theRegisteredFileIsReadAgainAsLongAsNothingElseWasLoaded() async throws {
        let first = try Scene()
        _ = try first.rules()
        first.reloader.start()
        first.kill()
        let second = try Scene(in: first.folder)
        let file = try second.write("depth: 9", to: "rules.yaml")
        var rules: ConfigTarget<Rules> = try second.reloader.config("rules", file: file) { _ in }
        #expect(rules.slot.current.value == Rules(depth: 9))
        second.reloader.start()
        second.kill()
        let third = try Scene(in: first.folder)
        _ = try third.write("depth: [", to: "rules.yaml")
        rules = try third.reloader.config("rules", file: file) { _ in }
        #expect(rules.slot.current.value == Rules(depth: 9))
    }

    @Test func aDamagedCopyGivesWayToTheOneBefore() async throws {
        let first = try Scene()
        _ = try first.rules()
        for revision in 1...2 { _ = try await first.apply("rules", Int64(revision), more: depth(revision)) }
        first.kill()
        let newest = try #require(try first.files(in: "artifacts").last)
        let path = first.folder.appendingPathComponent("state/artifacts/\(newest)").path
        try FileManager.default.removeItem(atPath: path)
        try Data("depth: 66".utf8).write(to: URL(fileURLWithPath: path))
        let second = try Scene(in: first.folder)
        #expect(try second.rules().slot.current.value == Rules(depth: 1))
    }

    @Test func onlyTheCopiesThatMayBeNeededAreKept() async throws {
        let first = try Scene(keep: 2)
        _ = try first.rules()
        for revision in 1...9 { _ = try await first.apply("rules", Int64(revision), more: depth(revision)) }
        // The running one and two more, and one that only the ledger before names.
        #expect(try first.files(in: "artifacts").count == 4)
        first.kill()
        try Data().write(to: first.folder.appendingPathComponent("state/artifacts/rules-999-left.so"))
        let second = try Scene(keep: 2, in: first.folder)
        #expect(try second.rules().slot.current.value == Rules(depth: 9))
        second.reloader.start()
        #expect(try second.files(in: "artifacts").count <= 4)
        #expect(try !second.files(in: "artifacts").contains("rules-999-left.so"))
    }

    @Test func anAnsweredRequestThatComesAgainIsOnlyAcknowledged() async throws {
        let first = try Scene()
        _ = try first.rules()
        first.send(request(1), id: "one")
        #expect(try await first.report(for: "one").state == .applied)
        first.kill()
        let second = try Scene(in: first.folder)
        let rules = try second.rules()
        second.reloader.start()
        second.send(request(1), id: "one")
        #expect(second.acknowledged.withLock { $0 } == ["one"])
        #expect(rules.slot.current.number == 1)
    }

    private func request(_ revision: Int) -> String {
        """
        {"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"rules","kind":"config",
        "revision":\(revision)\(depth(revision))}]}
        """
    }

    @Test func aReportThatWasNotConfirmedIsSentAgainUnderItsID() async throws {
        let first = try Scene()
        _ = try first.rules()
        first.confirms.store(false, ordering: .relaxed)
        first.send(request(1), id: "one")
        let report = try await first.outgoing(for: "one")
        #expect(first.acknowledged.withLock { $0.isEmpty })
        first.kill()
        let second = try Scene(in: first.folder)
        _ = try second.rules()
        second.reloader.start()
        let again = try await second.outgoing(for: "one")
        #expect(again.id == report.id)
        #expect(again.report == report.report)
        // The broker has it now: the next process does not send it.
        second.reloader.close()
        let third = try Scene(in: first.folder)
        _ = try third.rules()
        third.reloader.start()
        #expect(try await third.answer(to: #"{"protocol":"reload.request.v1","operation":"inventory"}"#).sequence == 1)
    }

    @Test func reportsForABrokerThatIsAwayAreBounded() async throws {
        let scene = try Scene(reportLimit: 3)
        _ = try scene.rules()
        scene.confirms.store(false, ordering: .relaxed)
        for revision in 1...5 {
            scene.send(request(revision), id: "\(revision)")
            _ = try await scene.report(for: "\(revision)")
        }
        #expect(scene.reloader.ledger.unconfirmed.map(\.report.request) == ["3", "4", "5"])
    }

    @Test func aLedgerThatCannotBeWrittenHoldsBackTheAcknowledgement() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let obstacle = scene.folder.appendingPathComponent("state/journal.new")
        try FileManager.default.createDirectory(at: obstacle, withIntermediateDirectories: false)
        scene.send(request(1), id: "one")
        #expect(try await scene.report(for: "one").state == .applied)
        #expect(rules.slot.current.value == Rules(depth: 1))
        #expect(scene.acknowledged.withLock { $0.isEmpty })
        try FileManager.default.removeItem(at: obstacle)
        scene.reloader.save()
        #expect(scene.acknowledged.withLock { $0 } == ["one"])
    }

    @Test func aRevisionThatWasAskedForWithOtherBytesIsInConflict() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        #expect(try await scene.apply("rules", 5, more: depth(-1)).code == .configRefused)
        #expect(try await scene.apply("rules", 5, more: depth(3)).code == .messageRevisionConflict)
        #expect(try await scene.apply("rules", 5, more: depth(-1)).code == .configRefused)
        #expect(try await scene.apply("rules", 6, more: depth(3)).state == .applied)
    }

    @Test func aRollbackThatComesAgainDoesNotGoBackOnceMore() async throws {
        let first = try Scene()
        _ = try first.rules()
        for revision in 1...3 { _ = try await first.apply("rules", Int64(revision), more: depth(revision)) }
        let rollback = #"{"protocol":"reload.request.v1","operation":"rollback","modules":[{"name":"rules"}]}"#
        first.send(rollback, id: "rollback")
        #expect(try await first.report(for: "rollback").state == .applied)
        first.kill()
        // As if the process had died after the version was written and before the answer was.
        var file = LedgerFile(path: first.folder.appendingPathComponent("state/journal").path)
        var record = try #require(file.read().record)
        record.answered = []
        record.reports = []
        try file.write(record)
        let second = try Scene(in: first.folder)
        let rules = try second.rules()
        second.reloader.start()
        second.send(rollback, id: "rollback")
        #expect(try await second.report(for: "rollback").state == .unchanged)
        #expect(rules.running.report.revision == 2)
    }

    @Test func withoutTheCopyOfWhatRanTheStreamIsReadAgain() async throws {
        let first = try Scene()
        _ = try first.rules()
        _ = first.reloader.ledger.position.attach()
        guard case .new(let place) = first.reloader.ledger.position.arrived(4, fingerprint: "x") else {
            throw ReloadError(.messageInvalid, "not new")
        }
        first.send(request(1), id: "one", place: place)
        _ = try await first.report(for: "one")
        let again = try first.restart()
        #expect(again.reloader.ledger.position.attach() == .offset(4))
        for name in try first.files(in: "artifacts") {
            try FileManager.default.removeItem(
                at: first.folder.appendingPathComponent("state/artifacts").appendingPathComponent(name))
        }
        let second = try again.restart()
        let rules = try second.rules()
        #expect(rules.running.report.revision == 0)
        #expect(second.reloader.ledger.position.attach() == .first)
        second.send(request(1), id: "one")
        #expect(try await second.report(for: "one").state == .applied)
    }

    @Test func reportsUnderTheNameBeforeAreFollowedByItsGoodbye() async throws {
        let first = try Scene(instance: "host/1")
        _ = try first.rules()
        first.confirms.store(false, ordering: .relaxed)
        first.send(request(1), id: "one")
        _ = try await first.report(for: "one")
        first.kill()
        let second = try Scene(instance: "host/2", in: first.folder)
        _ = try second.rules()
        second.reloader.start()
        #expect(try await second.report(for: "one").instance == "host/1")
        let goodbye = try await second.report(for: nil)
        #expect(goodbye.instance == "host/1")
        #expect(goodbye.state == .offline)
    }

    @Test func afterTheEndNothingIsWritten() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        scene.reloader.close()
        let files = try scene.files()
        scene.send(request(1), id: "one")
        #expect(try await scene.report(for: "one").state == .applied)
        #expect(try scene.files() == files)
        #expect(try Scene(in: scene.folder).rules().slot.current.value == Rules(depth: 1))
    }

    @Test func aFolderThatCannotBeWrittenIsReadAndLeftAsItIs() async throws {
        let first = try Scene()
        _ = try first.rules()
        _ = try await first.apply("rules", 4, more: depth(4))
        first.kill()
        let files = try first.files(in: "artifacts")
        let second = try Scene(in: first.folder, isReadOnly: true)
        let rules = try second.rules()
        #expect(rules.slot.current.value == Rules(depth: 4))
        second.reloader.start()
        #expect(try await second.apply("rules", 5, more: depth(5)).state == .applied)
        #expect(try second.files(in: "artifacts") == files)
        second.kill()
        // What stands in its place is found again.
        let third = try Scene(in: first.folder, isReadOnly: true)
        #expect(try third.rules().slot.current.value == Rules(depth: 5))
    }

    @Test func aFolderThatOthersMayChangeIsNotRead() async throws {
        let first = try Scene()
        _ = try first.rules()
        _ = try await first.apply("rules", 4, more: depth(4))
        first.kill()
        try #require(unsafe chmod(first.folder.appendingPathComponent("state").path, 0o777) == 0)
        let second = try Scene(in: first.folder, isReadOnly: true)
        #expect(try second.rules().slot.current.value == Rules(depth: 1))
    }
}

/// A process that died while a plugin was loaded into it leaves a mark.
@Suite(.timeLimit(.minutes(5))) struct CrashedHostTests {
    private func mark(_ scene: Scene, _ digest: String, mayTryAgain: Bool = false) throws {
        var mark = AttemptMark(
            module: "parser", digest: digest, revision: 2, version: nil, request: mayTryAgain ? nil : "fatal",
            correlationID: mayTryAgain ? nil : "fatal")
        mark.mayTryAgain = mayTryAgain
        try mark.set(in: scene.folder.appendingPathComponent("state/attempts").path)
    }

    private func request(_ path: String, revision: Int) -> String {
        """
        {"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"parser","kind":"plugin",
        "revision":\(revision),"path":"\(path)"}]}
        """
    }

    @Test func itIsSaidQuarantinedAndNotLoadedAgain() async throws {
        let first = try Scene()
        let good = try first.compile(PluginSource.good(version: "1.0.0"), to: "1.0.0.so")
        let fatal = try first.compile(PluginSource.good(version: "2.0.0"), to: "2.0.0.so")
        let fixed = try first.compile(PluginSource.good(version: "3.0.0"), to: "3.0.0.so")
        _ = try first.reloader.plugin("parser", file: good)
        first.reloader.start()
        first.kill()
        let digest = Digest.of([UInt8](try Data(contentsOf: URL(fileURLWithPath: fatal))))
        try mark(first, digest)
        let second = try Scene(in: first.folder)
        let parser = try second.reloader.plugin("parser", file: good)
        second.reloader.start()
        let report = try await second.report(for: "fatal")
        #expect(report.state == .failed)
        #expect(report.code == .pluginCrashedHost)
        #expect(report.modules.first?.running?.version == "1.0.0")
        #expect(report.modules.first?.attempted?.digest == digest)
        // The broker delivers it again: it is answered already.
        second.send(request(fatal, revision: 2), id: "fatal")
        #expect(second.acknowledged.withLock { $0 } == ["fatal"])
        second.send(request(fatal, revision: 3), id: "again")
        #expect(try await second.report(for: "again").code == .moduleQuarantined)
        second.kill()

        let third = try Scene(in: first.folder)
        _ = try third.reloader.plugin("parser", file: good)
        third.reloader.start()
        third.send(request(fatal, revision: 4), id: "later")
        #expect(try await third.report(for: "later").code == .moduleQuarantined)
        third.send(request(fixed, revision: 5), id: "fixed")
        #expect(try await third.report(for: "fixed").state == .applied)
        let release = #"{"protocol":"reload.request.v1","operation":"release","modules":[{"name":"parser"}]}"#
        #expect(try await third.answer(to: release).state == .applied)
        third.send(request(fatal, revision: 6), id: "released")
        #expect(try await third.report(for: "released").state == .applied)
        #expect(parser.running.report.version == "1.0.0")
    }

    @Test func aVersionThatWasProvenBeforeIsTriedOnceMore() async throws {
        let first = try Scene()
        let old = try first.compile(PluginSource.good(version: "1.0.0"), to: "1.0.0.so")
        let new = try first.compile(PluginSource.good(version: "2.0.0"), to: "2.0.0.so")
        _ = try first.reloader.plugin("parser", file: old)
        first.reloader.start()
        first.send(request(new, revision: 2), id: "new")
        #expect(try await first.report(for: "new").state == .applied)
        first.kill()
        let digest = Digest.of([UInt8](try Data(contentsOf: URL(fileURLWithPath: new))))
        try mark(first, digest, mayTryAgain: true)
        let second = try Scene(in: first.folder)
        #expect(try second.reloader.plugin("parser", file: old).running.report.version == "2.0.0")
        second.kill()
        // And a second death at a start.
        var again = AttemptMark(module: "parser", digest: digest, revision: 2, version: nil)
        again.mayTryAgain = false
        try again.set(in: first.folder.appendingPathComponent("state/attempts").path)
        let third = try Scene(in: first.folder)
        #expect(try third.reloader.plugin("parser", file: old).running.report.version == "1.0.0")
    }

    @Test func ofSeveralPluginsOnlyTheOneWhoseCodeRanIsToBlame() async throws {
        let first = try Scene()
        _ = try first.rules()
        first.reloader.start()
        first.kill()
        for (module, isPrepared) in [("waiting", true), ("running", false)] {
            var mark = AttemptMark(
                module: module, digest: "sha256:\(module)", revision: 1, version: nil, request: "both")
            mark.isPrepared = isPrepared
            try mark.set(in: first.folder.appendingPathComponent("state/attempts").path)
        }
        let second = try Scene(in: first.folder)
        second.reloader.start()
        let report = try await second.report(for: "both")
        #expect(report.modules.map(\.name) == ["running"])
        #expect(second.reloader.ledger.restored("running")?.quarantine.count == 1)
        #expect(second.reloader.ledger.restored("waiting") == nil)
        #expect(try second.files(in: "attempts").isEmpty)
    }

    @Test func aRegisteredFileThatKilledTheServiceGivesWayToItsLastCopy() async throws {
        let first = try Scene()
        let file = try first.compile(PluginSource.good(version: "1.0.0"), to: "parser.so")
        _ = try first.reloader.plugin("parser", file: file)
        first.reloader.start()
        first.kill()
        try FileManager.default.removeItem(atPath: file)
        _ = try first.compile(PluginSource.good(version: "2.0.0"), to: "parser.so")
        try mark(first, Digest.of([UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))))
        let second = try Scene(in: first.folder)
        #expect(try second.reloader.plugin("parser", file: file).running.report.version == "1.0.0")
    }

    @Test func nothingIsMarkedAfterAnAttempt() async throws {
        let scene = try Scene()
        let good = try scene.compile(PluginSource.good(version: "1.0.0"), to: "1.0.0.so")
        let next = try scene.compile(PluginSource.good(version: "2.0.0"), to: "2.0.0.so")
        _ = try scene.reloader.plugin("parser", file: good)
        #expect(try scene.files(in: "attempts").isEmpty)
        scene.send(request(next, revision: 2), id: "next")
        #expect(try await scene.report(for: "next").state == .applied)
        #expect(try scene.files(in: "attempts").isEmpty)
    }
}
