internal import Foundation

@testable internal import ReloadCore
@testable internal import ReloadProtocol

extension Fuzz {
    /// A signature's header and two messages, each with id, exchange, timestamp and body: nothing is taken as signed that is not,
    /// and no two messages are signed by the same bytes.
    static let signature = Target(name: "signature") { bytes in
        let parts = bytes.parts.map { Array($0) }
        let header = String(decoding: parts[0], as: UTF8.self)
        if let signature = try? RequestSignature(header: header) {
            must((try? RequestSignature(header: signature.text)) == signature, "\(signature.text) is not \(header)")
        }
        guard parts.count > 8 else { return }
        var (one, other) = (envelope(parts[1...]), envelope(parts[5...]))
        let (exchange, otherExchange) = (string(parts[2]), string(parts[6]))
        // By their bytes: equal strings may be written in more than one way.
        let areSame =
            Array(exchange.utf8) == Array(otherExchange.utf8) && one.body == other.body
            && one.timestamp == other.timestamp
            && one.messageID.map { Array($0.utf8) } == other.messageID.map { Array($0.utf8) }
        if let signed = try? RequestSignature.signedBytes(one, exchange: exchange),
            let otherSigned = try? RequestSignature.signedBytes(other, exchange: otherExchange)
        {
            must((signed == otherSigned) == areSame, "one signature is for both")
        }
        one.headers[RequestSignature.header] = .string(header)
        must((try? trusted?.keys.signer(of: one, exchange: exchange)) == nil, "\(header) was never made")
        guard let trusted, (try? trusted.signing.sign(&one, exchange: exchange)) != nil else { return }
        other.headers = one.headers
        let isTaken = (try? trusted.keys.signer(of: other, exchange: otherExchange)) != nil
        must(isTaken == areSame, isTaken ? "another message's signature is taken" : "a good signature is refused")
    }

    private static func string(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private static func envelope(_ parts: ArraySlice<[UInt8]>) -> Envelope {
        let parts = Array(parts)
        var envelope = Envelope(body: parts[3])
        envelope.messageID = string(parts[0])
        envelope.timestamp = UInt64(string(parts[2]))
        return envelope
    }

    private static let trusted: (signing: SigningKey, keys: TrustedKeys)? = {
        guard let key = try? SigningKey() else { return nil }
        let text = "keys: [{key: \(key.publicKey), modules: ['*'], kinds: [config]}]"
        return (try? TrustedKeys(text: text)).map { (key, $0) }
    }()

    /// A file of trusted keys, or a private key when it begins as one. None without keys is taken.
    static let keys = Target(name: "keys") { bytes in
        if bytes.first == UInt8(ascii: "-") {
            Folder.write(bytes, to: Folder.candidate)
            guard let key = try? SigningKey(file: Folder.candidate) else { return }
            must(key.id.utf8.count == 16, key.id)
        } else if let keys = try? TrustedKeys(text: String(decoding: bytes, as: UTF8.self)).keys {
            must(!keys.isEmpty, "no key is enough")
            must(keys.allSatisfy { $0 == $1.id && $0.utf8.count == 16 }, "\(keys.keys)")
        }
    }
}
