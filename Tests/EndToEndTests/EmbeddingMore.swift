import Reloading

func crawl(_ page: [UInt8], _ agent: ReloadAgent, _ rules: Config<CrawlRules>, _ parser: PluginHandle) async throws {
    let isDeep = rules.withCurrent { $0.maxDepth > 3 }  // nothing is copied, however large the value is

    var records: [UInt8] = []
    try parser.call(page.span, into: &records)  // appends to an array that can be used again

    let parser = parser.pinned  // one version for several calls, also over suspensions
    await Task.yield()
    records += try parser.call(page)

    try await agent.snapshot {  // every module at one generation, in all that the task calls
        await Task.yield()
        records += try parser.call(page)
    }
    print(isDeep, records.count)
}
