/// The pages still to be visited. Hands each out once, nearest to the first page first, and starts over when all are done.
final class Frontier: @unchecked Sendable {  // all state is touched only while `condition` is locked
    struct Visit {
        let address: PageAddress
        let depth: Int
    }

    private let site: PageAddress
    private let condition = Condition()
    private var queue: [Visit]
    private var next = 0
    private var seen: Set<PageAddress>
    private var inFlight = 0
    private var isClosed = false

    init(site: PageAddress) {
        self.site = site
        queue = [Visit(address: site, depth: 0)]
        seen = [site]
    }

    /// The next page no deeper than `maxDepth`, or nil once the frontier is closed. Waits while the only pages left are
    /// being visited, because those may have links. Each visit is ended by ``finish(_:links:)``.
    func take(maxDepth: Int) -> Visit? {
        condition.lock()
        defer { condition.unlock() }
        while !isClosed {
            while next < queue.count {
                let visit = queue[next]
                next += 1
                if visit.depth <= maxDepth {
                    inFlight += 1
                    return visit
                }
            }
            if inFlight == 0 { startOver() } else { condition.wait() }
        }
        return nil
    }

    /// Ends a visit and adds the links of the page that are new and on the same site.
    func finish(_ visit: Visit, links: [PageAddress]) {
        condition.lock()
        inFlight -= 1
        for link in links where link.isOnSameSite(as: site) && seen.insert(link).inserted {
            queue.append(Visit(address: link, depth: visit.depth + 1))
        }
        condition.broadcast()
        condition.unlock()
    }

    /// Notes that a redirect led to `address`; false when that page has its own visit.
    func claim(_ address: PageAddress) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        return seen.insert(address).inserted
    }

    /// Makes ``take(maxDepth:)`` return nil, at once and from now on.
    func close() {
        condition.lock()
        isClosed = true
        condition.broadcast()
        condition.unlock()
    }

    private func startOver() {
        queue = [Visit(address: site, depth: 0)]
        next = 0
        seen = [site]
    }
}
