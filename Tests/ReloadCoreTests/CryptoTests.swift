import Foundation
import Glibc
import Testing

@testable import ReloadCore
@testable import ReloadProtocol

/// OpenSSL, as an agent uses it.
@Suite(.timeLimit(.minutes(5))) struct CryptoTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("Fixtures")

    /// A copy of what is in the repository, which keeps no modes.
    private static func copy(_ name: String, mode: Int) throws -> URL {
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
        try FileManager.default.copyItem(at: folder.appendingPathComponent(name), to: copy)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: copy.path)
        return copy
    }

    /// The bytes of hexadecimal digits.
    private func bytes(_ hex: String) throws -> [UInt8] {
        let digits = Array(hex)
        return try stride(from: 0, to: digits.count, by: 2).map {
            try #require(UInt8(String(digits[$0...($0 + 1)]), radix: 16))
        }
    }

    // MARK: Bit for bit

    /// FIPS 180-2, appendix B, and nothing at all.
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            String(repeating: "a", count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
    ])
    func digests(_ text: String, _ digest: String) {
        let bytes = Array(text.utf8)
        #expect(Digest.of(bytes) == "sha256:" + digest)
        var pieces = DigestAccumulator()
        for start in stride(from: 0, to: bytes.count, by: 1000) {
            pieces.update(bytes[start..<min(start + 1000, bytes.count)])
        }
        #expect(pieces.finish() == "sha256:" + digest)
    }

    /// RFC 8032, 7.1: TEST 1 to 3.
    @Test(arguments: [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            """
            e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2465\
            5141438e7a100b
            """
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            """
            92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb0\
            0d291612bb0c00
            """
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            """
            6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc0\
            27beceea1ec40a
            """
        ),
    ])
    func signatures(_ key: String, _ message: String, _ publicKey: String, _ signature: String) throws {
        let (key, message, publicKey) = (try bytes(key), try bytes(message), try bytes(publicKey))
        let signature = try bytes(signature)
        #expect(try Ed25519.publicKey(of: key) == publicKey)
        #expect(try Ed25519.signature(for: message, by: key) == signature)
        #expect(try Ed25519.isValid(signature, for: message, by: publicKey))
        for index in [0, 31, 32, 63] {
            var changed = signature
            changed[index] ^= 1
            #expect(try !Ed25519.isValid(changed, for: message, by: publicKey))
        }
        #expect(try !Ed25519.isValid(signature, for: message + [0], by: publicKey))
        // No point of the curve: a key like any other, of which no signature is good.
        #expect(try !Ed25519.isValid(signature, for: message, by: [2] + Array(repeating: 0, count: 31)))
    }

    /// The key, the file of trusted keys and the signed requests are those of a build with swift-crypto (BoringSSL); of each
    /// request a line with its body in base64, message id, exchange, timestamp, signature, and the digest of its body.
    @Test func keysAndRequestsOfBefore() throws {
        let secret = try Self.copy("signing-key.pem", mode: 0o600)
        let key = try SigningKey(file: secret.path)
        #expect(key.id == "f03eb5d9a5076bdd")
        let again = secret.path + ".again"
        try key.write(to: again)
        #expect(FileManager.default.contentsEqual(atPath: secret.path, andPath: again))

        let file = try Self.copy("trusted-keys.yaml", mode: 0o644)
        #expect(try String(contentsOf: file, encoding: .utf8).contains(" \(key.publicKey)\n"))
        let keys = try TrustedKeysFile(path: file.path).current()
        let list = Self.folder.appendingPathComponent("signed-requests.tsv")
        let requests = try String(contentsOf: list, encoding: .utf8).split(separator: "\n")
        #expect(requests.count == 4)
        for line in requests {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            try #require(fields.count == 6)
            let (exchange, signature) = (fields[2], Envelope.HeaderValue.string(fields[4]))
            var envelope = Envelope(body: Array(try #require(Data(base64Encoded: fields[0]))))
            envelope.messageID = fields[1]
            envelope.timestamp = UInt64(fields[3])
            #expect(Digest.of(envelope.body) == fields[5])
            envelope.headers[RequestSignature.header] = signature
            #expect(try keys.signer(of: envelope, exchange: exchange).id == key.id)
            envelope.headers = [:]
            try key.sign(&envelope, exchange: exchange)
            #expect(envelope.headers == [RequestSignature.header: signature])
        }
    }

    // MARK: The end of a process

    /// OpenSSL would clean up at exit(), under the feet of threads that hash, verify or speak TLS.
    @Test func aProcessThatEndsWhileItsThreadsUseOpenSSL() async throws {
        func end(_ arguments: String...) async throws -> String {
            let process = Process()
            process.executableURL = program("crypto-exit")
            process.arguments = arguments
            process.environment = ProcessInfo.processInfo.environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }
            try await withCheckedThrowingContinuation { continuation in
                process.terminationHandler = { _ in continuation.resume() }
                do { try process.run() } catch { continuation.resume(throwing: error) }
            }
            return process.terminationReason == .exit ? "exit \(process.terminationStatus)" : "signal"
        }
        var ends: [String: Int] = [:]
        for _ in 0..<200 { ends[try await end("hst"), default: 0] += 1 }
        #expect(ends == ["exit 0": 200])
        // With the cleanup: so many runs show that there is none.
        var runs = 1
        while try await end("hst", "cleanup") != "signal" {
            runs += 1
            try #require(runs <= 200, "the cleanup did no harm")
        }
    }

    // MARK: Where OpenSSL has less

    /// Configurations in which there is nothing: a provider that has nothing, one that only reads and writes keys, one that
    /// cannot be loaded, and a FIPS mode without a FIPS provider.
    private static let configurations = [
        "providers = all\n[all]\nnull = one\n[one]\nactivate = 1\n",
        "providers = all\n[all]\nbase = one\n[one]\nactivate = 1\n",
        "providers = all\n[all]\nnosuch = one\n[one]\nactivate = 1\n",
        "alg_section = all\n[all]\ndefault_properties = fips=yes\n",
    ]

    private static func codeAndMessage(_ body: () throws -> Void) -> (ReloadCode?, String) {
        do {
            try body()
            return (nil, "it is good")
        } catch {
            return ((error as? ReloadError)?.code, "\(error)")
        }
    }

    @Test(arguments: configurations) func withoutSHA256AndEd25519(_ configuration: String) async throws {
        await #expect(processExitsWith: .success) { [configuration] in
            let file = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)").path
            try "openssl_conf = start\n[start]\n\(configuration)".write(toFile: file, atomically: true, encoding: .utf8)
            unsafe setenv("OPENSSL_CONF", file, 1)
            let keys = try Self.copy("trusted-keys.yaml", mode: 0o644).path
            let secret = try Self.copy("signing-key.pem", mode: 0o600).path
            for (body, code, algorithm) in [
                ({ try Digest.check() }, .stateUnusable, "SHA-256"),
                ({ _ = try TrustedKeysFile(path: keys) }, .keysUnusable, "Ed25519"),
                ({ _ = try SigningKey(file: secret) }, .keysUnusable, "Ed25519"),
                ({ _ = try SigningKey() }, .keysUnusable, "Ed25519"),
            ] as [(() throws -> Void, ReloadCode, String)] {
                let (found, message) = Self.codeAndMessage(body)
                #expect(found == code)
                #expect(message.contains("has no \(algorithm) for this process (unsupported)"), "\(message)")
                #expect(message.contains("$OPENSSL_CONF"))
            }
        }
    }

    /// As in a FIPS mode that does not approve of Ed25519, which is turned on here after SHA-256 was found.
    @Test func withoutEd25519Alone() async throws {
        await #expect(processExitsWith: .success) {
            let key = try SigningKey()
            let keys = try TrustedKeys(text: "keys: [{key: \(key.publicKey), modules: ['*'], kinds: [config]}]")
            var message = Envelope(body: Array("{}".utf8))
            (message.messageID, message.timestamp) = ("id", 1)
            try key.sign(&message, exchange: "reload.control")
            let queue = try ErrorQueue()
            try queue.turnOnFIPS()
            try Digest.check()
            #expect(Digest.of([]).hasPrefix("sha256:e3b0"))
            let file = try Self.copy("trusted-keys.yaml", mode: 0o644).path
            for body in [
                { try Ed25519.check() }, { _ = try TrustedKeysFile(path: file) },
                { _ = try keys.signer(of: message, exchange: "reload.control") },
                { [message] in
                    var message = message
                    try key.sign(&message, exchange: "reload.control")
                },
            ] as [() throws -> Void] {
                #expect(Self.codeAndMessage(body).0 == .keysUnusable)
                #expect(queue.newest == 0)
            }
            // What is another one's stays.
            let theirs = queue.fail()
            #expect(throws: ReloadError.self) { try Ed25519.check() }
            #expect(theirs != 0 && queue.newest == theirs)
        }
    }

    /// The errors of this thread that OpenSSL keeps, where TLS would take them for its own.
    @safe private struct ErrorQueue {
        private let peek: @convention(c) () -> CUnsignedLong
        private let setProperties: @convention(c) (OpaquePointer?, UnsafePointer<CChar>) -> CInt
        private let open: @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>) -> OpaquePointer?

        init() throws {
            peek = unsafe unsafeBitCast(try Self.function("ERR_peek_last_error"), to: type(of: peek))
            unsafe setProperties = unsafeBitCast(
                try Self.function("EVP_set_default_properties"), to: type(of: setProperties))
            unsafe open = unsafeBitCast(try Self.function("BIO_new_file"), to: type(of: open))
        }

        private static func function(_ name: String) throws -> UnsafeMutableRawPointer {
            unsafe try #require(dlsym(nil, name))
        }

        var newest: CUnsignedLong { peek() }

        func turnOnFIPS() throws { try #require(unsafe setProperties(nil, "fips=yes") == 1) }

        /// Leaves an error, and returns it.
        func fail() -> CUnsignedLong {
            _ = unsafe open("/nowhere/at/all", "r")
            return newest
        }
    }
}
