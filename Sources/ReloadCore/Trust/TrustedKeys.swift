internal import FoundationEssentials
internal import Glibc
package import ReloadProtocol
internal import Synchronization

/// The public keys whose requests an agent carries out, and what each of them may change.
package struct TrustedKeys: Sendable {
    /// One of them.
    struct Key: Sendable {
        /// 16 hexadecimal digits.
        let id: String
        /// For people.
        let name: String?
        /// Globs over module names.
        let modules: [String]
        let kinds: Set<ModuleKind>
        /// 32 bytes.
        fileprivate let key: [UInt8]

        func mayChange(_ module: String, _ kind: ModuleKind) -> Bool {
            kinds.contains(kind) && modules.contains { Glob.matches($0, module) }
        }
    }

    /// By id.
    let keys: [String: Key]

    /// Reads the text of a trusted-keys file, in YAML or JSON:
    ///
    /// ```yaml
    /// keys:
    ///   - key: MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
    ///     name: releases          # for people, may be absent
    ///     modules: ["crawler.*"]
    ///     kinds: [plugin, config]
    /// ```
    ///
    /// - Throws: `keys.unusable` for anything that is not like that, unknown words included: a word with a mistake in it must
    ///   not widen what a key may do. Also for no keys.
    package init(text: String) throws(ReloadError) {
        let file = try YAML.decode(File.self, from: Array(text.utf8), orThrow: .keysUnusable).value
        guard !file.keys.isEmpty else { throw ReloadError(.keysUnusable, "it lists no key") }
        var keys: [String: Key] = [:]
        for entry in file.keys {
            guard keys.updateValue(entry.key, forKey: entry.key.id) == nil else {
                throw ReloadError(.keysUnusable, "the key \(entry.key.id) is there twice")
            }
        }
        self.keys = keys
    }

    /// Who signed, if that is one of these keys and the signature is its own.
    ///
    /// - Throws: `message.unsigned`, `message.unknown_key`, `message.bad_signature`; `keys.unusable` where there is no Ed25519.
    func signer(of envelope: Envelope, exchange: String) throws(ReloadError) -> Key {
        guard let header = envelope.headers[RequestSignature.header] else {
            throw ReloadError(
                .messageUnsigned, "it has no \(RequestSignature.header), and only signed requests are taken")
        }
        guard case .string(let text) = header else {
            throw ReloadError(.messageBadSignature, "\(RequestSignature.header) is no string")
        }
        let signature = try RequestSignature(header: text)
        guard let key = keys[signature.keyID] else {
            throw ReloadError(.messageUnknownKey, "the key \(signature.keyID) is not trusted here")
        }
        let bytes = try RequestSignature.signedBytes(envelope, exchange: exchange)
        guard try Ed25519.isValid(signature.bytes, for: bytes, by: key.key) else {
            throw ReloadError(
                .messageBadSignature,
                "the signature of key \(key.id) is not one for this message to exchange \(exchange)")
        }
        return key
    }

    private struct File: Decodable {
        let keys: [Entry]

        init(from decoder: any Decoder) throws {
            let container = try decoder.strictContainer(["keys"])
            keys = try container.decode([Entry].self, forKey: Word("keys"))
        }
    }

    private struct Entry: Decodable {
        let key: Key

        init(from decoder: any Decoder) throws {
            let container = try decoder.strictContainer(["key", "name", "modules", "kinds"])
            let text = try container.decode(String.self, forKey: Word("key"))
            guard let bytes = Data(base64Encoded: text), bytes.count == Ed25519.publicKeyPrefix.count + Ed25519.keySize,
                bytes.starts(with: Ed25519.publicKeyPrefix)
            else {
                throw DecodingError.dataCorruptedError(
                    forKey: Word("key"), in: container,
                    debugDescription: "not an Ed25519 public key in base64 (the middle line of its PEM)")
            }
            let key = Array(bytes.suffix(Ed25519.keySize))
            let kinds = try container.decode([ModuleKind].self, forKey: Word("kinds"))
            self.key = Key(
                id: RequestSignature.keyID(of: key),
                name: try container.decodeIfPresent(String.self, forKey: Word("name")),
                modules: try container.decode([String].self, forKey: Word("modules")), kinds: Set(kinds), key: key)
        }
    }
}

/// The trusted keys of a file, read again when the file has changed: a new key is good and an old one is not from the next
/// request on, without a restart.
package final class TrustedKeysFile: Sendable {
    private struct State {
        /// What was good last.
        var keys: TrustedKeys
        /// What the file was like when it was read last; nil when it was not there.
        var stamp: Stamp?
        /// Since when it is not good, and why.
        var problem: (since: ContinuousClock.Instant, error: ReloadError)?
    }

    /// What changes when somebody writes a file or puts another one in its place.
    private struct Stamp: Equatable {
        var device, inode: UInt64
        var size: Int
        var seconds, nanoseconds: Int
        var changedSeconds, changedNanoseconds: Int

        /// nil when there is no such file.
        init?(_ path: String) {
            var file = stat()
            guard unsafe stat(path, &file) == 0 else { return nil }
            (device, inode, size) = (UInt64(file.st_dev), UInt64(file.st_ino), Int(file.st_size))
            (seconds, nanoseconds) = (file.st_mtim.tv_sec, file.st_mtim.tv_nsec)
            (changedSeconds, changedNanoseconds) = (file.st_ctim.tv_sec, file.st_ctim.tv_nsec)
        }
    }

    private let path: String
    private let patience: Duration
    private let state: Mutex<State>

    /// Reads the file.
    ///
    /// - Parameter patience: for how long the keys from before count when the file is not good: somebody may be writing it.
    /// - Throws: `keys.unusable`, also for a file that others than its owner may write, and where there is no Ed25519: then every
    ///   request would be refused.
    package init(path: String, patience: Duration = .seconds(10)) throws(ReloadError) {
        try Ed25519.check()
        let path = WorkingDirectory().absolute(path)
        self.path = path
        self.patience = patience
        // The stamp first: what changes after it is seen the next time.
        let stamp = Stamp(path)
        state = Mutex(State(keys: try Self.read(path), stamp: stamp))
    }

    /// The keys as they are in the file now.
    ///
    /// - Throws: `keys.unusable` when the file is not good any more: then nothing is taken.
    func current() throws(ReloadError) -> TrustedKeys {
        let stamp = Stamp(path)
        return try state.withLock { state throws(ReloadError) in
            if state.stamp != stamp || stamp == nil {
                state.stamp = stamp
                do throws(ReloadError) {
                    state.keys = try Self.read(path)
                    state.problem = nil
                } catch {
                    state.problem = (state.problem?.since ?? .now, error)
                }
            }
            if let problem = state.problem, problem.since.duration(to: .now) >= patience { throw problem.error }
            return state.keys
        }
    }

    private static func read(_ path: String) throws(ReloadError) -> TrustedKeys {
        do {
            return try TrustedKeys(text: try ProtectedFile.read(path, isSecret: false))
        } catch let error as ReloadError {
            throw ReloadError(.keysUnusable, "\(path): \(error.message)", underlying: error)
        } catch {
            throw ReloadError(.keysUnusable, "\(path): \((error as? ProtectedFile.Refusal)?.reason ?? "\(error)")")
        }
    }
}

extension Decoder {
    /// A mapping that has no other keys than these.
    fileprivate func strictContainer(_ known: Set<String>) throws -> KeyedDecodingContainer<Word> {
        let container = try container(keyedBy: Word.self)
        if let other = container.allKeys.first(where: { !known.contains($0.stringValue) }) {
            throw DecodingError.dataCorruptedError(
                forKey: other, in: container,
                debugDescription: "unknown; known are \(known.sorted().joined(separator: ", "))")
        }
        return container
    }
}
