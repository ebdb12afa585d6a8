package import ReloadProtocol

/// Where a broker is and who logs in: `amqp://user:password@host:port/vhost`, with TLS `amqps://`.
///
/// What is absent is `guest`, `guest`, `localhost`, 5672 (with TLS 5671) and the virtual host `/`. Parts are percent-decoded; an
/// IPv6 address stands in brackets. A path of only `/` means the virtual host `/` as well.
///
/// An `amqps` URL takes RabbitMQ's query parameters `cacertfile`, `certfile`, `keyfile`, `verify` (`verify_peer`, the default,
/// or `verify_none`), `server_name_indication` and `auth_mechanism` (`plain`, the default, or `external`).
package struct BrokerURL: Sendable, Hashable {
    /// How to speak TLS, always 1.2 or newer.
    package struct TLS: Sendable, Hashable {
        /// CA certificates in PEM form; nil for those of the system (`$SSL_CERT_FILE`, else the distribution's).
        package var caFile: String?
        /// The client's certificate in PEM form, followed by its chain.
        package var certificateFile: String?
        /// The client's key in PEM form, without a passphrase; nil when it is in ``certificateFile``.
        package var keyFile: String?
        /// Name that the broker's certificate has to be for; nil for the host.
        package var serverName: String?
        /// Whether the broker's certificate is checked. Without that anybody on the way can be the broker.
        package var isVerified = true

        /// The system's CAs, and no certificate of its own.
        package init() {}
    }

    /// Name or address of the broker, without brackets.
    package var host: String
    /// TCP port.
    package var port: Int
    /// User name for PLAIN; for EXTERNAL empty unless the URL names it.
    package var user: String
    /// Password for PLAIN; no description of this package shows it.
    package var password: String
    /// Virtual host.
    package var virtualHost: String
    /// nil for `amqp://`.
    package var tls: TLS?
    /// Whether the client certificate says who logs in (SASL EXTERNAL).
    package var isExternal = false

    /// Parses a URL.
    ///
    /// - Throws: ``ReloadError`` with ``ReloadCode/brokerBadURL``. The message names the faulty part, never its text, since
    ///   a misplaced `@` can put the password anywhere.
    package init(_ text: String) throws(ReloadError) {
        let scheme = text.prefix { $0 != ":" }
        let afterScheme = text[scheme.endIndex...]
        guard ["amqp", "amqps"].contains(scheme.lowercased()), afterScheme.hasPrefix("://") else {
            throw refuse("a broker URL begins with amqp:// or amqps://")
        }
        let isTLS = scheme.lowercased() == "amqps"
        var rest = afterScheme.dropFirst(3)
        guard !rest.contains("#") else { throw refuse("a broker URL has no fragment; write # as %23") }
        var query: Substring?
        if let mark = rest.firstIndex(of: "?") {
            guard isTLS else { throw refuse("only amqps:// takes a query; write ? as %3F") }
            query = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
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
        let hasLogin = authority.contains("@")
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
        port = isTLS ? 5671 : 5672
        if let portText, !portText.isEmpty {
            guard portText.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(portText), number > 0
            else {
                throw refuse("the port is not a number from 1 to 65535")
            }
            port = Int(number)
        }
        guard let name = path.percentDecoded else { throw refuse("the virtual host is badly percent-encoded") }
        virtualHost = name.isEmpty ? "/" : name
        if isTLS { tls = TLS() }
        if let query { try take(query) }
        if isExternal, !hasLogin { user = "" }
        for part in [host, user, password, virtualHost] where part.utf8.contains(0) {
            throw refuse("a part holds a NUL character")
        }
    }

    /// Reads the query of an `amqps` URL.
    private mutating func take(_ query: Substring) throws(ReloadError) {
        var tls = TLS()
        var seen: Set<String> = []
        // They are read at each connect.
        let directory = WorkingDirectory()
        for parameter in query.split(separator: "&") {
            let name = String(parameter.prefix { $0 != "=" })
            // An unknown name is not shown: after a misplaced ? it is a part of the password.
            guard Self.parameters.contains(name) else {
                throw refuse(
                    Self.foreignParameters.contains(name)
                        ? "the query parameter \(name) is not supported"
                        : "an unknown query parameter; known are \(Self.parameters.joined(separator: ", "))")
            }
            guard seen.insert(name).inserted else { throw refuse("the query parameter \(name) comes twice") }
            guard let value = parameter.dropFirst(name.count + 1).percentDecoded, !value.isEmpty,
                !value.utf8.contains(0)
            else { throw refuse("the query parameter \(name) is empty or badly percent-encoded") }
            switch (name, value) {
            case ("cacertfile", _): tls.caFile = directory.absolute(value)
            case ("certfile", _): tls.certificateFile = directory.absolute(value)
            case ("keyfile", _): tls.keyFile = directory.absolute(value)
            case ("server_name_indication", _): tls.serverName = value
            case ("verify", "verify_peer"), ("auth_mechanism", "plain"): break
            case ("verify", "verify_none"): tls.isVerified = false
            case ("auth_mechanism", "external"): isExternal = true
            case ("verify", _): throw refuse("verify is neither verify_peer nor verify_none")
            default: throw refuse("auth_mechanism is neither plain nor external")
            }
        }
        guard tls.certificateFile != nil || tls.keyFile == nil else {
            throw refuse("keyfile is there without certfile")
        }
        guard tls.certificateFile != nil || !isExternal else {
            throw refuse("auth_mechanism=external needs a certificate: certfile and keyfile")
        }
        self.tls = tls
    }

    private static let parameters = [
        "cacertfile", "certfile", "keyfile", "verify", "server_name_indication", "auth_mechanism",
    ]
    /// Other clients' (https://www.rabbitmq.com/docs/uri-query-parameters).
    private static let foreignParameters = [
        "depth", "fail_if_no_peer_cert", "password", "heartbeat", "connection_timeout", "channel_max",
    ]
}

private func refuse(_ message: String) -> ReloadError { ReloadError(.brokerBadURL, message, operation: "parse") }

extension BrokerURL {
    /// The user as far as this side knows, for `user_id`.
    package var knownUser: String? { user.isEmpty ? nil : user }

    /// nil with EXTERNAL.
    var passwordToSend: String? { isExternal ? nil : password }
}

extension BrokerURL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The URL without the password and the query.
    package var description: String {
        let isIPv6 = host.contains(":") && host.allSatisfy { $0.isHexDigit || $0 == ":" || $0 == "." }
        let address = isIPv6 ? "[\(host)]" : host.percentEncoded
        let login = user.isEmpty ? "" : user.percentEncoded + "@"
        return "\(tls == nil ? "amqp" : "amqps")://\(login)\(address):\(port)/\(virtualHost.percentEncoded)"
    }

    /// The URL without the password.
    package var debugDescription: String { description }

    /// Without the password, so that `dump` does not show it either.
    package var customMirror: Mirror { Mirror(self, children: ["url": description]) }
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
