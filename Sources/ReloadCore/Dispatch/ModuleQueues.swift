/// Which job may run: one line for each module, in the order of arrival. A job that names several modules stands in each of
/// their lines and runs when it is the first in all of them. Lines cannot block one another for ever, because every line
/// has the same order.
///
/// A value without threads or locks; the owner runs what is returned.
struct ModuleQueues<Job> {
    private struct Entry {
        var job: Job
        var modules: [String]
    }

    private var lines: [String: [UInt64]] = [:]
    private var entries: [UInt64: Entry] = [:]
    private var nextID: UInt64 = 0

    /// Jobs that run or wait.
    var count: Int { entries.count }

    /// Adds a job; returns it with its id if it may run at once.
    mutating func enqueue(_ job: Job, modules: [String]) -> (id: UInt64, job: Job)? {
        nextID += 1
        let id = nextID
        let modules = Array(Set(modules))
        entries[id] = Entry(job: job, modules: modules)
        for module in modules { lines[module, default: []].append(id) }
        return runnable(id)
    }

    /// Takes a finished job out of its lines; returns those that may run now.
    mutating func finish(_ id: UInt64) -> [(id: UInt64, job: Job)] {
        guard let entry = entries.removeValue(forKey: id) else { return [] }
        var candidates: [UInt64] = []
        for module in entry.modules {
            lines[module]?.removeFirst()
            if let next = lines[module]?.first {
                if !candidates.contains(next) { candidates.append(next) }
            } else {
                lines[module] = nil
            }
        }
        return candidates.compactMap { runnable($0) }
    }

    private func runnable(_ id: UInt64) -> (id: UInt64, job: Job)? {
        guard let entry = entries[id], entry.modules.allSatisfy({ lines[$0]?.first == id }) else { return nil }
        return (id, entry.job)
    }
}
