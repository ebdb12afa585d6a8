/// The module `crawler.rules`: how to crawl.
struct CrawlRules: Decodable, Sendable {
    /// The most links between the first page and another; 0 crawls the first page alone.
    let maxDepth: Int
    /// How long each worker waits between two requests, in milliseconds.
    let delayMS: Int
    /// What the crawler calls itself in its requests.
    let userAgent: String

    private enum CodingKeys: String, CodingKey {
        case maxDepth = "max_depth"
        case delayMS = "delay_ms"
        case userAgent = "user_agent"
    }

    init(from decoder: any Decoder) throws {
        let keys = try decoder.container(keyedBy: CodingKeys.self)
        maxDepth = try keys.decode(Int.self, forKey: .maxDepth)
        delayMS = try keys.decode(Int.self, forKey: .delayMS)
        userAgent = try keys.decodeIfPresent(String.self, forKey: .userAgent) ?? "reload-crawler/1.0"
    }

    /// Refuses rules that can be read but not followed.
    func validate() throws {
        guard (0...1000).contains(maxDepth) else { throw CrawlFailure("max_depth is \(maxDepth), not 0 to 1000") }
        guard (0...60_000).contains(delayMS) else { throw CrawlFailure("delay_ms is \(delayMS), not 0 to 60000") }
        guard !userAgent.isEmpty, userAgent.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            throw CrawlFailure("user_agent is not one line of ASCII text")
        }
    }
}
