/// Where a broker is and who logs in: `amqp://user:password@host:port/vhost`.
///
/// What is absent is `guest`, `guest`, `localhost`, 5672 and the virtual host `/`. Parts are percent-decoded; an IPv6
/// address stands in brackets. A path of only `/` means the virtual host `/` as well.
public struct BrokerURL: Sendable, Hashable {
    /// Name or address of the broker, without brackets.
    public var host: String
    /// TCP port.
    public var port: Int
    /// User name for PLAIN.
    public var user: String
    /// Password for PLAIN; no description of this package shows it.
    public var password: String
    /// Virtual host.
    public var virtualHost: String

    /// Parses a URL.
    ///
    /// - Throws: ``BrokerError`` with ``BrokerError/Code/badURL``. The message names the faulty part, never its text, since
    ///   a misplaced `@` can put the password anywhere.
    public init(_ text: String) throws(BrokerError) {
        func refuse(_ message: String) -> BrokerError { BrokerError(.badURL, message, operation: "parse") }

        let scheme = text.prefix { $0 != ":" }
        let afterScheme = text[scheme.endIndex...]
        if scheme.lowercased() == "amqps" {
            throw refuse("amqps:// (TLS) is not supported yet; use amqp://")
        }
        guard scheme.lowercased() == "amqp", afterScheme.hasPrefix("://") else {
            throw refuse("a broker URL begins with amqp://")
        }
        let rest = afterScheme.dropFirst(3)
        guard !rest.contains("?"), !rest.contains("#") else {
            throw refuse("a broker URL has no query and no fragment; write ? as %3F and # as %23")
        }
        let authorityEnd = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = rest[..<authorityEnd]
        let path = rest[authorityEnd...].dropFirst()
        guard !path.contains("/") else {
            throw refuse("the virtual host holds a slash; write it as %2F")
        }

        var address = authority
        user = "guest"
        password = "guest"
        if let at = authority.lastIndex(of: "@") {
            address = authority[authority.index(after: at)...]
            let login = authority[..<at]
            let colon = login.firstIndex(of: ":") ?? login.endIndex
            guard let name = login[..<colon].percentDecoded, !name.isEmpty else {
                throw refuse("the user name is empty or badly percent-encoded")
            }
            user = name
            if colon < login.endIndex {
                guard let secret = login[login.index(after: colon)...].percentDecoded else {
                    throw refuse("the password is badly percent-encoded")
                }
                password = secret
            }
        }

        var portText: Substring?
        if address.first == "[" {
            guard let bracket = address.firstIndex(of: "]") else {
                throw refuse("the IPv6 address has no closing bracket")
            }
            host = String(address[address.index(after: address.startIndex)..<bracket])
            let after = address[address.index(after: bracket)...]
            guard after.isEmpty || after.first == ":" else { throw refuse("unexpected text after the IPv6 address") }
            portText = after.isEmpty ? nil : after.dropFirst()
        } else {
            let colon = address.firstIndex(of: ":") ?? address.endIndex
            guard let name = address[..<colon].percentDecoded else { throw refuse("the host is badly percent-encoded") }
            host = name
            portText = colon == address.endIndex ? nil : address[address.index(after: colon)...]
        }
        if host.isEmpty { host = "localhost" }
        port = 5672
        if let portText, !portText.isEmpty {
            guard portText.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(portText), number > 0
            else {
                throw refuse("the port is not a number from 1 to 65535")
            }
            port = Int(number)
        }
        guard let name = path.percentDecoded else { throw refuse("the virtual host is badly percent-encoded") }
        virtualHost = name.isEmpty ? "/" : name
        for part in [host, user, password, virtualHost] where part.utf8.contains(0) {
            throw refuse("a part holds a NUL character")
        }
    }
}

extension BrokerURL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The URL without the password.
    public var description: String {
        let address = host.contains(":") ? "[\(host)]" : host
        return "amqp://\(user.percentEncoded)@\(address):\(port)/\(virtualHost.percentEncoded)"
    }

    /// The URL without the password.
    public var debugDescription: String { description }

    /// Without the password, so that `dump` does not show it either.
    public var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}

extension StringProtocol {
    /// The decoded text, or `nil` for an incomplete escape or bytes that are not UTF-8.
    fileprivate var percentDecoded: String? {
        var bytes: [UInt8] = []
        var iterator = utf8.makeIterator()
        while let byte = iterator.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = iterator.next().flatMap({ Character(UnicodeScalar($0)).hexDigitValue }),
                let low = iterator.next().flatMap({ Character(UnicodeScalar($0)).hexDigitValue })
            else { return nil }
            bytes.append(UInt8(high * 16 + low))
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// The text with everything but RFC 3986's unreserved characters escaped.
    fileprivate var percentEncoded: String {
        var text = ""
        for byte in utf8 {
            let scalar = UnicodeScalar(byte)
            if byte < 0x80,
                Character(scalar).isLetter || Character(scalar).isNumber || "-._~".unicodeScalars.contains(scalar)
            {
                text.unicodeScalars.append(scalar)
            } else {
                text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
        return text
    }
}
