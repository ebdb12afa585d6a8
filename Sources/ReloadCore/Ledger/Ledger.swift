internal import FoundationEssentials
internal import Glibc
internal import Logging
internal import Metrics
package import ReloadProtocol
internal import Synchronization

/// What an instance keeps over a restart, in memory and in its state directory.
package final class Ledger: Sendable {
    private struct State {
        /// Everything but modules that are registered and the position.
        var record: LedgerRecord
        /// Counts the changes, so that a write that covers a later one need not be repeated.
        var changes: UInt64 = 0
        var written: UInt64 = 0
        /// Copies that the ledger before names: that one may have to be read instead.
        var keptBefore: Set<String> = []
        var problem: String?
        /// What is in the file.
        var last: LedgerRecord?
    }

    /// Answered ids that are kept for a queue's redeliveries; more than a queue hands out unacknowledged.
    package static let answeredCapacity = 512
    /// Unconfirmed reports that are kept; the oldest gives way.
    private let reportLimit: Int

    /// Place in the stream of requests.
    package let position: StreamPosition
    private let directory: StateDirectory
    private let logger: Logger
    private let failures: Counter
    private let dropped: Counter
    private let state: Mutex<State>
    /// What was proven is so under the same executable, since the machine was started.
    let isOfThisEnvironment: Bool
    /// Held while it is written.
    private let file: Mutex<LedgerFile>

    /// Reads what an earlier process left.
    init(
        _ directory: StateDirectory, reportLimit: Int = 1000, logger: Logger, metrics: any MetricsFactory
    ) {
        self.directory = directory
        self.reportLimit = reportLimit
        self.logger = logger
        failures = Counter(label: "reload_agent_journal_failures_total", factory: metrics)
        dropped = Counter(label: "reload_agent_reports_dropped_total", factory: metrics)
        var (write, read) = directory.ledgerFiles
        let reading = read.read()
        // What is read may be another folder's.
        if read.path == write.path { write = read }
        file = Mutex(write)
        for problem in reading.problems {
            logger.warning("ledger set aside", metadata: ["reason": "\(problem)"])
        }
        var record = reading.record ?? LedgerRecord()
        isOfThisEnvironment = record.environment == Environment.current
        record.environment = Environment.current
        position = StreamPosition(record.position)
        state = Mutex(State(record: record))
        directory.keep(record.artifacts)
        // What only the ledger before names stays as well, until the next write.
        if let before = reading.before {
            state.withLock { $0.keptBefore = before.artifacts }
            directory.keep(record.artifacts.union(before.artifacts))
        }
        // Copies that a ledger names which cannot be read are left where they are.
        if reading.problems.isEmpty { directory.removeOthers() }
    }

    /// What was loaded is not there any more: everything is to be read again from the first message.
    func forgetPlace() {
        position.streamWasMadeAnew()
        state.withLock { state in
            state.record.answered = []
            for name in state.record.modules.keys { state.record.modules[name]?.issued = nil }
        }
    }

    /// What was known of a module when the process before ended.
    func restored(_ module: String) -> LedgerRecord.Module? {
        state.withLock { $0.record.modules[module] }
    }

    /// `message_id`s that were answered before.
    var answered: [String] { state.withLock { $0.record.answered } }

    /// Reports that the broker has not confirmed.
    var unconfirmed: [OutgoingReport] { state.withLock { $0.record.reports } }

    /// Name of the queue this instance left with the broker.
    package var queue: String? {
        get { state.withLock { $0.record.queue } }
        set {
            state.withLock { state in
                state.record.queue = newValue
                state.changes += 1
            }
        }
    }

    /// When the newest request was issued that was taken; it goes to disk with the next answer.
    var newestRequest: Date? {
        get { state.withLock { $0.record.newestRequest }.map { Date(timeIntervalSince1970: Double($0) / 1000) } }
        set { state.withLock { $0.record.newestRequest = newValue.map { Int64($0.timeIntervalSince1970 * 1000) } } }
    }

    /// Notes an answer: the requests it answers, and the report that is on its way.
    func add(answered ids: [String], report: OutgoingReport) {
        let overflow = state.withLock { state in
            state.changes += 1
            state.record.answered += ids
            let surplus = state.record.answered.count - Self.answeredCapacity
            if surplus > 0 { state.record.answered.removeFirst(surplus) }
            state.record.reports.append(report)
            let overflow = state.record.reports.count - reportLimit
            if overflow > 0 { state.record.reports.removeFirst(overflow) }
            return overflow
        }
        if overflow > 0 { dropped.increment(by: overflow) }
    }

    /// The broker has a report. Goes to disk with the next write: at worst it is sent again under the same id.
    func confirmed(_ report: String) {
        state.withLock { state in
            state.changes += 1
            state.record.reports.removeAll { $0.id == report }
        }
    }

    /// Quarantines what the process before did not survive, and takes the marks away.
    ///
    /// - Returns: the marks of libraries that may be to blame.
    func takeMarks() -> [AttemptMark] {
        let marks = AttemptMark.left(in: directory.attempts).filter { !$0.isPrepared }
        for mark in marks {
            logger.error(
                mark.mayTryAgain
                    ? "the service died while a plugin was loaded, it is tried again" : "plugin quarantined",
                metadata: ["module": "\(mark.module)", "reason": "\(mark.error)"])
            guard !mark.mayTryAgain else { continue }
            state.withLock { state in
                var module = state.record.modules[mark.module] ?? LedgerRecord.Module()
                module.quarantine.add(mark.digest, because: "\(mark.error)")
                module.attempted = LedgerRecord.Version(
                    VersionReport(revision: mark.revision, digest: mark.digest, version: mark.version))
                state.record.modules[mark.module] = module
            }
        }
        if marks.isEmpty || write({ [:] }) { AttemptMark.clearAll(in: directory.attempts) }
        return marks
    }

    /// Writes everything known now; returns when it is on disk. Callers that meet share a write.
    ///
    /// - Parameter modules: what is known of the registered modules, asked for at the moment of writing.
    /// - Returns: false when it could not be written, which is logged and counted; the file before it is still there.
    @discardableResult
    func write(_ modules: () -> [String: LedgerRecord.Module]) -> Bool {
        let wanted = state.withLock { state in
            state.changes += 1
            return state.changes
        }
        return file.withLock { file in
            if state.withLock({ $0.written >= wanted }) { return true }
            guard directory.isOpen else { return false }
            // Answers first and what they speak of afterwards: the other way round an answer could be in the file whose
            // outcome is not.
            var (record, changes, before, last) = state.withLock { state in
                state.record.position = position.saved
                return (state.record, state.changes, state.keptBefore, state.last)
            }
            record.modules.merge(modules()) { $1 }
            if record == last { return true }
            let artifacts = record.artifacts
            do throws(ReloadError) {
                directory.flush(artifacts)
                try file.write(record)
            } catch {
                fail(error)
                return false
            }
            directory.keep(artifacts.union(before))
            state.withLock { state in
                state.written = changes
                state.keptBefore = artifacts
                state.problem = nil
                state.last = record
            }
            return true
        }
    }

    private func fail(_ error: ReloadError) {
        failures.increment()
        let isNew = state.withLock { state in
            defer { state.problem = error.message }
            return state.problem != error.message
        }
        if isNew { logger.error("ledger not written", metadata: ["reason": "\(error)"]) }
    }
}

/// What a plugin's trial depends on beside its bytes.
enum Environment {
    /// The boot and the executable. Libraries that are replaced under a running system are not seen.
    static let current: String = {
        let boot = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
        var file = stat()
        guard unsafe stat("/proc/self/exe", &file) == 0 else { return "" }
        let changed = "\(file.st_mtim.tv_sec).\(file.st_mtim.tv_nsec)"
        return "\(boot.filter { !$0.isWhitespace }) \(file.st_dev)/\(file.st_ino)/\(changed)"
    }()
}

extension LedgerRecord {
    /// Names of the copies it refers to.
    var artifacts: Set<String> {
        Set(modules.values.flatMap { $0.kept.compactMap(\.artifact) })
    }
}
