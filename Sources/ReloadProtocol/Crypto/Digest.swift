internal import CReloadCrypto

/// SHA-256 of an artifact as the protocol writes it: `sha256:<64 lowercase hexadecimal digits>`.
public enum Digest {
    package static let prefix = "sha256:"
    package static let hexDigits = Set("0123456789abcdef".utf8)

    /// The digest of bytes in memory.
    public static func of(_ bytes: [UInt8]) -> String {
        var digest = DigestAccumulator()
        digest.update(bytes[...])
        return digest.finish()
    }

    /// Throws `state.unusable` where OpenSSL has no SHA-256 for this process. Nothing works without: whatever else is called
    /// then ends the process.
    package static func check() throws(ReloadError) {
        guard creload_crypto_has_sha256() else { throw ReloadError(.stateUnusable, OpenSSL.lacks("SHA-256")) }
    }

    fileprivate static func text(_ digest: [UInt8]) -> String {
        func digit(_ value: UInt8) -> UInt8 { value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10 }
        var text = Array(prefix.utf8)
        text.reserveCapacity(text.count + 2 * digest.count)
        for byte in digest {
            text.append(digit(byte >> 4))
            text.append(digit(byte & 15))
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// A digest that grows chunk by chunk.
@safe package struct DigestAccumulator: ~Copyable {
    private let hash: OpaquePointer

    package init() {
        guard let hash = unsafe creload_crypto_hash_begin() else { Self.fail() }
        unsafe self.hash = hash
    }

    deinit { unsafe creload_crypto_hash_free(hash) }

    package mutating func update(_ bytes: ArraySlice<UInt8>) {
        let isDone = unsafe bytes.withUnsafeBytes { unsafe creload_crypto_hash_add(hash, $0.baseAddress, $0.count) }
        if !isDone { Self.fail() }
    }

    package consuming func finish() -> String {
        var digest = [UInt8](repeating: 0, count: Int(CRELOAD_CRYPTO_DIGEST_SIZE))
        if unsafe !creload_crypto_hash_end(hash, &digest) { Self.fail() }
        return Digest.text(digest)
    }

    private static func fail() -> Never { fatalError(OpenSSL.lacks("SHA-256")) }
}
