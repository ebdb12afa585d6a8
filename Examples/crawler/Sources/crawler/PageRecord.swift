import FoundationEssentials

/// What the service and every version of `crawler.parser` agree on; README.md says it in words.
struct PageRecord: Decodable {
    /// The only operation: makes the record of one page.
    static let operation: UInt32 = 1

    let url: String
    let title: String
    let parserVersion: String
    /// Absolute URLs.
    let links: [String]

    private enum CodingKeys: String, CodingKey {
        case url
        case title
        case parserVersion = "parser_version"
        case links
    }

    /// The parser's input: the length of the URL as 4 bytes, little endian, the URL, then the HTML up to the end.
    static func input(url: String, html: [UInt8]) -> [UInt8] {
        let url = Array(url.utf8)
        let length = UInt32(truncatingIfNeeded: url.count)
        return (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + url + html
    }

    /// Reads a parser's output, which must be one line: it goes to the file as it is.
    init(output: [UInt8]) throws {
        guard !output.contains(UInt8(ascii: "\n")) else { throw CrawlFailure("the record is more than one line") }
        self = try JSONDecoder().decode(PageRecord.self, from: Data(output))
    }
}
