/// Fetches the pages of one site; used by one worker's thread.
final class PageFetcher {
    private static let timeout = Duration.seconds(10)
    private static let mostRedirects = 5

    private let site: PageAddress
    private var kept: HTTPConnection?

    init(site: PageAddress) {
        self.site = site
    }

    /// The page at `address`, and where it was found in the end.
    ///
    /// - Returns: nil for what is no HTML page of this site: another media type, or a redirect to another host.
    func fetch(_ address: PageAddress, userAgent: String) throws -> (address: PageAddress, html: [UInt8])? {
        var address = address
        for _ in 0...Self.mostRedirects {
            let response = try get(address, userAgent: userAgent)
            switch response.status {
            case 200:
                let type = response["content-type"]?.prefix { $0 != ";" && !$0.isWhitespace }
                return type?.lowercased() == "text/html" ? (address, response.body) : nil
            case 301, 302, 303, 307, 308:
                guard let location = response["location"], let target = address.following(location) else {
                    throw CrawlFailure("\(response.status) without a place to go")
                }
                guard target.isOnSameSite(as: site) else { return nil }
                address = target
            default:
                throw CrawlFailure("the server answered \(response.status)")
            }
        }
        throw CrawlFailure("more than \(Self.mostRedirects) redirects")
    }

    private func get(_ address: PageAddress, userAgent: String) throws -> HTTPResponse {
        let deadline = ContinuousClock.now + Self.timeout
        if let connection = kept {
            kept = nil
            do {
                return try get(address, userAgent: userAgent, over: connection, deadline: deadline)
            } catch let failure as CrawlFailure where failure == HTTPConnection.closed {
                // The server had enough of this connection; a GET may be asked again on a new one.
            }
        }
        let connection = try HTTPConnection(host: site.host, port: site.port, deadline: deadline)
        return try get(address, userAgent: userAgent, over: connection, deadline: deadline)
    }

    private func get(
        _ address: PageAddress, userAgent: String, over connection: HTTPConnection, deadline: ContinuousClock.Instant
    ) throws -> HTTPResponse {
        let request =
            "GET \(address.target) HTTP/1.1\r\nHost: \(address.authority)\r\n"
            + "User-Agent: \(userAgent)\r\nAccept: text/html\r\n\r\n"
        try connection.send(Array(request.utf8), deadline: deadline)
        let response = try HTTPResponse(from: connection, deadline: deadline)
        kept = response.isPersistent ? connection : nil
        return response
    }
}
