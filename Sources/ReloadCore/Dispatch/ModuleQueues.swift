/// Which job may run: one line for each module, in the order of arrival. A job that names several modules stands in each of
/// their lines and runs when it is the first in all of them. Lines cannot block one another for ever, because every line
/// has the same order.
///
/// A job waits, is started (somebody is about to run it, and it may still be changed), and has begun. A value without
/// threads or locks; the owner runs what is started.
struct ModuleQueues<Job> {
    private struct Entry {
        var job: Job
        let modules: [String]
        var isStarted = false
        var hasBegun = false
    }

    private var lines: [String: [UInt64]] = [:]
    private var entries: [UInt64: Entry] = [:]
    private var nextID: UInt64 = 0

    /// Jobs that run or wait.
    var count: Int { entries.count }

    /// Names of the modules that have a line.
    var modules: [String] { Array(lines.keys) }

    /// Adds a job at the end of its lines; returns its id.
    @discardableResult
    mutating func enqueue(_ job: Job, modules: [String]) -> UInt64 {
        nextID += 1
        let modules = Array(Set(modules))
        entries[nextID] = Entry(job: job, modules: modules)
        for module in modules { lines[module, default: []].append(nextID) }
        return nextID
    }

    /// Ids of the jobs in the lines of these modules that have not begun, the oldest first; of a long line only its end.
    func waiting(in modules: [String]) -> [UInt64] {
        let ends = modules.map { lines[$0]?.suffix(100) ?? [] }
        let ids = ends.count == 1 ? Array(ends[0]) : Set(ends.joined()).sorted()
        return ids.filter { entries[$0]?.hasBegun == false }
    }

    /// Changes a job in its place.
    mutating func update<Result>(_ id: UInt64, _ body: (inout Job) -> Result) -> Result? {
        guard let place = entries.index(forKey: id) else { return nil }
        return body(&entries.values[place].job)
    }

    /// A job that has not ended.
    subscript(id: UInt64) -> Job? { entries[id]?.job }

    /// Whether a job stands in the lines of just these modules, and is the last in each.
    func isLast(_ id: UInt64, in modules: [String]) -> Bool {
        guard let entry = entries[id], Set(entry.modules) == Set(modules) else { return false }
        return entry.modules.allSatisfy { lines[$0]?.last == id }
    }

    /// Starts what may run in the lines of these modules; each id is returned once.
    mutating func start(in modules: [String]) -> [UInt64] {
        var started: [UInt64] = []
        for module in modules {
            guard let id = lines[module]?.first, let entry = entries[id], !entry.isStarted,
                entry.modules.allSatisfy({ lines[$0]?.first == id })
            else { continue }
            entries[id]?.isStarted = true
            started.append(id)
        }
        return started
    }

    /// From now on the job does not change. nil when it was removed meanwhile.
    mutating func begin(_ id: UInt64) -> Job? {
        entries[id]?.hasBegun = true
        return entries[id]?.job
    }

    /// Takes a job out of its lines: it has ended, or another took its place.
    mutating func remove(_ id: UInt64) {
        guard let entry = entries.removeValue(forKey: id) else { return }
        for module in entry.modules {
            // Mostly it is the first.
            if let index = lines[module]?.firstIndex(of: id) { lines[module]?.remove(at: index) }
            if lines[module]?.isEmpty == true { lines[module] = nil }
        }
    }
}
