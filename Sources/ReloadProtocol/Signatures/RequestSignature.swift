internal import FoundationEssentials

/// A publisher's signature on a request: the value of the AMQP header `x-reload-signature`, written
/// `ed25519 <key id> <signature in base64>`.
///
/// Ed25519 (RFC 8032) over ``signedBytes(_:exchange:)``. The key's id is the beginning of the digest of its public half, so
/// that nobody has to give names to keys.
package struct RequestSignature: Sendable, Equatable {
    package static let header = "x-reload-signature"
    private static let algorithm = "ed25519"

    /// 16 hexadecimal digits.
    package var keyID: String
    /// 64 bytes.
    package var bytes: [UInt8]

    /// - Throws: `message.bad_signature` for what is not written as above.
    package init(header text: String) throws(ReloadError) {
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[0] == Self.algorithm, words[1].utf8.count == Self.keyIDLength,
            words[1].utf8.allSatisfy({ Digest.hexDigits.contains($0) }), words[2].utf8.count == 88,
            let signature = Data(base64Encoded: String(words[2])), signature.count == Ed25519.signatureSize
        else {
            throw ReloadError(
                .messageBadSignature, "\(Self.header) is not \"\(Self.algorithm) <key id> <64 bytes in base64>\"")
        }
        keyID = String(words[1])
        bytes = Array(signature)
    }

    init(keyID: String, bytes: [UInt8]) {
        self.keyID = keyID
        self.bytes = bytes
    }

    /// The header's value.
    package var text: String { "\(Self.algorithm) \(keyID) \(Data(bytes).base64EncodedString())" }

    private static let keyIDLength = 16

    /// The id of a public key, given as its 32 bytes.
    package static func keyID(of publicKey: [UInt8]) -> String {
        String(Digest.of(publicKey).dropFirst(Digest.prefix.count).prefix(keyIDLength))
    }

    /// What is signed: a line that says what it is, a line each for the message id, the exchange and the seconds of the AMQP
    /// `timestamp`, and then the body as it is.
    ///
    /// Not the properties that decide nothing here, and not `x-reload-destination`, which only repeats the body's.
    ///
    /// - Throws: `message.bad_signature` when the message has no id or no timestamp, or when the id could pass for more than a
    ///   line.
    package static func signedBytes(_ envelope: Envelope, exchange: String) throws(ReloadError) -> [UInt8] {
        guard let id = envelope.messageID, let timestamp = envelope.timestamp else {
            throw ReloadError(.messageBadSignature, "a signed message has a message_id and a timestamp")
        }
        guard !id.isEmpty, (id + exchange).utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
            throw ReloadError(.messageBadSignature, "the message_id is empty or has control characters")
        }
        return Array("reload.signature.v1\n\(id)\n\(exchange)\n\(timestamp)\n".utf8) + envelope.body
    }
}
