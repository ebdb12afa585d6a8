import Foundation
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

@Suite(.timeLimit(.minutes(5))) struct OrderTests {
    @Test func appliesInlineAndPathAndRegisteredFile() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let inline = Data("depth: 7".utf8).base64EncodedString()
        let first = try await scene.apply("rules", 10, more: #","inline":"\#(inline)","version":"seven""#)
        #expect(first.state == .applied)
        #expect(first.modules.first?.running?.generation == 2)
        #expect(first.modules.first?.running?.revision == 10)
        #expect(first.modules.first?.running?.version == "seven")
        #expect(rules.slot.current.value == Rules(depth: 7))

        _ = try scene.write("depth: 8", to: "next.yaml")
        #expect(try await scene.apply("rules", 11, more: #","path":"next.yaml""#).state == .applied)
        #expect(rules.slot.current.value == Rules(depth: 8))

        _ = try scene.write("depth: 9", to: "rules.yaml")
        #expect(try await scene.apply("rules", 12).state == .applied)
        #expect(rules.slot.current.value == Rules(depth: 9))
        #expect(scene.acknowledged.withLock { $0.count } == 3)
    }

    @Test func olderRevisionsAreStaleAndEqualOnesUnchangedOrInConflict() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        let seven = #","inline":"\#(Data("depth: 7".utf8).base64EncodedString())""#
        #expect(try await scene.apply("rules", 10, more: seven).state == .applied)
        let stale = try await scene.apply("rules", 9, more: seven)
        #expect(stale.state == .refused)
        #expect(stale.code == .messageStaleRevision)
        #expect(try await scene.apply("rules", 10, more: seven).state == .unchanged)
        let conflict = try await scene.apply("rules", 10)
        #expect(conflict.code == .messageRevisionConflict)
        #expect(conflict.modules.first?.running?.revision == 10)
    }

    @Test func aRepeatedMessageIsAcknowledgedAndAppliedOnce() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let body = #"{"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"rules","revision":5}]}"#
        scene.send(body, id: "one")
        #expect(try await scene.report(for: "one").state == .applied)
        scene.send(body, id: "one")
        // The answer to the second message would come before this one.
        _ = try await scene.apply("rules", 5)
        #expect(rules.slot.current.number == 2)
        #expect(scene.acknowledged.withLock { $0.filter { $0 == "one" }.count } == 2)
    }

    @Test func othersRequestsAreAcknowledgedInSilence() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        scene.send("not even JSON", id: "header", destination: "indexer:*")
        scene.send(
            #"{"protocol":"reload.request.v1","operation":"apply","destination":"crawler:web-2","modules":[{"name":"rules","revision":1}]}"#,
            id: "body")
        #expect(scene.acknowledged.withLock { $0 } == ["header", "body"])
        let inventory = try await scene.answer(to: #"{"protocol":"reload.request.v1","operation":"inventory"}"#)
        #expect(inventory.sequence == 1)
        #expect(inventory.modules.map(\.name) == ["rules"])
    }

    @Test func expiredRequestsAreSaidSo() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        func expiring(_ time: String) async throws -> ReportState {
            try await scene.answer(
                to:
                    #"{"protocol":"reload.request.v1","operation":"apply","expires_at":"\#(time)","modules":[{"name":"rules","revision":1}]}"#
            ).state
        }
        #expect(try await expiring("2027-01-15T07:59:59Z") == .expired)
        #expect(try await expiring("2027-01-15T08:00:01.5Z") == .applied)
    }

    @Test func theArticlesMessageTakesTheNextLocalRevision() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        _ = try await scene.apply("rules", 41)
        try FileManager.default.createDirectory(
            at: scene.folder.appendingPathComponent("artifacts/new"), withIntermediateDirectories: true)
        _ = try scene.write("depth: 3", to: "new/rules.yaml")
        let folder = scene.folder.appendingPathComponent("artifacts/new").path
        let report = try await scene.answer(
            to: #"{"model_path":"rules","is_append_path":true,"physical_path":"\#(folder)"}"#)
        #expect(report.state == .applied)
        #expect(report.modules.first?.running?.revision == 42)
        #expect(rules.slot.current.value == Rules(depth: 3))
    }

    @Test func validateChangesNothing() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        #expect(try await scene.apply("rules", 3, operation: "validate").state == .validated)
        #expect(rules.slot.current.number == 1)
    }

    @Test func rollbackGoesToTheVersionBeforeOrANamedOne() async throws {
        let scene = try Scene(keep: 2)
        let rules = try scene.rules()
        func roll(_ to: String) async throws -> Report {
            try await scene.answer(
                to: #"{"protocol":"reload.request.v1","operation":"rollback","modules":[{"name":"rules"\#(to)}]}"#)
        }
        #expect(try await roll("").code == .moduleNoPrevious)
        for revision in 1...4 {
            let text = Data("depth: \(revision)".utf8).base64EncodedString()
            _ = try await scene.apply("rules", Int64(revision), more: #","inline":"\#(text)""#)
        }
        let back = try await roll("")
        #expect(back.state == .applied)
        #expect(back.modules.first?.running?.revision == 3)
        #expect(back.modules.first?.running?.generation == 6)
        #expect(rules.slot.current.value == Rules(depth: 3))
        #expect(try await roll(#","revision":4"#).state == .applied)
        #expect(try await roll(#","revision":4"#).state == .unchanged)
        // Two are kept beside the running one.
        #expect(try await roll(#","revision":1"#).code == .moduleNoPrevious)
    }

    @Test func oneSlowModuleDoesNotHoldUpAnother() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let isReleased = DispatchSemaphore(value: 0)
        let (begun, begins) = AsyncStream.makeStream(of: Void.self)
        _ = scene.reloader.handler("slow", file: try scene.write("x", to: "slow.txt")) { _ in
            begins.yield()
            isReleased.wait()
            return {}
        }
        scene.send(
            #"{"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"slow","revision":1}]}"#,
            id: "slow")
        for await _ in begun { break }
        scene.send(
            #"{"protocol":"reload.request.v1","operation":"apply","modules":[{"name":"slow","revision":2}]}"#,
            id: "next")
        #expect(try await scene.apply("rules", 1).state == .applied)
        #expect(rules.slot.current.number == 2)
        #expect(!scene.acknowledged.withLock { $0.contains("slow") })
        isReleased.signal()
        #expect(try await scene.report(for: "slow").modules.first?.running?.revision == 1)
        isReleased.signal()
        #expect(try await scene.report(for: "next").modules.first?.running?.revision == 2)
    }
}

@Suite(.timeLimit(.minutes(5))) struct AllOrNothingTests {
    private func request(_ second: String) -> String {
        let text = Data("depth: 5".utf8).base64EncodedString()
        return """
            {"protocol":"reload.request.v1","operation":"apply","modules":[
            {"name":"rules","revision":1,"inline":"\(text)"},\(second)]}
            """
    }

    @Test func oneRefusedModuleKeepsTheOthersAsTheyWere() async throws {
        let scene = try Scene()
        let first = try scene.rules()
        let second = try scene.rules("limits")
        let report = try await scene.answer(to: request(#"{"name":"limits","revision":1,"inline":"ZGVwdGg6IC0x"}"#))
        #expect(report.state == .refused)
        #expect(report.code == .configRefused)
        #expect(report.modules.map(\.code) == [.moduleNotAttempted, .configRefused])
        #expect(first.slot.current.number == 1)
        #expect(second.slot.current.number == 1)
        #expect(try await scene.answer(to: request(#"{"name":"nowhere","revision":1}"#)).code == .moduleUnknown)
        #expect(first.slot.current.number == 1)
    }

    @Test func aSwitchThatFailsIsTakenBackEverywhere() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let calls = Mutex<[Int64]>([])
        _ = scene.reloader.handler("cache", file: try scene.write("x", to: "cache.txt")) { artifact in
            calls.withLock { $0.append(artifact.revision) }
            return { if artifact.revision == 2 { throw ReloadError(.handlerFailed, "no room") } }
        }
        let report = try await scene.answer(to: request(#"{"name":"cache","revision":2}"#))
        #expect(report.state == .rolledBack)
        #expect(report.code == .handlerFailed)
        #expect(report.message.contains("no room"))
        #expect(rules.slot.current.value == Rules(depth: 1))
        #expect(rules.slot.current.number == 1)
        #expect(calls.withLock { $0 } == [2])
    }

    @Test func bothChangeTogether() async throws {
        let scene = try Scene()
        let first = try scene.rules()
        let second = try scene.rules("limits")
        let report = try await scene.answer(to: request(#"{"name":"limits","revision":1}"#))
        #expect(report.state == .applied)
        #expect(report.modules.map(\.state) == [.applied, .applied])
        #expect([first.slot.current.number, second.slot.current.number] == [2, 2])
    }
}

@Suite(.timeLimit(.minutes(5))) struct BadInputTests {
    @Test(arguments: [
        ("not json", ReloadCode.messageNotJSON), ("", .messageEmpty), (#"{"protocol":1}"#, .messageInvalid),
        (#"{"protocol":"reload.request.v2"}"#, .messageUnknownProtocol),
    ])
    func unreadableMessagesAreKeptReportedAndAcknowledged(body: String, code: ReloadCode) async throws {
        let scene = try Scene()
        _ = try scene.rules()
        scene.send(body, id: "bad")
        let report = try await scene.report(for: "bad")
        #expect(report.state == .refused)
        #expect(report.code == code)
        #expect(scene.deadLetters.withLock { $0.map(\.1.code) } == [code])
        #expect(scene.acknowledged.withLock { $0 } == ["bad"])
        #expect(try await scene.apply("rules", 1).state == .applied)
    }

    @Test func oversizedBodiesAreRefused() async throws {
        let scene = try Scene()
        scene.send("", id: "huge", oversized: true)
        #expect(try await scene.report(for: "huge").code == .messageTooLarge)
    }

    @Test func unknownOperationsAndKindsAreNamedAndNotDeadLettered() async throws {
        let scene = try Scene()
        let operation = try await scene.answer(
            to: #"{"protocol":"reload.request.v1","operation":"explode","modules":[]}"#)
        #expect(operation.code == .messageUnknownOperation)
        #expect(operation.message.contains("explode"))
        #expect(try await scene.apply("rules", 1, kind: "rocket").code == .messageUnknownKind)
        #expect(scene.deadLetters.withLock { $0.isEmpty })
    }

    @Test(arguments: [
        (#","path":"../state/lock""#, ReloadCode.artifactOutsideRoots),
        (#","path":"/etc/passwd""#, .artifactOutsideRoots),
        (#","path":"link""#, .artifactOutsideRoots), (#","path":"nothing.yaml""#, .artifactMissing),
        (#","path":".""#, .artifactNotAFile), (#","path":"pipe""#, .artifactNotAFile),
        (#","path":"""#, .artifactOutsideRoots),
        (#","inline":"%%%""#, .artifactBadInline), (#","path":"big""#, .artifactTooLarge),
        (#","path":"rules.yaml","sha256":"\#(String(repeating: "0", count: 64))""#, .artifactDigestMismatch),
        (#","path":"text.yaml""#, .configInvalid), (#","path":"negative.yaml""#, .configRefused),
        (#","path":"broken.yaml""#, .configInvalid), (#","path":"broken.json""#, .configInvalid),
    ])
    func badArtifactsAreRefusedAndTheOldOneStays(more: String, code: ReloadCode) async throws {
        let scene = try Scene(artifactLimit: 1000)
        let rules = try scene.rules()
        _ = try scene.write("depth: deep", to: "text.yaml")
        _ = try scene.write("depth: -1", to: "negative.yaml")
        _ = try scene.write("depth: [", to: "broken.yaml")
        _ = try scene.write("{\"depth\": 1", to: "broken.json")
        _ = try scene.write(String(repeating: "#", count: 1001), to: "big")
        let artifacts = scene.folder.appendingPathComponent("artifacts").path
        let made = unsafe (symlink("/etc/passwd", artifacts + "/link"), mkfifo(artifacts + "/pipe", 0o600))
        #expect(made == (0, 0))
        let report = try await scene.apply("rules", 1, more: more)
        #expect(report.state == .refused)
        #expect(report.code == code, "\(report.message)")
        #expect(!report.message.isEmpty)
        #expect(rules.slot.current.number == 1)
        #expect(report.modules.first?.running?.generation == 1)
        #expect(try await scene.apply("rules", 2).state == .applied)
    }

    @Test func decodingErrorsCarryTheCodingPath() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        _ = try scene.write("depth: deep", to: "text.yaml")
        #expect(try await scene.apply("rules", 1, more: #","path":"text.yaml""#).message.hasPrefix("depth: "))
    }

    @Test func unknownModulesAndOtherKindsAreRefused() async throws {
        let scene = try Scene()
        _ = try scene.rules()
        #expect(try await scene.apply("nowhere", 1).code == .moduleUnknown)
        #expect(try await scene.apply("rules", 1, kind: "plugin").code == .moduleKindMismatch)
    }
}

@Suite(.timeLimit(.minutes(5))) struct StateDirectoryTests {
    private let path = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)").path

    @Test func aSecondOneOnTheSameFolderIsRefused() throws {
        let first = try StateDirectory(path: path, artifactLimit: 10)
        #expect {
            try StateDirectory(path: path, artifactLimit: 10)
        } throws: { error in
            (error as? ReloadError)?.code == .stateLocked
        }
        #expect(first.path == path)
    }

    @Test func copiesArePrivateAndGoWithTheirLastUser() throws {
        let directory = try StateDirectory(path: path, artifactLimit: 10)
        var copy: StagedArtifact? = try directory.stage(bytes: Array("abc".utf8), module: "../a b")
        let file = try #require(copy?.path)
        #expect(file.hasPrefix(path + "/artifacts/.._a_b-1-"))
        #expect(copy?.digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let attributes = try FileManager.default.attributesOfItem(atPath: file)
        #expect(attributes[.posixPermissions] as? Int == 0o500)
        copy = nil
        #expect(!FileManager.default.fileExists(atPath: file))
    }

    @Test func anUnusableFolderIsSaidSo() {
        #expect {
            try StateDirectory(path: "/proc/nowhere", artifactLimit: 10)
        } throws: { error in
            (error as? ReloadError)?.code == .stateUnusable
        }
    }

    /// nil: it is used.
    private var refusal: ReloadError? {
        do throws(ReloadError) {
            try StateDirectory(path: path, artifactLimit: 10).close()
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [
        ("", 0o777), ("", 0o2777), ("/artifacts", 0o770), ("/artifacts", 0o1777), ("/attempts", 0o707),
        ("/journal", 0o620), ("/journal.previous", 0o602),
    ])
    func aFolderThatOthersMayChange(part: String, mode: mode_t) throws {
        try #require(refusal == nil)
        if part.hasPrefix("/journal") { try Data("x".utf8).write(to: URL(fileURLWithPath: path + part)) }
        try #require(unsafe chmod(path + part, mode) == 0)
        let refused = try #require(refusal)
        #expect(refused.code == .stateUnusable)
        let found = "others may change \(path)\(part), which has mode 0\(String(mode, radix: 8)), owner \(geteuid())"
        #expect(refused.message.hasPrefix(found), "\(refused.message)")
    }

    /// A volume of Kubernetes with an fsGroup, a tmpfs, what others may only read.
    @Test(arguments: [0o2775, 0o1777, 0o755]) func aVolumeThatWasMounted(mode: mode_t) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        try #require(unsafe chmod(path, mode) == 0)
        for _ in 1...2 { #expect(refusal == nil) }
    }

    @Test(arguments: ["artifacts", "attempts", "journal"]) func aLinkInTheFolder(name: String) throws {
        try #require(refusal == nil)
        unsafe rmdir("\(path)/\(name)")
        let target = name == "journal" ? "/etc/hostname" : path
        try FileManager.default.createSymbolicLink(atPath: "\(path)/\(name)", withDestinationPath: target)
        #expect(refusal?.message.contains("others may change \(path)/\(name)") == true)
    }

    /// The rule itself, for owners that only root can make.
    @Test(arguments: [StateDirectory.Part.folder, .folderWithin, .ledger])
    func whoseItIs(part: StateDirectory.Part) {
        let trusted = [0, 7, 8].filter { owner in
            var file = stat()
            (file.st_uid, file.st_mode) = (uid_t(owner), (part == .ledger ? S_IFREG : S_IFDIR) | 0o700)
            return StateDirectory.isTrusted(file, as: part, user: 7)
        }
        #expect(trusted == [0, 7])
    }

    @Test(arguments: ["a link", "others may write"]) func whatStandsInTheTemporaryPlace(what: String) throws {
        func place() throws -> String {
            let directory = try StateDirectory.temporary(insteadOf: path, artifactLimit: 10)
            directory.close()
            return directory.path
        }
        let usual = try place()
        #expect(try place() == usual)
        try FileManager.default.removeItem(atPath: usual)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        if what == "a link" {
            try FileManager.default.createSymbolicLink(atPath: usual, withDestinationPath: path)
        } else {
            try FileManager.default.createDirectory(atPath: usual, withIntermediateDirectories: false)
            try #require(unsafe chmod(usual, 0o770) == 0)
        }
        #expect(try place() != usual)
        #expect(try FileManager.default.contentsOfDirectory(atPath: path) == [])
    }
}

@Suite(.timeLimit(.minutes(5))) struct ConfigTests {
    @Test func aMissingFirstFileIsThrownWithTheSystemsWords() throws {
        let scene = try Scene()
        #expect {
            let _: ConfigTarget<Rules> = try scene.reloader.config("gone", file: "/nowhere/rules.yaml") { _ in }
        } throws: { error in
            (error as? ReloadError)?.code == .artifactMissing && "\(error)".contains("No such file or directory")
        }
    }

    @Test func observersSeeOldAndNewInOrder() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        let seen = Mutex<[Int]>([])
        rules.onChange { old, new in seen.withLock { $0 += [old.depth, new.depth] } }
        var values = rules.values().makeAsyncIterator()
        #expect(await values.next() == Rules(depth: 1))
        for depth in [2, 3] {
            _ = try scene.write("depth: \(depth)", to: "rules.yaml")
            _ = try await scene.apply("rules", Int64(depth))
            #expect(await values.next() == Rules(depth: depth))
        }
        #expect(seen.withLock { $0 } == [1, 2, 2, 3])
    }

    @Test func jsonByItsName() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        _ = try scene.write("{\"depth\": 4}", to: "rules.json")
        #expect(try await scene.apply("rules", 1, more: #","path":"rules.json""#).state == .applied)
        #expect(rules.slot.current.value == Rules(depth: 4))
    }

    @Test func aBadFirstFileIsThrown() throws {
        let scene = try Scene()
        let file = try scene.write("depth: x", to: "bad.yaml")
        #expect {
            let _: ConfigTarget<Rules> = try scene.reloader.config("bad", file: file) { _ in }
        } throws: { error in
            (error as? ReloadError)?.code == .configInvalid
        }
    }
}
