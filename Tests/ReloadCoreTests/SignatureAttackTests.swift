import Foundation
import Glibc
import MetricsTestKit
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// An instance that takes only signed requests, and a publisher that signs.
private struct SignedScene {
    let key: SigningKey
    let keys: String
    var scene: Scene
    let rules: ConfigTarget<Rules>

    init(
        modules: String = "[\"*\"]", kinds: String = "[plugin, config, custom]", answerTableCapacity: Int = 10_000,
        metrics: TestMetrics? = nil, reportLimit: Int = 1000, patience: Duration = .zero
    ) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        key = try SigningKey()
        keys = folder.appendingPathComponent("keys.yaml").path
        try Self.entry(key, modules, kinds).write(toFile: keys, atomically: true, encoding: .utf8)
        scene = try Scene(
            metrics: metrics, reportLimit: reportLimit,
            trustedKeys: try TrustedKeysFile(path: keys, patience: patience),
            answerTableCapacity: answerTableCapacity, in: folder)
        rules = try scene.rules()
    }

    static func entry(_ key: SigningKey, _ modules: String = "[\"*\"]", _ kinds: String = "[config]") -> String {
        "keys:\n  - key: \(key.publicKey)\n    modules: \(modules)\n    kinds: \(kinds)\n"
    }

    var now: Date { scene.clock.withLock { $0 } }

    /// Lets time pass.
    func wait(_ seconds: TimeInterval) { scene.clock.withLock { $0 += seconds } }

    /// A module in a request, as JSON.
    static func module(_ revision: Int?, name: String = "rules") -> String {
        let inline = Data("depth: \(revision ?? 0)".utf8).base64EncodedString()
        return revision.map { #"{"name":"\#(name)","revision":\#($0),"inline":"\#(inline)"}"# }
            ?? #"{"name":"\#(name)"}"#
    }

    /// A request, issued now.
    func request(
        _ modules: String..., operation: String = "apply", issued: Date? = nil, more: String = ""
    ) -> Envelope {
        let issued = issued ?? now
        let body = """
            {"protocol":"reload.request.v1","operation":"\(operation)","issued_at":"\(ReloadJSON.text(issued))",\
            "modules":[\(modules.joined(separator: ","))]\(more)}
            """
        var envelope = Envelope(
            body: Array(body.utf8), type: Request.protocolName, correlationID: nil, appID: "test")
        envelope.timestamp = UInt64(issued.timeIntervalSince1970)
        return envelope
    }

    func signed(_ envelope: Envelope, with other: SigningKey? = nil, exchange: String = "reload.control") throws
        -> Envelope
    {
        var envelope = envelope
        try (other ?? key).sign(&envelope, exchange: exchange)
        return envelope
    }

    func answer(to envelope: Envelope) async throws -> Report {
        scene.send(envelope)
        return try await scene.report(for: envelope.messageID)
    }

    var depth: Int { rules.slot.current.value.depth }
}

@Suite(.timeLimit(.minutes(5))) struct SignatureAttackTests {
    @Test func aSignedRequestIsCarriedOut() async throws {
        let world = try SignedScene()
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        #expect(world.depth == 5)
    }

    /// Nobody signs the header that repeats the destination: it may silence what nobody could read anyway, and nothing else.
    @Test func aHeaderThatNobodySignedKeepsNoRequestAway() async throws {
        let world = try SignedScene()
        var request = try world.signed(world.request(SignedScene.module(5), more: #","destination":"crawler:*""#))
        request.headers[Request.destinationHeader] = .string("mailer:*")
        #expect(try await world.answer(to: request).state == .applied)
        #expect(world.depth == 5)
        // The signed body decides whom it is for, whatever the header says.
        var other = try world.signed(world.request(SignedScene.module(6), more: #","destination":"mailer:*""#))
        other.headers[Request.destinationHeader] = .string("crawler:*")
        world.scene.send(other)
        var unreadable = Envelope(body: Array("{".utf8))
        unreadable.messageID = "unreadable"
        unreadable.headers[Request.destinationHeader] = .string("mailer:*")
        world.scene.send(unreadable)
        let mine = try world.signed(world.request(SignedScene.module(7)))
        world.scene.send(mine)
        #expect(await world.scene.answers(1) == [try #require(mine.messageID): [.applied]])
        #expect(world.scene.acknowledged.withLock { $0.contains("unreadable") && $0.contains(other.messageID ?? "") })
    }

    @Test func strippedSignature() async throws {
        let world = try SignedScene()
        let report = try await world.answer(to: world.request(SignedScene.module(5)))
        #expect((report.state, report.code) == (.refused, .messageUnsigned))
        #expect(world.depth == 1)
        // The article's message has no place for one.
        var article = Envelope(body: Array(#"{"model_path":"rules"}"#.utf8))
        article.messageID = "article"
        #expect(try await world.answer(to: article).code == .messageUnsigned)
        // Nothing else is taken unsigned either.
        for operation in ["rollback", "release", "validate"] {
            let request = world.request(SignedScene.module(7), operation: operation)
            #expect(try await world.answer(to: request).code == .messageUnsigned)
        }
        #expect(try await world.answer(to: world.request(operation: "inventory")).code == .messageUnsigned)
    }

    @Test func signatureOfAnotherMessage() async throws {
        let world = try SignedScene()
        let good = try world.signed(world.request(SignedScene.module(5)))
        var other = world.request(SignedScene.module(6))
        other.headers = good.headers
        #expect(try await world.answer(to: other).code == .messageBadSignature)
        #expect(world.depth == 1)
    }

    enum Change: CaseIterable {
        case body, id, timestamp, noTimestamp, exchange, keyID, notBase64, short, algorithm, kindOfHeader
    }

    @Test(arguments: Change.allCases) func changedAfterItWasSigned(_ change: Change) async throws {
        let world = try SignedScene()
        var message = try world.signed(
            world.request(SignedScene.module(5)), exchange: change == .exchange ? "staging.control" : "reload.control")
        guard case .string(var header)? = message.headers[RequestSignature.header] else {
            throw ReloadError(.messageUnsigned, "not signed")
        }
        switch change {
        case .body: message.body.insert(UInt8(ascii: " "), at: 1)
        case .id: message.messageID = UUID().uuidString
        case .timestamp: message.timestamp? += 1
        case .noTimestamp: message.timestamp = nil
        case .exchange: break
        case .keyID: header = header.replacing(world.key.id, with: world.key.id.uppercased() + "0")
        case .notBase64: header = String(header.dropLast(3)) + "!=="
        case .short: header = String(header.dropLast(4))
        case .algorithm: header = header.replacing("ed25519", with: "none")
        case .kindOfHeader: break
        }
        message.headers[RequestSignature.header] = change == .kindOfHeader ? .other : .string(header)
        #expect(try await world.answer(to: message).code == .messageBadSignature)
        #expect(world.depth == 1)
    }

    @Test func anIDThatPassesForMoreThanALine() throws {
        let world = try SignedScene()
        var message = world.request(SignedScene.module(5))
        message.messageID = "a\nreload.control"
        #expect { try world.signed(message) } throws: { ($0 as? ReloadError)?.code == .messageBadSignature }
    }

    @Test func unknownKey() async throws {
        let world = try SignedScene()
        let report = try await world.answer(to: world.signed(world.request(SignedScene.module(5)), with: SigningKey()))
        #expect((report.code, world.depth) == (.messageUnknownKey, 1))
    }

    @Test func revokedKey() async throws {
        let world = try SignedScene()
        let newer = try SigningKey()
        // Rotation: both are good for a while.
        try (SignedScene.entry(world.key) + SignedScene.entry(newer).replacing("keys:\n", with: ""))
            .write(toFile: world.keys, atomically: true, encoding: .utf8)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        #expect(
            try await world.answer(to: world.signed(world.request(SignedScene.module(6)), with: newer)).state
                == .applied)
        try SignedScene.entry(newer).write(toFile: world.keys, atomically: true, encoding: .utf8)
        let report = try await world.answer(to: world.signed(world.request(SignedScene.module(7))))
        #expect((report.code, world.depth) == (.messageUnknownKey, 6))
    }

    @Test func keysThatAreTakenAway() async throws {
        let world = try SignedScene()
        for text in ["", "keys: []"] {
            try text.write(toFile: world.keys, atomically: true, encoding: .utf8)
            let message = try world.signed(world.request(SignedScene.module(5)))
            #expect(try await world.answer(to: message).code == .keysUnusable)
        }
        try FileManager.default.removeItem(atPath: world.keys)
        #expect(try await world.answer(to: world.request(SignedScene.module(5))).code == .keysUnusable)
        #expect(world.depth == 1)
        try SignedScene.entry(world.key).write(toFile: world.keys, atomically: true, encoding: .utf8)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
    }

    /// Whoever writes it in place empties it first.
    @Test func aFileThatIsBeingWrittenDoesNotCostRequests() async throws {
        let world = try SignedScene(patience: .seconds(3600))
        try "".write(toFile: world.keys, atomically: true, encoding: .utf8)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        #expect(try await world.answer(to: world.request(SignedScene.module(6))).code == .messageUnsigned)
        let newer = try SigningKey()
        try SignedScene.entry(newer).write(toFile: world.keys, atomically: true, encoding: .utf8)
        let old = try world.signed(world.request(SignedScene.module(7)))
        #expect(try await world.answer(to: old).code == .messageUnknownKey)
    }

    @Test(arguments: [("[\"crawler.*\"]", "[config]"), ("[\"*\"]", "[plugin, custom]"), ("[]", "[config]")])
    func wrongModuleForTheKey(_ modules: String, _ kinds: String) async throws {
        let world = try SignedScene(modules: modules, kinds: kinds)
        for operation in ["apply", "validate", "rollback", "release"] {
            let report = try await world.answer(
                to: world.signed(world.request(SignedScene.module(5), operation: operation)))
            #expect(report.code == .messageKeyNotAllowed)
        }
        #expect(world.depth == 1)
    }

    /// It may be registered before the request is carried out, and then be of any kind.
    @Test func aModuleThatIsNotThereYet() async throws {
        let world = try SignedScene(modules: "[rules, later]", kinds: "[config]")
        for (module, kind, code) in [
            ("other", ModuleKind.config, ReloadCode.messageKeyNotAllowed), ("later", .plugin, .messageKeyNotAllowed),
            ("later", nil, .messageKeyNotAllowed), ("later", .config, .moduleUnknown),
        ] as [(String, ModuleKind?, ReloadCode)] {
            let kind = kind.map { #","kind":"\#($0.rawValue)""# } ?? ""
            let request = world.request(#"{"name":"\#(module)","revision":5\#(kind)}"#)
            #expect(try await world.answer(to: world.signed(request)).code == code)
        }
    }

    @Test func mixAndMatchInOneTransaction() async throws {
        let world = try SignedScene(modules: "[rules, other]")
        let other = try world.scene.rules("other")
        let third = try world.scene.rules("third")
        // One module that the key may not change refuses all of them.
        let all = ["rules", "other", "third"].map { SignedScene.module(5, name: $0) }.joined(separator: ",")
        #expect(try await world.answer(to: world.signed(world.request(all))).code == .messageKeyNotAllowed)
        // Parts of two signed requests under either of their signatures.
        let first = try world.signed(world.request(SignedScene.module(6)))
        let second = try world.signed(world.request(SignedScene.module(7, name: "other")))
        for signature in [first, second] {
            var mixed = world.request(SignedScene.module(6), SignedScene.module(7, name: "other"))
            mixed.messageID = signature.messageID
            mixed.headers = signature.headers
            #expect(try await world.answer(to: mixed).code == .messageBadSignature)
        }
        for config in [world.rules, other, third] { #expect(config.slot.current.value.depth == 1) }
    }

    @Test func rollbackToAnOlderRevision() async throws {
        let world = try SignedScene(answerTableCapacity: 1)
        let old = try world.signed(world.request(SignedScene.module(5)))
        #expect(try await world.answer(to: old).state == .applied)
        world.wait(1)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(6)))).state == .applied)
        // Its message id is forgotten, its signature is good.
        #expect(try await world.answer(to: old).code == .messageStaleRevision)
        #expect(world.depth == 6)
    }

    @Test func replayOfWhatWasTakenBack() async throws {
        let world = try SignedScene(answerTableCapacity: 1)
        var bad: Envelope?
        for revision in 5...6 {
            let request = try world.signed(world.request(SignedScene.module(revision)))
            #expect(try await world.answer(to: request).state == .applied)
            bad = request
            world.wait(1)
        }
        let back = try world.signed(world.request(SignedScene.module(nil), operation: "rollback"))
        #expect(try await world.answer(to: back).state == .applied)
        #expect(world.depth == 5)
        // After the rollback its revision is the newer one again.
        #expect(try await world.answer(to: try #require(bad)).code == .messageReplayed)
        #expect(world.depth == 5)
        world.wait(1)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(7)))).state == .applied)
        // And the rollback would go back once more.
        #expect(try await world.answer(to: back).code == .messageReplayed)
        #expect(world.depth == 7)
        // A restart does not forget.
        world.scene.kill()
        let second = try Scene(trustedKeys: try TrustedKeysFile(path: world.keys), in: world.scene.folder)
        let rules = try second.rules()
        for var message in [back, try #require(bad)] {
            // The ledger remembers some ids; so with another one, which the attacker could not sign.
            message.messageID = UUID().uuidString
            try world.key.sign(&message, exchange: "reload.control")
            second.send(message)
            #expect(try await second.report(for: message.messageID).code == .messageReplayed)
        }
        #expect(rules.slot.current.value.depth == 7)
    }

    @Test func replayOfARelease() async throws {
        let world = try SignedScene(answerTableCapacity: 1)
        let release = try world.signed(world.request(SignedScene.module(nil), operation: "release"))
        #expect(try await world.answer(to: release).state == .unchanged)
        world.wait(1)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        #expect(try await world.answer(to: release).code == .messageReplayed)
    }

    @Test func replayOfTheSameMessage() async throws {
        let world = try SignedScene()
        let message = try world.signed(world.request(SignedScene.module(5)))
        #expect(try await world.answer(to: message).state == .applied)
        world.scene.send(message)
        let next = try world.signed(world.request(SignedScene.module(6)))
        world.scene.send(next)
        // Acknowledged, and not answered again.
        #expect(await Array(world.scene.answers(1).keys) == [next.messageID])
        #expect(world.scene.acknowledged.withLock { $0.filter { $0 == message.messageID } }.count == 2)
    }

    /// An id that somebody took before: what nobody has signed neither takes its place nor speaks for it.
    @Test func theIDOfAnotherMessage() async throws {
        let world = try SignedScene()
        let message = try world.signed(world.request(SignedScene.module(5)))
        var copy = message
        copy.headers = [:]
        copy.replyTo = "reload.journal"
        world.scene.send(copy)
        let refusal = try await world.scene.outgoing(for: message.messageID)
        #expect(refusal.report.code == .messageUnsigned)
        // With the agent's rights nothing is sent where a stranger wants it.
        #expect(refusal.replyTo == nil)
        #expect(try await world.answer(to: message).state == .applied)
        world.scene.send(copy)
        var unreadable = copy
        unreadable.body = Array("{".utf8)
        world.scene.send(unreadable)
        unreadable.messageID = "another"
        world.scene.send(unreadable)
        let last = try await world.scene.outgoing(for: "another")
        #expect(last.report.code == .messageNotJSON && last.replyTo == nil)
        let answers = world.scene.acknowledged.withLock { $0.filter { $0 == message.messageID } }
        #expect(answers.count == 4)
    }

    /// The ledger is written while a rollback is under way, and then the process dies.
    @Test func aRollbackThatWasUnderWayAtACrashIsNoReplay() async throws {
        let world = try SignedScene()
        let (isUnderWay, goesOn) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let blocks = Atomic(false)
        _ = world.scene.reloader.handler("slow", file: nil) { _ in
            if blocks.load(ordering: .relaxed) {
                isUnderWay.signal()
                goesOn.wait()
            }
            return {}
        }
        for revision in 1...2 {
            let request = try world.signed(world.request(SignedScene.module(revision, name: "slow")))
            #expect(try await world.answer(to: request).state == .applied)
            world.wait(1)
        }
        let back = try world.signed(world.request(SignedScene.module(nil, name: "slow"), operation: "rollback"))
        blocks.store(true, ordering: .relaxed)
        world.scene.send(back)
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                isUnderWay.wait()
                continuation.resume()
            }
        }
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        world.scene.kill()
        let second = try Scene(trustedKeys: try TrustedKeysFile(path: world.keys), in: world.scene.folder)
        _ = try second.rules()
        let slow = second.reloader.handler("slow", file: nil) { _ in {} }
        second.send(back)
        #expect(try await second.report(for: back.messageID).state == .applied)
        #expect(slow.running.report.revision == 1)
        goesOn.signal()
    }

    /// What comes again because the process died before it was answered is no replay.
    @Test func aRedeliveryAfterACrashIsNoReplay() async throws {
        let world = try SignedScene()
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        world.wait(1)
        let next = try world.signed(world.request(SignedScene.module(6)))
        world.wait(1)
        let back = try world.signed(world.request(SignedScene.module(nil), operation: "rollback"))
        world.scene.reloader.backlogChanged(true)
        world.scene.send(next)
        world.scene.send(back)
        // The ledger is written meanwhile.
        #expect(try await world.answer(to: world.request(SignedScene.module(9))).code == .messageUnsigned)
        world.scene.kill()
        let second = try Scene(trustedKeys: try TrustedKeysFile(path: world.keys), in: world.scene.folder)
        _ = try second.rules()
        second.send(next)
        #expect(try await second.report(for: next.messageID).state == .applied)
        second.send(back)
        #expect(try await second.report(for: back.messageID).state == .applied)
    }

    @Test func expired() async throws {
        let world = try SignedScene()
        let until = ReloadJSON.text(world.now + 60)
        let message = try world.signed(world.request(SignedScene.module(5), more: #","expires_at":"\#(until)""#))
        world.wait(61)
        let report = try await world.answer(to: message)
        #expect((report.state, report.code) == (.expired, .messageExpired))
        #expect(world.depth == 1)
    }

    @Test func anExpiredRequestLeavesNoMark() async throws {
        let world = try SignedScene()
        let early = try world.signed(world.request(SignedScene.module(5)))
        world.wait(1)
        let second = try world.signed(world.request(SignedScene.module(6)))
        world.wait(1)
        let until = ReloadJSON.text(world.now + 60)
        let back = try world.signed(
            world.request(SignedScene.module(nil), operation: "rollback", more: #","expires_at":"\#(until)""#))
        world.wait(61)
        #expect(try await world.answer(to: back).state == .expired)
        #expect(try await world.answer(to: early).state == .applied)
        // Nor in the ledger.
        world.scene.kill()
        let restarted = try Scene(trustedKeys: try TrustedKeysFile(path: world.keys), in: world.scene.folder)
        _ = try restarted.rules()
        restarted.send(second)
        #expect(try await restarted.report(for: second.messageID).state == .applied)
    }

    /// What nobody can read, or nobody signed, however much of it comes: it is read no further ahead than leaves room for answers
    /// in the ledger and before the broker.
    @Test(arguments: [
        "{", #"{"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"rules","revision":1}]}"#,
    ])
    func refusalsLeaveRoomForAnswers(body: String) async throws {
        let scene = try SignedScene(reportLimit: 20).scene
        scene.confirms.store(false, ordering: .relaxed)
        for number in 1...10 {
            #expect(scene.reloader.hasRoom)
            scene.send(body, id: "\(number)")
        }
        #expect(!scene.reloader.hasRoom)
        #expect(await scene.answers(10).count == 10)
        #expect(!scene.reloader.hasRoom)
        scene.confirm()
        #expect(scene.reloader.hasRoom)
    }

    /// Nothing else tells a recorded one that changes nothing, and it makes work.
    @Test(arguments: ["validate", "inventory"]) func replayOfAQuestion(_ operation: String) async throws {
        let world = try SignedScene(answerTableCapacity: 1)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        let question = try world.signed(world.request(SignedScene.module(6), operation: operation))
        #expect(try await world.answer(to: question).state.isSuccess)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(7)))).state == .applied)
        world.wait(601)
        let report = try await world.answer(to: question)
        #expect((report.state, report.code) == (.expired, .messageExpired))
    }

    @Test func fromTheFuture() async throws {
        let world = try SignedScene()
        let late = try world.signed(world.request(SignedScene.module(5), issued: world.now + 301))
        #expect(try await world.answer(to: late).code == .messageFromFuture)
        // Clocks differ a little.
        let early = try world.signed(world.request(SignedScene.module(6), issued: world.now + 299))
        #expect(try await world.answer(to: early).state == .applied)
        // It left no mark on what may be issued after it.
        #expect(world.depth == 6)
    }

    @Test func withoutATimeNothingCanBeToldOfReplays() async throws {
        let world = try SignedScene()
        var message = world.request(SignedScene.module(5))
        message.body = Array(String(decoding: message.body, as: UTF8.self).replacing("issued_at", with: "was_at").utf8)
        #expect(try await world.answer(to: world.signed(message)).code == .messageInvalid)
        let until = ReloadJSON.text(world.now - 1)
        let backwards = try world.signed(
            world.request(SignedScene.module(5), more: #","expires_at":"\#(until)""#))
        #expect(try await world.answer(to: backwards).code == .messageInvalid)
        #expect(world.depth == 1)
    }

    /// Withheld updates: nobody but who signs can keep the age of the newest request down.
    @Test func freeze() async throws {
        let metrics = TestMetrics()
        let world = try SignedScene(metrics: metrics)
        // From the start on, also if none ever comes.
        world.wait(100)
        world.scene.reloader.announce(.online)
        _ = try await world.scene.report { $0.state == .online }
        #expect(try metrics.expectGauge("reload_agent_newest_request_age_seconds").lastValue == 100)
        world.wait(-100)
        #expect(try await world.answer(to: world.signed(world.request(SignedScene.module(5)))).state == .applied)
        world.wait(1000)
        #expect(try await world.answer(to: world.request(SignedScene.module(6))).code == .messageUnsigned)
        world.scene.reloader.announce(.online)
        _ = try await world.scene.report { $0.state == .online }
        #expect(try metrics.expectGauge("reload_agent_newest_request_age_seconds").lastValue == 1000)
        // Whatever is signed counts, whether it changes anything or not.
        let inventory = try world.signed(world.request(operation: "inventory"))
        #expect(try await world.answer(to: inventory).state == .unchanged)
        world.wait(10)
        world.scene.reloader.announce(.online)
        _ = try await world.scene.report { $0.state == .online }
        #expect(try metrics.expectGauge("reload_agent_newest_request_age_seconds").lastValue == 10)
        world.scene.kill()
        let second = try Scene(
            metrics: metrics, trustedKeys: try TrustedKeysFile(path: world.keys), in: world.scene.folder)
        _ = try second.rules()
        second.clock.withLock { $0 += 5000 }
        second.reloader.announce(.online)
        _ = try await second.report { $0.state == .online }
        #expect(try metrics.expectGauge("reload_agent_newest_request_age_seconds").lastValue == 4000)
    }
}

/// Key files: what is not good is an error at the start, and never a set of keys that lets more through.
@Suite(.timeLimit(.minutes(5))) struct KeyFileTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
    private let key: SigningKey

    init() throws {
        key = try SigningKey()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func file(_ text: String, mode: Int = 0o600) throws -> String {
        let path = folder.appendingPathComponent(UUID().uuidString).path
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        return path
    }

    private func refusal(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch {
            return (error as? ReloadError).flatMap { $0.code == .keysUnusable ? $0.message : nil }
        }
    }

    @Test(arguments: [
        ("", ":"), ("keys: []", "no key"), ("keys:\n", "keys"), ("[", "YAML"), ("key: []", "key"),
        ("keys: [{key: KEY, modules: ['*']}]", "kinds"), ("keys: [{key: KEY, kinds: [config]}]", "modules"),
        ("keys: [{key: KEY, modules: ['*'], kinds: [config], expires: 2030}]", "expires"),
        ("keys: [{key: KEY, modules: ['*'], kinds: [everything]}]", "kinds"),
        ("keys: [{key: bm8=, modules: ['*'], kinds: [config]}]", "key"),
        (
            "keys: [{key: KEY, modules: ['*'], kinds: [config]}, {key: KEY, modules: [a], kinds: [config]}]", "twice"
        ),
    ])
    func trustedKeysThatAreNone(_ text: String, _ reason: String) throws {
        let path = try file(text.replacing("KEY", with: key.publicKey))
        let message = try #require(refusal { _ = try TrustedKeysFile(path: path) })
        #expect(message.contains(path) && message.dropFirst(path.count).contains(reason), "\(message)")
    }

    @Test func filesThatOthersMayWriteOrRead() throws {
        let text = "keys: [{key: \(key.publicKey), modules: ['*'], kinds: [config]}]"
        _ = try TrustedKeysFile(path: try file(text, mode: 0o644))
        for mode in [0o620, 0o602] {
            let path = try file(text, mode: mode)
            #expect(refusal { _ = try TrustedKeysFile(path: path) }?.contains("chmod") == true)
        }
        let secret = folder.appendingPathComponent("key.pem").path
        try key.write(to: secret)
        #expect(try SigningKey(file: secret).id == key.id)
        #expect(refusal { try key.write(to: secret) }?.contains("exists") == true)
        for mode in [0o640, 0o604] {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: secret)
            #expect(refusal { _ = try SigningKey(file: secret) }?.contains("chmod") == true)
        }
        for path in [folder.path, "/dev/null", folder.path + "/missing"] {
            let reason = path.hasSuffix("missing") ? "No such file" : "regular file"
            #expect(refusal { _ = try TrustedKeysFile(path: path) }?.contains(reason) == true)
            #expect(refusal { _ = try SigningKey(file: path) }?.contains(reason) == true)
        }
    }

    @Test(.enabled(if: geteuid() == 0, "only root may give files away")) func filesOfSomebodyElse() throws {
        let keys = try file("keys: [{key: \(key.publicKey), modules: ['*'], kinds: [config]}]")
        let secret = folder.appendingPathComponent("key.pem").path
        try key.write(to: secret)
        for path in [keys, secret] { try #require(unsafe chown(path, 65534, 65534) == 0) }
        #expect(refusal { _ = try TrustedKeysFile(path: keys) }?.contains("65534") == true)
        #expect(refusal { _ = try SigningKey(file: secret) }?.contains("65534") == true)
    }

    /// The key, the text and the signature were made with openssl genpkey, openssl pkey -pubout and openssl pkeyutl -sign.
    @Test func opensslMakesTheSame() throws {
        let secret = """
            -----BEGIN PRIVATE KEY-----
            MC4CAQAwBQYDK2VwBCIEIHAWl9fkaFsCdleeJQG5LWkP//mXKlhE8ZxNWQH0b4JO
            -----END PRIVATE KEY-----
            """
        let key = try SigningKey(file: try file(secret))
        #expect(key.publicKey == "MCowBQYDK2VwAyEAZ6sVJ9AK0n4LDpLD/aTwpJxy2wPNC3tOgF1tqKbjvHk=")
        var message = Envelope(body: Array("{}".utf8))
        message.messageID = "id-1"
        message.timestamp = 1_800_000_000
        #expect(
            String(decoding: try RequestSignature.signedBytes(message, exchange: "reload.control"), as: UTF8.self)
                == "reload.signature.v1\nid-1\nreload.control\n1800000000\n{}")
        let theirs = "bHFE2QauABmIZklWl2ScR33wYNDv18M8/wpCqh06VucmioHkD+4ePtdxDmorqXroyhakHy/EtJAze0Y5/x80BQ=="
        message.headers[RequestSignature.header] = .string("ed25519 \(key.id) \(theirs)")
        let keys = try TrustedKeys(text: "keys: [{key: \(key.publicKey), modules: ['*'], kinds: [config]}]")
        #expect(try keys.signer(of: message, exchange: "reload.control").id == key.id)
    }
}
