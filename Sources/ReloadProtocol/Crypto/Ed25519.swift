internal import CReloadCrypto

/// Ed25519 (RFC 8032) by OpenSSL, with keys as their 32 bytes and signatures of 64.
///
/// Everything here throws `keys.unusable` where OpenSSL has no Ed25519 for this process.
package enum Ed25519 {
    package static let keySize = Int(CRELOAD_CRYPTO_KEY_SIZE)
    static let signatureSize = Int(CRELOAD_CRYPTO_SIGNATURE_SIZE)
    /// SubjectPublicKeyInfo (RFC 8410) in front of a public key's 32 bytes; there is only one way to write it.
    package static let publicKeyPrefix: [UInt8] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ]

    /// Verifies a signature that is known to be good.
    package static func check() throws(ReloadError) {
        guard creload_crypto_has_ed25519() else { throw unavailable() }
    }

    /// The public half of a private key.
    static func publicKey(of privateKey: [UInt8]) throws(ReloadError) -> [UInt8] {
        precondition(privateKey.count == keySize, "a key of another size")
        var publicKey = [UInt8](repeating: 0, count: keySize)
        guard unsafe creload_crypto_public_key(privateKey, &publicKey) else { throw unavailable() }
        return publicKey
    }

    /// The signature of a private key for a message; there is only one.
    static func signature(for message: [UInt8], by privateKey: [UInt8]) throws(ReloadError) -> [UInt8] {
        precondition(privateKey.count == keySize, "a key of another size")
        var signature = [UInt8](repeating: 0, count: signatureSize)
        guard unsafe creload_crypto_sign(privateKey, message, message.count, &signature) else { throw unavailable() }
        return signature
    }

    /// Whether a signature is one of this public key for this message.
    package static func isValid(
        _ signature: [UInt8], for message: [UInt8], by publicKey: [UInt8]
    ) throws(ReloadError) -> Bool {
        precondition(publicKey.count == keySize, "a key of another size")
        precondition(signature.count == signatureSize, "a signature of another size")
        switch unsafe creload_crypto_verify(publicKey, message, message.count, signature) {
        case .CRELOAD_CRYPTO_GOOD: return true
        case .CRELOAD_CRYPTO_BAD: return false
        case .CRELOAD_CRYPTO_UNKNOWN: throw unavailable()
        }
    }

    private static func unavailable() -> ReloadError { ReloadError(.keysUnusable, OpenSSL.lacks("Ed25519")) }
}
