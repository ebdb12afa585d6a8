import Foundation
import Glibc
import Synchronization
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// What somebody may try who publishes a path, or who may write somewhere below an artifact root. Each is tried with
/// `openat2` and with the walk that takes its place.
@Suite(.timeLimit(.minutes(5))) struct ArtifactAttackTests {
    private let folder: String
    private let root: String
    private let directory: StateDirectory

    init() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)").path
        self.folder = folder
        root = folder + "/root"
        directory = try StateDirectory(path: folder + "/state", artifactLimit: 1 << 20)
        for name in ["root/releases/1", "root/releases/2", "outside"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        try write("good", to: "root/good")
        try write("one", to: "root/releases/1/lib.so")
        try write("two", to: "root/releases/2/lib.so")
        try write("secret", to: "outside/secret")
        try write("secret", to: "outside/lib.so")
    }

    private func write(_ text: String, to name: String, mode: mode_t = 0o644) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)"))
        try #require(unsafe chmod("\(folder)/\(name)", mode) == 0)
    }

    private func link(_ name: String, to target: String) throws {
        try #require(unsafe symlink(target, "\(root)/\(name)") == 0)
    }

    /// The bytes that were staged, as text.
    private func read(_ path: String, openat2: Bool) throws -> String {
        let artifact = try directory.stage(try ArtifactRoots([root], usesOpenat2: openat2).open(path), module: "m")
        #expect(artifact.digest == Digest.of(try artifact.bytes()))
        return String(decoding: try Data(contentsOf: URL(fileURLWithPath: artifact.path)), as: UTF8.self)
    }

    private func code(_ path: String, openat2: Bool) -> ReloadCode? {
        do {
            _ = try read(path, openat2: openat2)
            return nil
        } catch {
            return (error as? ReloadError)?.code
        }
    }

    // MARK: Arbitrary path

    @Test(
        arguments: [
            ("../outside/secret", ReloadCode.artifactOutsideRoots),
            ("releases/../../outside/secret", .artifactOutsideRoots),
            ("ROOT/../outside/secret", .artifactOutsideRoots), ("..", .artifactOutsideRoots),
            ("releases/1/../../../outside/secret", .artifactOutsideRoots),
            ("/etc/passwd", .artifactOutsideRoots), ("/proc/self/exe", .artifactOutsideRoots),
            ("ROOTS/good", .artifactOutsideRoots), ("OUTSIDE/secret", .artifactOutsideRoots),
            ("", .artifactOutsideRoots), ("good\0.so", .artifactOutsideRoots), ("\0", .artifactOutsideRoots),
            // A combining mark makes one character of itself and the slash before it.
            ("releases/\u{301}/../../../outside/secret", .artifactMissing),
            ("at-end", .artifactOutsideRoots), ("in-middle/secret", .artifactOutsideRoots),
            ("absolute-at-end", .artifactOutsideRoots), ("absolute-in-middle/secret", .artifactOutsideRoots),
            ("by-descriptor", .artifactOutsideRoots), ("loop", .artifactOutsideRoots),
            ("loop/good", .artifactOutsideRoots),
            (".", .artifactNotAFile), ("releases", .artifactNotAFile), ("ROOT", .artifactNotAFile),
            ("/", .artifactOutsideRoots),
            ("good/good", .artifactMissing), ("nothing", .artifactMissing),
            (String(repeating: "a/", count: 3000), .artifactMissing),
            (String(repeating: "n", count: 300), .artifactMissing),
            (String(repeating: "x", count: 1 << 20), .artifactMissing),
        ], [true, false])
    func arbitraryPath(attack: (path: String, code: ReloadCode), openat2: Bool) throws {
        try link("at-end", to: "../outside/secret")
        try link("in-middle", to: "../outside")
        try link("absolute-at-end", to: folder + "/outside/secret")
        try link("absolute-in-middle", to: folder + "/outside")
        try link("loop", to: "loop")
        let secret = unsafe open(folder + "/outside/secret", O_RDONLY)
        defer { close(secret) }
        try link("by-descriptor", to: "/proc/self/fd/\(secret)")
        let path = attack.path.replacing("ROOT", with: root).replacing("OUTSIDE", with: folder + "/outside")
        #expect(code(path, openat2: openat2) == attack.code)
    }

    /// With `/proc` below a root its links are magic: they lead to what is open, whatever they say.
    @Test(arguments: [true, false])
    func magicLinksOfProcAreRefused(openat2: Bool) throws {
        let secret = unsafe open(folder + "/outside/secret", O_RDONLY)
        defer { close(secret) }
        let roots = ArtifactRoots(["/proc/self"], usesOpenat2: openat2)
        for path in ["fd/\(secret)", "root/etc/passwd", "cwd/Package.swift", "exe"] {
            #expect(throws: ReloadError.self, "\(path)") {
                do { _ = try roots.open(path) } catch {
                    #expect((error as? ReloadError)?.code == .artifactOutsideRoots, "\(error)")
                    throw error
                }
            }
        }
    }

    /// What is no attack stays possible: names, links that stay inside, relative and absolute, and absolute paths.
    @Test(arguments: [true, false])
    func releaseFoldersWork(openat2: Bool) throws {
        try link("current", to: "releases/2")
        try link("absolute", to: root + "/releases/1")
        try link("releases/1/up", to: "../2/lib.so")
        for (path, text) in [
            ("good", "good"), (root + "/good", "good"), ("./releases//1/lib.so", "one"), ("releases/../good", "good"),
            ("current/lib.so", "two"), ("absolute/lib.so", "one"), ("releases/1/up", "two"),
            (root + "/current/../1/lib.so", "one"), ("absolute/up", "two"),
        ] {
            #expect(try read(path, openat2: openat2) == text, "\(path)")
        }
        // The root itself may be a link, and named by either of its paths.
        let alias = folder + "/alias"
        try #require(unsafe symlink("root", alias) == 0)
        for path in ["good", alias + "/good", root + "/good"] {
            let artifact = try ArtifactRoots([alias], usesOpenat2: openat2).open(path)
            #expect(artifact.size == 4)
        }
    }

    @Test func whatIsMissingInOneRootIsLookedForInTheNext() throws {
        let roots = ArtifactRoots([root, folder + "/outside"])
        #expect(try roots.open("secret").path == folder + "/outside/secret")
        #expect(throws: ReloadError.self) { _ = try roots.open("nowhere") }
    }

    /// A root that is replaced while a request is under way: all its modules are taken from the one it began with.
    @Test(arguments: [true, false])
    func swappedRoot(openat2: Bool) throws {
        let roots = ArtifactRoots([root], usesOpenat2: openat2)
        #expect(try roots.open("releases/1/lib.so").size == 3)
        try #require(unsafe rename(root, root + ".old") == 0 && symlink("outside", root) == 0)
        #expect(try roots.open("releases/2/lib.so").size == 3)
        #expect(throws: ReloadError.self) { _ = try roots.open("secret") }
    }

    // MARK: No regular file

    @Test(arguments: [true, false])
    func pipesDevicesAndSocketsAreRefusedUnopened(openat2: Bool) throws {
        try #require(unsafe mkfifo(root + "/pipe", 0o600) == 0)
        try #require(unsafe mknod(root + "/socket", S_IFSOCK | 0o600, 0) == 0)
        for name in ["pipe", "socket"] { #expect(code(name, openat2: openat2) == .artifactNotAFile, "\(name)") }
        for name in ["zero", "null", "tty"] {
            let devices = ArtifactRoots(["/dev"], usesOpenat2: openat2)
            #expect(throws: ReloadError.self, "\(name)") {
                do { _ = try devices.open(name) } catch {
                    #expect((error as? ReloadError)?.code == .artifactNotAFile, "\(error)")
                    throw error
                }
            }
        }
        #expect(throws: ReloadError.self) { _ = try OpenArtifact(registered: "/dev/zero") }
        #expect(throws: ReloadError.self) { _ = try OpenArtifact(registered: root + "/pipe") }
    }

    /// A writer waits at the pipe until somebody opens it for reading: nobody has.
    @Test(arguments: [true, false])
    func aPipeIsLookedAtWithoutAnyEffect(openat2: Bool) throws {
        try #require(unsafe mkfifo(root + "/pipe", 0o600) == 0)
        #expect(code("pipe", openat2: openat2) == .artifactNotAFile)
        // ENXIO: there is no reader, and a descriptor that were left open would be one.
        #expect(unsafe open(root + "/pipe", O_WRONLY | O_NONBLOCK) == -1 && errno == ENXIO)
    }

    // MARK: Endless data

    @Test func aSparseFileOfATerabyteIsRefusedUnread() throws {
        try write("", to: "root/sparse")
        try #require(unsafe truncate(root + "/sparse", 1 << 40) == 0)
        #expect(code("sparse", openat2: true) == .artifactTooLarge)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/artifacts") == [])
    }

    /// A file of `/proc` says that it has no bytes and has some; what is read counts.
    @Test func aFileThatHidesItsSizeIsReadToItsEndAndNoFurtherThanTheLimit() throws {
        let roots = ArtifactRoots(["/proc/self"])
        #expect(try roots.open("status").size == 0)
        let small = try StateDirectory(path: folder + "/small", artifactLimit: 100)
        #expect {
            _ = try small.stage(try roots.open("status"), module: "m")
        } throws: {
            ($0 as? ReloadError)?.code == .artifactTooLarge
        }
        #expect(try directory.stage(try roots.open("status"), module: "m").size > 100)
        #expect(try FileManager.default.contentsOfDirectory(atPath: small.path + "/artifacts") == [])
    }

    @Test func endlessData() throws {
        try write("x", to: "root/growing")
        let artifact = try ArtifactRoots([root]).open("growing")
        // It was small when it was looked at; the copy ends at the limit.
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: root + "/growing"))
        try output.seekToEnd()
        try output.write(contentsOf: Data(count: 2 << 20))
        #expect {
            _ = try directory.stage(artifact, module: "m")
        } throws: {
            ($0 as? ReloadError)?.code == .artifactTooLarge
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/artifacts") == [])
    }

    // MARK: Swapped between check and use

    private final class Racer: Sendable {
        let isOver = Atomic(false)
        let ended = DispatchSemaphore(value: 0)
    }

    /// Somebody swaps a name in a loop between what may be read and what may not. What is staged is never the latter.
    private func race(_ path: String, openat2: Bool, _ swap: @escaping @Sendable (_ turn: Int) -> Void) throws {
        let racer = Racer()
        Thread {
            var turn = 0
            while !racer.isOver.load(ordering: .relaxed) {
                swap(turn)
                turn += 1
            }
            racer.ended.signal()
        }.start()
        var outcomes: [String: Int] = [:]
        for _ in 0..<10_000 {
            do {
                outcomes[try read(path, openat2: openat2), default: 0] += 1
            } catch {
                outcomes[(error as? ReloadError)?.code.rawValue ?? "\(error)", default: 0] += 1
            }
        }
        racer.isOver.store(true, ordering: .relaxed)
        racer.ended.wait()
        let allowed: Set = ["good", "one", "artifact.outside_roots", "artifact.missing"]
        #expect(Set(outcomes.keys).isSubset(of: allowed), "\(outcomes)")
        // Both sides had their turns: else nothing was tried.
        #expect((outcomes["good"] ?? 0) + (outcomes["one"] ?? 0) > 0, "\(outcomes)")
        #expect(outcomes["artifact.outside_roots"] ?? 0 > 0, "\(outcomes)")
    }

    /// A file, then a link out of the root, in one step each time.
    @Test(arguments: [true, false])
    func swappedBetweenCheckAndUseAtTheEnd(openat2: Bool) throws {
        let root = root
        try race("swapped", openat2: openat2) { turn in
            let next = root + "/.next"
            _ = unsafe turn % 2 == 0 ? symlink("../outside/secret", next) : Glibc.link(root + "/good", next)
            _ = unsafe rename(next, root + "/swapped")
            unsafe unlink(next)
        }
    }

    /// A folder, a link to it, and a link out of the root.
    @Test(arguments: [true, false])
    func swappedBetweenCheckAndUseInTheMiddle(openat2: Bool) throws {
        let root = root
        try race("middle/lib.so", openat2: openat2) { turn in
            let (middle, next) = (root + "/middle", root + "/.next")
            switch turn % 4 {
            case 0, 1:
                _ = unsafe symlink(turn % 4 == 0 ? "../outside" : "releases/1", next)
                _ = unsafe rename(next, middle)
            case 2:
                _ = unsafe (unlink(middle), rename(root + "/releases/1", middle))
            default:
                _ = unsafe (rename(middle, root + "/releases/1"))
            }
        }
    }

    // MARK: Written by others

    @Test(
        arguments: [
            (0o644, nil, true), (0o600, nil, true), (0o755, nil, true), (0o666, nil, false), (0o602, nil, false),
            (0o777, nil, false), (0o1666, nil, false), (0o664, 0o755, false), (0o620, 0o755, false),
            // The group that may put another file there may write this one as well: a checkout with umask 002.
            (0o664, 0o775, true), (0o664, 0o2775, true),
        ] as [(mode_t, mode_t?, Bool)], [true, false])
    func writableByOthers(file: (mode: mode_t, root: mode_t?, isTaken: Bool), openat2: Bool) throws {
        try write("good", to: "root/good", mode: file.mode)
        try #require(unsafe chmod(root, file.root ?? 0o755) == 0)
        #expect(code("good", openat2: openat2) == (file.isTaken ? nil : .artifactUnsafePermissions))
        // The same for a file that the service named itself, in the folder it lies in, also through a link from elsewhere.
        try #require(unsafe symlink("../root/good", folder + "/outside/link") == 0)
        for path in [root + "/good", folder + "/outside/link"] {
            let result = Result { try OpenArtifact(registered: path).size }
            #expect((try? result.get()) == (file.isTaken ? 4 : nil), "\(path)")
        }
    }

    @Test func whatMayBeWrittenByOthersIsNamed() throws {
        try write("good", to: "root/good", mode: 0o666)
        #expect {
            _ = try ArtifactRoots([root]).open("good")
        } throws: { error in
            "\(error)".contains("mode 0666, owner \(geteuid())") && "\(error)".contains("its folder has mode 0755")
        }
    }

    /// The rule itself, for owners that only root can make.
    @Test func wrongOwner() {
        func file(_ owner: uid_t, _ group: gid_t = 1, _ mode: mode_t = 0o644) -> stat {
            var file = stat()
            (file.st_uid, file.st_gid, file.st_mode) = (owner, group, S_IFREG | mode)
            return file
        }
        func isTrusted(_ file: stat, _ folder: stat?) -> Bool { OpenArtifact.isTrusted(file, under: folder, user: 7) }
        let folder = file(8, 1, 0o775)
        #expect([0, 7, 8].allSatisfy { isTrusted(file($0), folder) })
        #expect(!isTrusted(file(9), folder))
        #expect(isTrusted(file(8, 1, 0o664), folder))
        #expect(!isTrusted(file(8, 2, 0o664), folder), "another group than the folder's")
        #expect(!isTrusted(file(8, 1, 0o664), file(8, 1, 0o755)), "the group may not write in the folder")
        #expect(!isTrusted(file(8), nil))
        #expect(isTrusted(file(7), nil))
        #expect(!isTrusted(file(7, 1, 0o664), nil))
    }

    /// The same with real files. A hard link into the root keeps the owner of what it links to.
    @Test(.enabled(if: geteuid() == 0, "only root may give files away"), arguments: [true, false])
    func wrongOwnerAndHardLink(openat2: Bool) throws {
        try write("planted", to: "outside/planted")
        try #require(unsafe chown(folder + "/outside/planted", 65534, 65534) == 0)
        try #require(unsafe Glibc.link(folder + "/outside/planted", root + "/planted") == 0)
        #expect(code("planted", openat2: openat2) == .artifactUnsafePermissions)
        // It is no foreigner where the folder is its owner's.
        try #require(unsafe chown(root, 65534, 65534) == 0)
        #expect(code("planted", openat2: openat2) == nil)
    }

    // MARK: Other bytes

    /// Of what was copied, and of nothing else.
    @Test func digestMismatch() async throws {
        let scene = try Scene()
        let rules = try scene.rules()
        _ = try scene.write("depth: 2", to: "next.yaml")
        let wrong = Digest.of(Array("depth: 3".utf8)).dropFirst(Digest.prefix.count)
        let refused = try await scene.apply("rules", 1, more: #","path":"next.yaml","sha256":"\#(wrong)""#)
        #expect(refused.code == .artifactDigestMismatch)
        #expect(rules.slot.current.number == 1)
        let right = Digest.of(Array("depth: 2".utf8)).dropFirst(Digest.prefix.count)
        #expect(
            try await scene.apply("rules", 2, more: #","path":"next.yaml","sha256":"\#(right)""#).state == .applied)
    }

    /// What becomes of the file after it was copied does not matter: the copy is what is decoded and loaded.
    @Test func whatIsLoadedIsTheCopy() throws {
        let artifact = try directory.stage(try ArtifactRoots([root]).open("good"), module: "m")
        try write("evil", to: "root/good")
        #expect(try artifact.bytes() == Array("good".utf8))
        #expect(try Data(contentsOf: URL(fileURLWithPath: artifact.path)) == Data("good".utf8))
        #expect(artifact.digest == Digest.of(Array("good".utf8)))
    }

    // MARK: Inline

    @Test(
        arguments: [
            (10, 10, nil), (10, 11, .artifactTooLarge), (9, 9, nil), (9, 10, .artifactTooLarge), (11, 11, nil),
            (11, 12, .artifactTooLarge), (12, 12, nil), (12, 15, .artifactTooLarge),
        ] as [(Int, Int, ReloadCode?)])
    func inlineAtItsLimit(limit: Int, count: Int, code: ReloadCode?) async throws {
        let scene = try Scene(artifactLimit: limit)
        _ = try scene.rules()
        // `depth: 2` and blanks.
        let base64 = Data("depth: 2".utf8 + [UInt8](repeating: 0x20, count: count - 8)).base64EncodedString()
        let report = try await scene.apply("rules", 1, more: #","inline":"\#(base64)""#)
        #expect(report.code == code ?? .ok, "\(report.message)")
    }

    /// It is not decoded, or it would be found to be no base64.
    @Test func inlineOverItsLimitIsNotDecoded() async throws {
        let scene = try Scene(artifactLimit: 10)
        _ = try scene.rules()
        let text = String(repeating: "!", count: 400)
        #expect(try await scene.apply("rules", 1, more: #","inline":"\#(text)""#).code == .artifactTooLarge)
    }

    @Test(
        arguments: [
            ("ZGVwdGg6IDI=", nil), (#"\u005aGVwdGg6IDI="#, nil), (#"ZGVwdGg6IDI\u003d"#, nil), ("", .configInvalid),
            ("ZGVwdGg6IDI", .artifactBadInline), ("ZGVwdGg6IDI==", .artifactBadInline),
            ("ZGVwdGg6IDI=A", .artifactBadInline),
            ("ZGVwdGg6IDI=AAAA", .artifactBadInline), (" ZGVwdGg6IDI=", .artifactBadInline),
            (#"ZGVw\nGg6IDI="#, .artifactBadInline),
            ("ZGVwdGg6IDI\u{fe0f}=", .artifactBadInline), ("ZGVwdGg6ID-_", .artifactBadInline),
            (#"ZGVw\u0000Gg6IDI="#, .artifactBadInline),
        ] as [(String, ReloadCode?)])
    func inlineThatIsNoBase64(text: String, code: ReloadCode?) async throws {
        let scene = try Scene()
        _ = try scene.rules()
        let report = try await scene.apply("rules", 1, more: #","inline":"\#(text)""#)
        #expect(report.code == code ?? .ok, "\(report.message)")
        #expect(try await scene.apply("rules", 2).state == .applied)
    }
}
