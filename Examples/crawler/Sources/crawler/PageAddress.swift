import FoundationEssentials

/// Where a page is: an `http` URL in the one spelling by which pages are told apart, without its fragment.
struct PageAddress: Hashable, Sendable, CustomStringConvertible {
    let host: String
    let port: Int
    /// Path and query, as they stand in a request.
    let target: String

    /// Nil for what is no absolute `http` URL with a host, whose name must be in ASCII (`xn--`…): the tables for other
    /// scripts are not in FoundationEssentials.
    init?(_ text: String) {
        guard let url = URL(string: text), url.scheme?.lowercased() == "http", let host = url.host, !host.isEmpty,
            host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._:%".contains($0)) })
        else { return nil }
        let path = url.path(percentEncoded: true)
        self.host = host.lowercased()
        port = url.port ?? 80
        target = (path.isEmpty ? "/" : path) + (url.query(percentEncoded: true).map { "?\($0)" } ?? "")
    }

    /// Where a redirect from here leads.
    func following(_ location: String) -> PageAddress? {
        URL(string: location, relativeTo: URL(string: description)).flatMap { PageAddress($0.absoluteString) }
    }

    func isOnSameSite(as other: PageAddress) -> Bool {
        host == other.host && port == other.port
    }

    /// Host and port, as they stand in a `Host` header.
    var authority: String {
        (host.contains(":") ? "[\(host)]" : host) + (port == 80 ? "" : ":\(port)")
    }

    var description: String {
        "http://\(authority)\(target)"
    }
}
