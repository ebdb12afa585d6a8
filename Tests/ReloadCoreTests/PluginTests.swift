import Foundation
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct PluginTests {
    private func load(_ scene: Scene, _ revision: Int64, _ name: String) async throws -> Report {
        try await scene.apply("parser", revision, kind: "plugin", more: #","path":"\#(name)""#)
    }

    @Test func upgradesAndAnswersThroughTheSameHandle() async throws {
        let scene = try Scene()
        let parser = try scene.parser()
        #expect(try parser.text() == "one")
        _ = try scene.compile(PluginSource.good(version: "two"), to: "two.so")
        let report = try await load(scene, 1, "two.so")
        #expect(report.state == .applied, "\(report.message)")
        #expect(try parser.text() == "two")
        let module = try #require(report.modules.first)
        #expect(module.running?.version == "two")
        #expect(module.running?.generation == 2)
        #expect(Set(module.timings.keys) == ["stage", "vet", "load", "swap", "prove"])
    }

    @Test func aCallCarriesBytesAndFailuresCarryTheReason() throws {
        let parser = try Scene().parser()
        #expect(try parser.text(2, "ünïcode") == "ünïcode")
        #expect(try parser.text(2, "") == "")
        #expect {
            try parser.text(9)
        } throws: { error in
            (error as? ReloadError)?.pluginCall?.status == 77 && "\(error)".contains("nine is not my number")
        }
    }

    @Test func anOverwrittenFileDoesNotTouchWhatRuns() async throws {
        let scene = try Scene()
        let parser = try scene.parser()
        let file = try scene.compile(PluginSource.good(version: "two"), to: "one.so")
        try FileHandle(forWritingTo: URL(fileURLWithPath: file)).truncate(atOffset: 0)
        #expect(try parser.text() == "one")
        // The same path again: the dynamic linker would give the old code for it.
        _ = try scene.compile(PluginSource.good(version: "three"), to: "one.so")
        #expect(try await scene.apply("parser", 1, kind: "plugin").state == .applied)
        #expect(try parser.text() == "three")
    }

    @Test(arguments: [
        (
            PluginSource.good(version: "x", selfTest: #"say(error, "two and two is five"); return 3;"#),
            ReloadCode.pluginSelfTestFailed, "two and two is five"
        ),
        (PluginSource.good(version: "x", selfTest: "raise(SIGSEGV); return 0;"), .pluginVetCrashed, "signal 11"),
        (
            PluginSource.good(version: "x", selfTest: #"fputs("bye", stderr); exit(0);"#), .pluginVetCrashed,
            "its output ends: bye"
        ),
        (
            // A verdict of its own making, without the nonce.
            PluginSource.good(
                version: "x",
                selfTest: "char forged[1052] = {0}; forged[20] = 7; write(3, forged, sizeof forged); _exit(3);"),
            .pluginVetCrashed, "exit status 3"
        ),
        (PluginSource.good(version: "x", selfTest: "for (;;) pause();"), .pluginVetTimedOut, "6.0 seconds"),
        (
            PluginSource.good(version: "x", top: "__attribute__((constructor)) static void early(void) { abort(); }"),
            .pluginVetCrashed, "signal 6"
        ),
        (PluginSource.good(version: "x", major: 2), .pluginABIMismatch, "ABI 2.0"),
        ("int nothing;", .pluginNoEntry, "reload_plugin_entry"),
        ("const void *reload_plugin_entry(unsigned abi) { return 0; }", .pluginNoEntry, "NULL"),
        (
            "extern int nowhere(void); const void *reload_plugin_entry(unsigned abi) { return (void *)(long)nowhere(); }",
            .pluginNotOpened, "nowhere"
        ),
    ])
    func badPluginsFailInTheirOwnProcess(source: String, code: ReloadCode, reason: String) async throws {
        let scene = try Scene(trial: Trial(timeout: code == .pluginVetTimedOut ? .seconds(6) : .seconds(20)))
        let parser = try scene.parser()
        _ = try scene.compile(source, to: "bad.so")
        let report = try await load(scene, 1, "bad.so")
        #expect(report.state == .failed)
        #expect(report.code == code, "\(report.message)")
        #expect(report.message.contains(reason), "\(report.message)")
        #expect(try parser.text() == "one")
        #expect(report.modules.first?.attempted?.revision == 1)
        #expect(report.modules.first?.running?.revision == 0)

        // The same bytes are not tried again until they are released; others are.
        #expect(try await load(scene, 2, "bad.so").code == .moduleQuarantined)
        _ = try scene.compile(PluginSource.good(version: "two"), to: "two.so")
        #expect(try await load(scene, 3, "two.so").state == .applied)
        let release = #"{"protocol":"reload.request.v1","operation":"release","modules":[{"name":"parser"}]}"#
        #expect(try await scene.answer(to: release).state == .applied)
        #expect(try await load(scene, 4, "bad.so").code == code)
    }

    @Test func aTrialThatIsEndedFromOutsideIsNotHeldAgainstThePlugin() async throws {
        let scene = try Scene()
        _ = try scene.parser()
        // What a service manager does to every process of a service that it stops.
        _ = try scene.compile(PluginSource.good(version: "two", selfTest: "raise(SIGTERM); return 0;"), to: "two.so")
        for revision in Int64(1)...2 {
            #expect(try await load(scene, revision, "two.so").code == .pluginVetUnavailable)
        }
    }

    @Test func filesThatAreNoWholeLibraryAreNotOpened() async throws {
        let scene = try Scene(trial: nil)
        let parser = try scene.parser()
        let whole = try Data(
            contentsOf: URL(fileURLWithPath: try scene.compile(PluginSource.good(version: "x"), to: "x.so")))
        var revision: Int64 = 0
        for size in [0, 3, 63, 64, 100, 700, whole.count / 2, whole.count - 1] {
            revision += 1
            try whole.prefix(size).write(to: scene.folder.appendingPathComponent("artifacts/cut.so"))
            let code = try await load(scene, revision, "cut.so").code
            #expect(code == .pluginTruncated || (size < 4 && code == .pluginNotALibrary), "\(size): \(code)")
        }
        for (name, bytes) in [("text.so", Data("#!/bin/sh\n".utf8)), ("zero.so", Data(count: 5000))] {
            revision += 1
            try bytes.write(to: scene.folder.appendingPathComponent("artifacts/\(name)"))
            #expect(try await load(scene, revision, name).code == .pluginNotALibrary)
        }
        #expect(try parser.text() == "one")
    }

    @Test func damagedHeadersAreErrorsNotCrashes() async throws {
        let scene = try Scene(trial: Trial(timeout: .seconds(20)))
        let parser = try scene.parser()
        let whole = try Data(
            contentsOf: URL(fileURLWithPath: try scene.compile(PluginSource.good(version: "x"), to: "x.so")))
        var revision: Int64 = 0
        // Every byte of the ELF header, and the counts and offsets with the largest value.
        for index in 4..<64 {
            for value in [UInt8(0), 0xff] where whole[index] != value {
                var damaged = whole
                damaged[index] = value
                revision += 1
                try damaged.write(to: scene.folder.appendingPathComponent("artifacts/damaged.so"))
                let report = try await load(scene, revision, "damaged.so")
                #expect(report.state == .failed || report.state == .applied)
            }
        }
        _ = try parser.text()
    }

    @Test func stateMovesToTheNextVersionAndADowngradeIsRefused() async throws {
        let scene = try Scene()
        let count = "if (operation == 5) return out->write(out->context, (const uint8_t *)&counter, 1);"
        _ = try scene.compile(PluginSource.good(version: "two", schema: 2, call: count), to: "two.so")
        _ = try scene.compile(PluginSource.good(version: "old", schema: 1, call: count), to: "old.so")
        let parser = try scene.parser(schema: 1)
        for _ in 0..<41 { _ = try parser.text() }
        #expect(try await load(scene, 1, "two.so").state == .applied)
        #expect(try parser.call([], operation: 5) == [42])
        let report = try await load(scene, 2, "old.so")
        #expect(report.code == .pluginStateRefused)
        #expect(report.message.contains("too new"))
        #expect(try parser.call([], operation: 5) == [43])
    }

    @Test func rollbackLoadsTheKeptCopy() async throws {
        let scene = try Scene()
        let parser = try scene.parser()
        let two = try scene.compile(PluginSource.good(version: "two"), to: "two.so")
        _ = try await load(scene, 7, "two.so")
        try FileManager.default.removeItem(atPath: two)
        try FileManager.default.removeItem(atPath: scene.folder.appendingPathComponent("artifacts/one.so").path)
        let back = try await scene.answer(
            to: #"{"protocol":"reload.request.v1","operation":"rollback","modules":[{"name":"parser"}]}"#)
        #expect(back.state == .applied, "\(back.message)")
        #expect(back.modules.first?.running?.revision == 0)
        #expect(try parser.text() == "one")
        let forward = try await scene.answer(
            to: #"{"protocol":"reload.request.v1","operation":"rollback","modules":[{"name":"parser","revision":7}]}"#)
        #expect(forward.modules.first?.running?.revision == 7)
        #expect(try parser.text() == "two")
    }

    @Test func anOldVersionIsDestroyedAfterItsLastCall() async throws {
        let scene = try Scene()
        let entered = scene.folder.appendingPathComponent("entered").path
        let gate = scene.folder.appendingPathComponent("gate").path
        let destroyed = scene.folder.appendingPathComponent("destroyed").path
        #expect(unsafe (mkfifo(entered, 0o600), mkfifo(gate, 0o600), mkfifo(destroyed, 0o600)) == (0, 0, 0))
        // Its call and its destroy tell and wait through pipes.
        let source = PluginSource.good(
            version: "slow",
            call: #"if (operation == 7) { fclose(fopen("\#(entered)", "w")); fclose(fopen("\#(gate)", "r")); }"#,
            destroyed: destroyed)
        let parser = try scene.reloader.plugin("parser", file: try scene.compile(source, to: "slow.so"))
        _ = try scene.compile(PluginSource.good(version: "two"), to: "two.so")
        let answer = Answer()
        Thread {
            let text = (try? parser.text(7)) ?? "threw"
            answer.text.withLock { $0 = text }
            answer.isThere.signal()
        }.start()
        _ = read(entered)
        let report = try await load(scene, 1, "two.so")
        #expect(report.state == .applied)
        #expect(report.modules.first?.lingering.map(\.inFlight) == [1])
        #expect(report.modules.first?.lingering.map(\.generation) == [1])
        #expect(try parser.text() == "two")
        try FileHandle(forWritingAtPath: gate)?.close()
        #expect(read(destroyed) == "slow\n")
        await withCheckedContinuation { continuation in
            Thread {
                answer.isThere.wait()
                continuation.resume()
            }.start()
        }
        #expect(answer.text.withLock { $0 } == "slow")
    }

    /// What comes through a pipe until its writer closes it.
    private func read(_ pipe: String) -> String {
        String(decoding: FileHandle(forReadingAtPath: pipe)?.readDataToEndOfFile() ?? Data(), as: UTF8.self)
    }

    private final class Answer: Sendable {
        let text = Mutex("")
        let isThere = DispatchSemaphore(value: 0)
    }

    @Test func aCapOnGenerationsIsRefusedClearly() async throws {
        let scene = try Scene(generationLimit: 0)
        _ = try scene.parser()
        _ = try scene.compile(PluginSource.good(version: "two"), to: "two.so")
        let report = try await load(scene, 1, "two.so")
        #expect(report.code == .pluginTooManyGenerations)
        // Not the bytes' fault: no quarantine.
        #expect(try await load(scene, 2, "two.so").code == .pluginTooManyGenerations)
    }

    @Test func aBadFirstVersionIsThrown() throws {
        let scene = try Scene()
        let file = try scene.compile("int nothing;", to: "nothing.so")
        #expect {
            try scene.reloader.plugin("parser", file: file)
        } throws: { error in
            (error as? ReloadError)?.code == .pluginNoEntry
        }
    }

    @Test func mixedRequestsAreAllOrNothingToo() async throws {
        let scene = try Scene()
        let parser = try scene.parser()
        let rules = try scene.rules()
        let destroyed = scene.folder.appendingPathComponent("destroyed").path
        _ = try scene.compile(PluginSource.good(version: "two", destroyed: destroyed), to: "two.so")
        let report = try await scene.answer(
            to: """
                {"protocol":"reload.request.v1","operation":"apply","modules":[
                {"name":"parser","kind":"plugin","revision":1,"path":"two.so"},
                {"name":"rules","kind":"config","revision":1,"inline":"ZGVwdGg6IC0x"}]}
                """)
        #expect(report.code == .configRefused)
        #expect(try parser.text() == "one")
        // The one that was prepared is not left behind.
        #expect(try String(contentsOfFile: destroyed, encoding: .utf8) == "two\n")
        #expect(rules.slot.current.number == 1)
    }
}
