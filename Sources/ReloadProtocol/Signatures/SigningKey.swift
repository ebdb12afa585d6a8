internal import FoundationEssentials
internal import Glibc

/// An Ed25519 key that requests are signed with, kept in a file as `openssl genpkey -algorithm ed25519` writes it (PKCS #8 in
/// PEM).
public struct SigningKey: Sendable {
    private let privateBytes: [UInt8]
    private let publicBytes: [UInt8]

    private init(_ bytes: [UInt8]) throws(ReloadError) {
        privateBytes = bytes
        publicBytes = try Ed25519.publicKey(of: bytes)
    }

    /// Makes a new key, from the kernel's random numbers.
    ///
    /// - Throws: `keys.unusable` where there is no Ed25519.
    public init() throws(ReloadError) {
        try self.init((0..<Ed25519.keySize).map { _ in UInt8.random(in: .min ... .max) })
    }

    /// Reads a key.
    ///
    /// - Throws: `keys.unusable` with what is wrong; also when others than the owner may read the file, and where there is no
    ///   Ed25519.
    public init(file: String) throws(ReloadError) {
        let text: String
        do throws(ProtectedFile.Refusal) {
            text = try ProtectedFile.read(file, isSecret: true)
        } catch {
            throw ReloadError(.keysUnusable, "\(file): \(error.reason)")
        }
        guard let bytes = PEM.bytes(of: text, label: Self.label),
            bytes.count == Self.prefix.count + Ed25519.keySize, bytes.starts(with: Self.prefix)
        else { throw ReloadError(.keysUnusable, "\(file) is no Ed25519 key in PEM (PKCS #8)") }
        try self.init(Array(bytes.suffix(Ed25519.keySize)))
    }

    /// Writes the key to a new file that only its owner may read.
    ///
    /// - Throws: `keys.unusable`, also when the file exists.
    public func write(to file: String) throws(ReloadError) {
        guard let descriptor = FileDescriptor(file, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600) else {
            throw ReloadError(.keysUnusable, "cannot make \(file): \(systemText())")
        }
        let text = PEM.text(Self.prefix + privateBytes, label: Self.label)
        guard descriptor.write(Array(text.utf8)[...]), descriptor.flush() else {
            let reason = systemText()
            unsafe unlink(file)
            throw ReloadError(.keysUnusable, "cannot write \(file): \(reason)")
        }
    }

    /// The id that its signatures bear.
    public var id: String { RequestSignature.keyID(of: publicBytes) }

    /// The public half as a trusted-keys file has it: SubjectPublicKeyInfo in base64, the middle line of what
    /// `openssl pkey -pubout` writes.
    public var publicKey: String {
        Data(Ed25519.publicKeyPrefix + publicBytes).base64EncodedString()
    }

    /// Signs a message that is published to `exchange`: sets its header. Nothing of what is signed may change after that.
    package func sign(_ envelope: inout Envelope, exchange: String) throws(ReloadError) {
        let bytes = try RequestSignature.signedBytes(envelope, exchange: exchange)
        let signature = try Ed25519.signature(for: bytes, by: privateBytes)
        envelope.headers[RequestSignature.header] = .string(RequestSignature(keyID: id, bytes: signature).text)
    }

    private static let label = "PRIVATE KEY"
    /// PKCS #8 (RFC 8410) in front of the key's 32 bytes; there is only one way to write it.
    private static let prefix = Data([
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ])
}

/// RFC 7468.
private enum PEM {
    static func text(_ bytes: Data, label: String) -> String {
        "-----BEGIN \(label)-----\n\(bytes.base64EncodedString())\n-----END \(label)-----\n"
    }

    static func bytes(of text: String, label: String) -> Data? {
        let lines = text.split(whereSeparator: \.isNewline).map { line in
            let start = line.drop(while: \.isWhitespace)
            return start.lastIndex { !$0.isWhitespace }.map { start[...$0] } ?? ""
        }
        guard let begin = lines.firstIndex(of: "-----BEGIN \(label)-----"),
            let end = lines.firstIndex(of: "-----END \(label)-----"), begin < end
        else { return nil }
        return Data(base64Encoded: lines[(begin + 1)..<end].joined())
    }
}
