import Foundation
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

@Suite(.timeLimit(.minutes(5))) struct LedgerFileTests {
    private let file: LedgerFile
    private let older: LedgerRecord
    private let newer: LedgerRecord

    init() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        file = LedgerFile(path: folder.appendingPathComponent("journal").path)
        var record = LedgerRecord()
        record.modules["rules"] = LedgerRecord.Module(
            desired: LedgerRecord.Version(
                revision: 7, digest: "sha256:ab", version: "1.2", artifact: "a", origin: "inline"))
        record.modules["rules"]?.quarantine.add("sha256:cd", because: "it crashed")
        record.position = StreamPosition.Saved(offset: 10, fingerprint: "x", last: 12, unsettled: [11])
        older = record
        record.answered = ["one", "two"]
        record.reports = [
            OutgoingReport(
                id: "r",
                report: Report(
                    request: "one", service: "s", instance: "i", sequence: 1, state: .applied,
                    at: Date(timeIntervalSince1970: 0)), replyTo: nil, correlationID: "one")
        ]
        newer = record
        var writer = file
        // The third takes the place of the first.
        for record in [newer, older, newer] { try writer.write(record) }
    }

    private func whole() throws -> Data { try Data(contentsOf: URL(fileURLWithPath: file.path)) }

    /// Of the blanks at the end a few will do.
    private func isTried(_ index: Int) -> Bool { index < 1000 || index % 97 == 0 }

    /// Puts a damaged ledger in the place of the whole one; what is read then.
    private func read(_ damaged: Data, over whole: Data, previous: Data) throws -> LedgerFile.Reading {
        try damaged.write(to: URL(fileURLWithPath: file.path))
        defer { try? whole.write(to: URL(fileURLWithPath: file.path)) }
        try previous.write(to: URL(fileURLWithPath: file.previous))
        var file = file
        return file.read()
    }

    @Test func whatWasWrittenIsRead() throws {
        var file = file
        let reading = file.read()
        #expect(reading.record == newer)
        #expect(reading.before == older)
        #expect(reading.problems.isEmpty)
    }

    @Test func theOlderOfTheTwoIsWrittenOver() throws {
        var file = file
        var record = newer
        for number in 0..<20 {
            // Now longer, now shorter than what was there.
            record.answered = (0..<(number * 37 % 400)).map { "request \($0)" }
            try file.write(record)
            var reader = LedgerFile(path: file.path)
            let reading = reader.read()
            #expect(reading.record == record)
            #expect(reading.problems.isEmpty)
            // Whoever has read it goes on with it.
            if number % 3 == 0 { file = reader }
        }
    }

    @Test func aLedgerOfAnEarlierReleaseIsRead() throws {
        // It had no numbers: the one under the name was the newer one.
        for (path, record) in [(file.path, newer), (file.previous, older)] {
            let body = try ReloadJSON.encoder().encode(record)
            let text = Data("reload-journal 1 \(Digest.of(Array(body)))\n".utf8) + body
            try text.write(to: URL(fileURLWithPath: path))
        }
        var file = file
        #expect(file.read().record == newer)
        try file.write(older)
        let reading = file.read()
        #expect(reading.record == older)
        #expect(reading.before == newer)
    }

    @Test func theRecordIsWrittenAsAnEncoderWould() throws {
        var record = newer
        record.queue = "a \"queue\" of \u{1}\n\t\r\u{8}\u{c}\u{1f}\u{7f} ü/\\ 🚀"
        record.number = 7
        record.modules["empty"] = LedgerRecord.Module()
        record.answered = ["only \"quotes\"", "only \\", "only \n", "only ü", ""]
        record.modules["rules"]?.broughtBy = "one"
        record.modules["rules"]?.kept = [LedgerRecord.Version(revision: .max), LedgerRecord.Version(revision: -1)]
        record.reports[0].report.superseded = ["a", "b"]
        record.reports[0].report.modules = [
            ModuleReport(
                name: "rules", kind: .config, state: .failed, code: .configInvalid, message: "no",
                desired: VersionReport(revision: 1, digest: nil), attempted: VersionReport(revision: 2, digest: "d"),
                running: VersionReport(revision: 3, digest: "e", version: "3", generation: 9),
                lingering: [LingeringReport(generation: 8, inFlight: 2, ageMilliseconds: 310)],
                timings: ["stage": 0.001, "load": 12, "vet": 1e21, "swap": 0.1 + 0.2, "prove": 1e-9])
        ]
        let encoder = ReloadJSON.encoder()
        let encoded = String(decoding: try encoder.encode(record), as: UTF8.self)
        #expect(String(decoding: record.json, as: UTF8.self) == encoded)
        let report = record.reports[0].report
        let encodedReport = String(decoding: try encoder.encode(report), as: UTF8.self)
        #expect(String(decoding: report.encode(), as: UTF8.self) == encodedReport)
    }

    @Test func truncatedAtEveryLengthTheOneBeforeIsRead() throws {
        let whole = try whole()
        let previous = try Data(contentsOf: URL(fileURLWithPath: file.previous))
        for length in 0..<whole.count where isTried(length) {
            let reading = try read(whole.prefix(length), over: whole, previous: previous)
            #expect(reading.record == older, "truncated to \(length) bytes")
            #expect(reading.problems.count == 1)
        }
    }

    @Test func withAnyBitFlippedTheOneBeforeIsRead() throws {
        let whole = try whole()
        let previous = try Data(contentsOf: URL(fileURLWithPath: file.previous))
        for index in whole.indices where isTried(index) {
            var damaged = whole
            damaged[index] ^= 1 << UInt8(index % 8)
            let reading = try read(damaged, over: whole, previous: previous)
            #expect(reading.record == older, "bit \(index % 8) of byte \(index) flipped")
        }
    }

    @Test func withBothDamagedThereIsNoneAndBothAreKept() throws {
        for path in [file.path, file.previous] { try Data("damaged".utf8).write(to: URL(fileURLWithPath: path)) }
        var file = file
        let reading = file.read()
        #expect(reading.record == nil)
        #expect(reading.problems.count == 2)
        for path in [file.path, file.previous] {
            #expect(try String(contentsOfFile: path + ".unreadable", encoding: .utf8) == "damaged")
        }
        #expect(file.read().problems.isEmpty)
    }

    @Test func anotherFormatIsNotRead() throws {
        let text = String(decoding: try whole(), as: UTF8.self).replacing(
            "reload-journal 1 ", with: "reload-journal 2 ")
        try text.write(toFile: file.path, atomically: false, encoding: .utf8)
        var file = file
        let reading = file.read()
        #expect(reading.record == older)
        #expect(reading.problems.first?.contains("its format is 2, this agent reads 1") == true)
    }

    @Test func aWriteThatFailsLeavesTheOneBefore() throws {
        // A folder in the place of the file that is written over, and of a new one.
        var file = file
        _ = file.read()
        try FileManager.default.removeItem(atPath: file.previous)
        for obstacle in [file.previous, file.path + ".new"] {
            try FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: false)
            do throws(ReloadError) {
                try file.write(older)
                Issue.record("written")
            } catch {
                #expect(error.code == .stateNotSaved)
            }
            try? FileManager.default.removeItem(atPath: file.previous)
        }
        #expect(file.read().record == newer)
    }
}

@Suite(.timeLimit(.minutes(5))) struct QuarantineTests {
    @Test func theOldestGiveWay() {
        var quarantine = Quarantine()
        for number in 0..<150 { quarantine.add("\(number)", because: "bad") }
        #expect(quarantine.count == 100)
        #expect(quarantine.reason(for: "49") == nil)
        #expect(quarantine.reason(for: "50") == "bad")
        let released = ["50", "50", nil, nil].map { quarantine.release($0) }
        #expect(released == [true, false, true, false])
    }

    @Test func outputOfAPluginDoesNotFillTheLedger() throws {
        var quarantine = Quarantine()
        quarantine.add("1", because: "it crashed; its output ends: " + String(repeating: #"\u{1B}"#, count: 2048))
        let reason = try #require(quarantine.reason(for: "1"))
        #expect(reason.hasPrefix("it crashed; its output ends: "))
        #expect(reason.utf8.count < 350)
    }
}

@Suite(.timeLimit(.minutes(5))) struct StreamPositionTests {
    private func place(_ position: StreamPosition, _ offset: Int64) throws -> StreamPosition.Place {
        guard case .new(let place) = position.arrived(offset, fingerprint: "\(offset)") else {
            throw ReloadError(.messageInvalid, "offset \(offset) is not new")
        }
        return place
    }

    @Test func aFreshInstanceBeginsAtTheFirstMessage() throws {
        let position = StreamPosition()
        #expect(position.attach() == .first)
        #expect(position.saved == nil)
        let first = try place(position, 7)
        // Nothing is settled yet: after a crash it has to come again.
        #expect(position.saved == nil)
        position.settle(first)
        #expect(position.saved == StreamPosition.Saved(offset: 7, fingerprint: "7", last: 7, unsettled: []))
    }

    @Test func theSavedOffsetIsBeforeTheOldestUnsettled() throws {
        let position = StreamPosition()
        _ = position.attach()
        let places = try (1...5).map { try place(position, $0) }
        for index in [0, 1, 3] { position.settle(places[index]) }
        #expect(position.saved == StreamPosition.Saved(offset: 2, fingerprint: "2", last: 5, unsettled: [3, 5]))
        position.settle(places[2])
        #expect(position.saved?.offset == 4)
        position.settle(places[4])
        #expect(position.saved == StreamPosition.Saved(offset: 5, fingerprint: "5", last: 5, unsettled: []))
    }

    @Test func afterARestartOnlyWhatWasNotSettledIsNew() throws {
        let position = StreamPosition(StreamPosition.Saved(offset: 2, fingerprint: "2", last: 5, unsettled: [3, 5]))
        #expect(position.attach() == .offset(2))
        #expect(position.arrived(2, fingerprint: "2") == .known)
        let third = try place(position, 3)
        #expect(position.arrived(4, fingerprint: "4") == .known)
        #expect(position.saved == StreamPosition.Saved(offset: 2, fingerprint: "2", last: 5, unsettled: [3, 5]))
        position.settle(third)
        #expect(position.saved == StreamPosition.Saved(offset: 4, fingerprint: "4", last: 5, unsettled: [5]))
        position.settle(try place(position, 5))
        position.settle(try place(position, 6))
        #expect(position.saved == StreamPosition.Saved(offset: 6, fingerprint: "6", last: 6, unsettled: []))
    }

    @Test func aReconnectHandsOutNothingTwice() throws {
        let position = StreamPosition()
        _ = position.attach()
        let places = try (1...3).map { try place(position, $0) }
        position.settle(places[0])
        #expect(position.attach() == .offset(1))
        for offset in Int64(1)...3 { #expect(position.arrived(offset, fingerprint: "\(offset)") == .known) }
        position.settle(places[1])
        position.settle(places[2])
        #expect(position.saved?.offset == 3)
    }

    @Test func anotherMessageAtTheSavedOffsetIsAnotherStream() throws {
        let position = StreamPosition(StreamPosition.Saved(offset: 2, fingerprint: "2", last: 2, unsettled: []))
        #expect(position.attach() == .offset(2))
        #expect(position.isBeyond(1))
        #expect(!position.isBeyond(2))
        #expect(position.arrived(2, fingerprint: "another") == .streamWasMadeAnew)
        position.streamWasMadeAnew()
        #expect(position.attach() == .first)
        #expect(!position.isBeyond(0))
        _ = try place(position, 0)
    }

    @Test func whatIsForOthersIsSettledAsItArrives() throws {
        func pass(_ position: StreamPosition, _ offset: Int64, _ fingerprint: String? = nil) -> Bool {
            position.passed(offset, fingerprint: Array((fingerprint ?? "\(offset)").utf8).span)
        }
        let position = StreamPosition()
        _ = position.attach()
        for offset in Int64(0)...2 { #expect(pass(position, offset)) }
        #expect(position.saved == StreamPosition.Saved(offset: 2, fingerprint: "2", last: 2, unsettled: []))
        let mine = try place(position, 3)
        for offset in Int64(4)...6 { #expect(pass(position, offset)) }
        // What is not settled is asked for again, with what came before it as the mark.
        #expect(position.saved == StreamPosition.Saved(offset: 2, fingerprint: "2", last: 6, unsettled: [3]))
        #expect(position.attach() == .offset(2))
        #expect(pass(position, 2))
        #expect(position.arrived(3, fingerprint: "3") == .known)
        #expect(pass(position, 4))
        position.settle(mine)
        #expect(position.saved == StreamPosition.Saved(offset: 4, fingerprint: "4", last: 6, unsettled: []))
        #expect(position.attach() == .offset(4))
        #expect(!pass(position, 4, "another"))
        // One that an earlier process owed may be for somebody else now.
        let later = StreamPosition(StreamPosition.Saved(offset: 2, fingerprint: "2", last: 5, unsettled: [3]))
        #expect(later.attach() == .offset(2))
        for offset in Int64(2)...5 { #expect(pass(later, offset)) }
        #expect(later.saved == StreamPosition.Saved(offset: 5, fingerprint: "5", last: 5, unsettled: []))
    }

    @Test func placesOfAnotherStreamSettleNothing() throws {
        let position = StreamPosition()
        _ = position.attach()
        let old = try place(position, 1)
        position.streamWasMadeAnew()
        _ = position.attach()
        let first = try place(position, 0)
        _ = try place(position, 1)
        position.settle(first)
        position.settle(old)
        #expect(position.saved?.unsettled == [1])
    }

    @Test func whatCannotBeReadIsLeftOut() throws {
        let position = StreamPosition(StreamPosition.Saved(offset: 2, fingerprint: "2", last: 2, unsettled: []))
        #expect(position.attach() == .offset(2))
        _ = position.arrived(2, fingerprint: "2")
        #expect(position.nextIsUnreadable())
        #expect(position.attach() == .offset(4))
        // The next one neither.
        #expect(position.nextIsUnreadable())
        #expect(position.attach() == .offset(5))
        let five = try place(position, 5)
        #expect(position.attach() == .offset(5))
        #expect(position.arrived(5, fingerprint: "5") == .known)
        position.settle(five)
        #expect(position.attach() == .offset(5))
        // Not even the one that was asked for.
        #expect(position.nextIsUnreadable())
        #expect(position.attach() == .offset(6))
        let fresh = StreamPosition()
        #expect(fresh.attach() == .first)
        #expect(!fresh.nextIsUnreadable())
        #expect(fresh.attach() == .first)
    }

    @Test func whatTheBrokerNoLongerHasIsNotWaitedFor() throws {
        let position = StreamPosition(StreamPosition.Saved(offset: 2, fingerprint: "2", last: 5, unsettled: [3]))
        #expect(position.attach() == .offset(2))
        position.settle(try place(position, 100))
        // 3, and 6 to 99.
        #expect(position.missing == 95)
        #expect(position.saved == StreamPosition.Saved(offset: 100, fingerprint: "100", last: 100, unsettled: []))
    }
}
