/// The answer to one GET request (RFC 9112).
struct HTTPResponse {
    /// The largest page that is taken, in bytes.
    static let limit = 16 << 20

    let status: Int
    let body: [UInt8]
    /// Whether the connection can be used again.
    let isPersistent: Bool
    private let fields: [String: String]

    /// The value of a header field; the name in small letters.
    subscript(field: String) -> String? { fields[field] }

    /// Reads an answer from the connection, over those that only say that the real one follows (1xx).
    init(from connection: HTTPConnection, deadline: ContinuousClock.Instant) throws {
        var status = 100
        var version = ""
        var fields: [String: String] = [:]
        while (100..<200).contains(status) {
            let line = try connection.readLine(deadline: deadline).split(separator: " ", maxSplits: 2)
            guard line.count >= 2, line[0].hasPrefix("HTTP/1."), let number = Int(line[1]) else {
                throw CrawlFailure("the answer is not HTTP/1")
            }
            status = number
            version = String(line[0])
            fields = try Self.readFields(from: connection, deadline: deadline)
        }
        let body: [UInt8]
        var endsWithConnection = false
        if status == 204 || status == 304 {
            body = []
        } else if fields["transfer-encoding"]?.lowercased() == "chunked" {
            body = try Self.readChunks(from: connection, deadline: deadline)
        } else if let length = fields["content-length"] {
            guard let count = Int(length), (0...Self.limit).contains(count) else {
                throw CrawlFailure("the page's length is \(length)")
            }
            body = try connection.read(count, deadline: deadline)
        } else {
            body = try connection.readToEnd(limit: Self.limit, deadline: deadline)
            endsWithConnection = true
        }
        let option = fields["connection"]?.lowercased()
        self.status = status
        self.body = body
        self.fields = fields
        isPersistent = !endsWithConnection && (version == "HTTP/1.1" ? option != "close" : option == "keep-alive")
    }

    private static func readFields(
        from connection: HTTPConnection, deadline: ContinuousClock.Instant
    ) throws -> [String: String] {
        var fields: [String: String] = [:]
        while case let line = try connection.readLine(deadline: deadline), !line.isEmpty {
            guard fields.count < 200 else { throw CrawlFailure("the answer's header is too long") }
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].trimmed)
        }
        return fields
    }

    private static func readChunks(
        from connection: HTTPConnection, deadline: ContinuousClock.Instant
    ) throws -> [UInt8] {
        var body: [UInt8] = []
        while true {
            let size = try connection.readLine(deadline: deadline).prefix { $0 != ";" && !$0.isWhitespace }
            guard let count = Int(size, radix: 16), (0...limit - body.count).contains(count) else {
                throw CrawlFailure("a chunk of the page has the size \(size)")
            }
            if count == 0 { break }
            body += try connection.read(count, deadline: deadline)
            _ = try connection.readLine(deadline: deadline)
        }
        _ = try readFields(from: connection, deadline: deadline)
        return body
    }
}

extension Substring {
    /// Without the blanks and tabs around it.
    fileprivate var trimmed: Substring {
        let isBlank = { (character: Character) in character == " " || character == "\t" }
        let end = lastIndex { !isBlank($0) }.map { index(after: $0) } ?? startIndex
        return self[..<end].drop(while: isBlank)
    }
}
