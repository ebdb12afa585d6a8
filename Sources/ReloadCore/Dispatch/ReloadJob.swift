internal import FoundationEssentials
internal import ReloadProtocol
internal import Synchronization

/// What is owed for one message: an answer, its place in the ledger, and the broker's acknowledgement.
struct Ticket: Sendable {
    /// `message_id`; the article's message has none.
    var id: String?
    /// A message that nobody is known to have signed does not keep another one with its id from being carried out.
    var isRemembered = true
    /// Queue that wants a copy of the answer.
    var replyTo: String?
    var correlationID: String?
    /// nil when it did not come from a stream.
    var place: StreamPosition.Place?
    var acknowledge: @Sendable () -> Void

    /// The id that no other request is carried out under.
    var rememberedID: String? { isRemembered ? id : nil }
}

/// A request on its way, and the older ones that it takes the place of.
struct ReloadJob: Sendable {
    var request: Request
    var ticket: Ticket
    /// Number of its arrival in this process.
    let arrival: UInt64
    /// Older requests that are tried if this one does not work, the newest first: instances that were there when they came
    /// have applied them.
    var folded: [ReloadJob] = []
    /// Older requests that are answered with this one and never tried.
    var superseded: [Ticket] = []
    /// How often another one was folded into it, and when for the last time.
    var foldCount = 0
    var foldedAt: ContinuousClock.Instant?
    /// Counts the bytes of the requests that wait.
    private let weight: Weight

    init(request: Request, ticket: Ticket, arrival: UInt64, bytes: Int, of total: Weight.Total) {
        self.request = request
        self.ticket = ticket
        self.arrival = arrival
        weight = Weight(bytes, of: total)
    }

    var moduleNames: [String] { request.modules.map(\.name) }

    /// The newest revision it or what was folded into it brings for a module.
    private func highestRevision(of module: String) -> Int64 {
        ([self] + folded).compactMap { job in job.request.modules.first { $0.name == module }?.revision }.max() ?? -1
    }

    /// Whether it brings something newer for every module of a request that has not begun.
    func supersedes(_ other: ReloadJob) -> Bool {
        let operations: Set<Request.Operation> = [.apply, .rollback]
        guard operations.contains(request.operation), operations.contains(other.request.operation) else { return false }
        let isLater = arrival > other.arrival
        return other.request.modules.allSatisfy { theirs in
            guard let mine = request.modules.first(where: { $0.name == theirs.name }) else { return false }
            if request.operation == .rollback { return isLater }
            guard let revision = mine.revision else { return isLater }
            if other.request.operation == .rollback {
                return isLater && revision > other.highestRevision(of: theirs.name)
            }
            return theirs.revision.map { revision > $0 } ?? isLater
        }
    }

    /// Takes the place of an older request, which is left without anything.
    ///
    /// - Parameter keep: how many requests for each module keep their bodies; of the others only the answer is owed.
    mutating func take(_ older: inout ReloadJob, keep: Int) {
        // Whichever list is long is moved, not copied.
        if superseded.count < older.superseded.count { swap(&superseded, &older.superseded) }
        superseded += older.superseded
        foldCount += older.foldCount + 1
        foldedAt = .now
        let olderFolded = older.folded
        older.superseded = []
        older.folded = []
        // Counted once: in both it would double with each request that fails, and overflow.
        older.foldCount = 0
        folded = (folded + [older] + olderFolded).sorted { $0.arrival > $1.arrival }
        let surplus = folded.count - keep * request.modules.count
        guard surplus > 0 else { return }
        superseded += folded.suffix(surplus).map(\.ticket)
        folded.removeLast(surplus)
    }

    /// The tickets of everything it took the place of.
    var olderTickets: [Ticket] { superseded + folded.map(\.ticket) }

    // MARK: Rollback

    /// The revision a rollback leads to, as if this instance had not missed what the rollback took the place of: applied
    /// one after the other, each version is one that could be gone back to.
    ///
    /// - Parameters:
    ///   - running: the revision that runs here.
    ///   - proven: the revisions that were proven here.
    /// - Returns: nil when there is none to go back to.
    func rollbackTarget(of module: String, from running: Int64, proven: [Int64]) -> Int64? {
        var known = Set(proven)
        var current = running
        for job in folded.reversed() + [self] {
            guard let wanted = job.request.modules.first(where: { $0.name == module }) else { continue }
            if job.request.operation == .apply {
                guard let revision = wanted.revision, revision > current else { continue }
                known.insert(revision)
                current = revision
            } else {
                let target =
                    wanted.revision.map { known.contains($0) ? $0 : nil } ?? known.filter { $0 < current }.max()
                if job.arrival == arrival { return target }
                current = target ?? current
            }
        }
        return nil
    }

    /// A request that was missed, for this revision of a module.
    func missed(_ revision: Int64, of module: String) -> Request.Module? {
        folded.lazy.filter { $0.request.operation == .apply }
            .compactMap { job in job.request.modules.first { $0.name == module && $0.revision == revision } }.first
    }

    /// The same without the missed requests for these versions, which are no good here; of them only the answer is owed.
    /// nil when there are none.
    func without(_ versions: [String: Int64]) -> ReloadJob? {
        let isBad = { (job: ReloadJob) in
            job.request.operation == .apply
                && job.request.modules.contains { $0.revision != nil && versions[$0.name] == $0.revision }
        }
        guard folded.contains(where: isBad) else { return nil }
        var job = self
        job.superseded += folded.filter(isBad).map(\.ticket)
        job.folded.removeAll(where: isBad)
        return job
    }
}

/// Counts as long as it lives: bytes, or one.
final class Weight: Sendable {
    /// The sum of all that live.
    final class Total: Sendable {
        fileprivate let atomic = Atomic<Int>(0)
        var sum: Int { atomic.load(ordering: .relaxed) }
    }

    private let amount: Int
    private let total: Total

    init(_ amount: Int, of total: Total) {
        self.amount = amount
        self.total = total
        total.atomic.add(amount, ordering: .relaxed)
    }

    deinit { total.atomic.subtract(amount, ordering: .relaxed) }
}

extension ModuleQueues<ReloadJob> {
    /// Adds a job, or joins it with one that has not begun: of two for the same modules only the newer one is loaded.
    ///
    /// - Returns: the id of the job that holds it now, and the tickets that are to be answered because that job holds
    ///   `limit` of them.
    mutating func fold(_ job: ReloadJob, keep: Int, limit: Int) -> (id: UInt64, overflow: [Ticket]) {
        var job = job
        let names = job.moduleNames
        let waiting = waiting(in: names)
        for id in waiting where self[id]?.supersedes(job) == true {
            update(id) { $0.take(&job, keep: keep) }
            return (id, overflow(of: id, limit))
        }
        var place: UInt64?
        for id in waiting where self[id].map({ job.supersedes($0) }) == true {
            update(id) { job.take(&$0, keep: keep) }
            if isLast(id, in: names) { place = id } else { remove(id) }
        }
        if let place {
            update(place) { swap(&$0, &job) }
            return (place, overflow(of: place, limit))
        }
        return (enqueue(job, modules: names), [])
    }

    private mutating func overflow(of id: UInt64, _ limit: Int) -> [Ticket] {
        update(id) { job in
            guard job.superseded.count >= limit else { return [] }
            defer { job.superseded = [] }
            return job.superseded
        } ?? []
    }
}
