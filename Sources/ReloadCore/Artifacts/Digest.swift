internal import Crypto

/// SHA-256 of an artifact as the protocol writes it: `sha256:<64 lowercase hexadecimal digits>`.
package enum Digest {
    package static let prefix = "sha256:"
    static let hexDigits = Set("0123456789abcdef".utf8)

    /// The digest of bytes in memory.
    package static func of(_ bytes: [UInt8]) -> String {
        text(SHA256.hash(data: bytes))
    }

    static func text(_ digest: SHA256.Digest) -> String {
        func digit(_ value: UInt8) -> UInt8 { value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10 }
        var text = Array(prefix.utf8)
        text.reserveCapacity(text.count + 2 * SHA256.Digest.byteCount)
        for byte in digest {
            text.append(digit(byte >> 4))
            text.append(digit(byte & 15))
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// A digest that grows chunk by chunk.
struct DigestAccumulator {
    private var hash = SHA256()

    mutating func update(_ bytes: ArraySlice<UInt8>) {
        unsafe bytes.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    }

    consuming func finish() -> String {
        Digest.text(hash.finalize())
    }
}
