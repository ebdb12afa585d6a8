import Reloading

struct CrawlRules: Decodable {
    var maxDepth: Int
}

func embed(page: [UInt8]) throws {
    let agent = try ReloadAgent(service: "crawler", broker: "amqp://localhost")
    let rules = try agent.config("crawler.rules", file: "rules.yaml", as: CrawlRules.self)
    let parser = try agent.plugin("crawler.parser", file: "plugins/libParser.so")
    try agent.start()  // the background threads; or hand `agent` to a ServiceGroup

    print(rules.current.maxDepth)  // the version in use, on every read
    print(try parser.call(page).count)  // the plugin in use, from any thread
    agent.stop()
}
