package import ReloadProtocol

/// What an instance knows after a restart: one value, written as a whole.
package struct LedgerRecord: Codable, Sendable, Equatable {
    /// A version, and its private copy if there is one.
    package struct Version: Codable, Sendable, Equatable {
        package var revision: Int64
        package var digest: String?
        package var version: String?
        /// Name of the copy in the folder `artifacts`.
        package var artifact: String?
        /// Where its bytes came from: a path, whose ending says how a config is written, or `inline`.
        package var origin: String?
    }

    /// One module; the words are the protocol's.
    package struct Module: Codable, Sendable, Equatable {
        package var desired: Version?
        package var attempted: Version?
        package var running: Version?
        package var lastGood: Version?
        /// Proven versions whose copies are kept, the oldest first; `lastGood` is the last of them.
        package var kept: [Version] = []
        package var quarantine = Quarantine()
        /// `message_id` of the request that brought what runs: a rollback that comes again does not go back once more.
        package var broughtBy: String?
        /// nil before the first request.
        package var issued: IssueTimes?

        enum CodingKeys: String, CodingKey {
            case desired, attempted, running, kept, quarantine, issued
            case lastGood = "last_good"
            case broughtBy = "brought_by"
        }
    }

    /// Where it was written; see ``Environment``.
    var environment: String?
    /// Counts the writes; of two files the higher one is the ledger.
    var number: UInt64?
    package var modules: [String: Module] = [:]
    /// Place in the stream of requests.
    package var position: StreamPosition.Saved?
    /// Name of the queue this instance left with the broker (delivery `queue`).
    package var queue: String?
    /// When the newest request was issued that was taken, in milliseconds since 1970.
    var newestRequest: Int64?
    /// `message_id`s answered last, the oldest first: what a queue may deliver again.
    package var answered: [String] = []
    /// Reports that the broker has not confirmed, the oldest first.
    package var reports: [OutgoingReport] = []

    package init() {}
}

extension LedgerRecord.Version {
    init(_ report: VersionReport, _ artifact: StagedArtifact? = nil) {
        self.init(
            revision: report.revision, digest: report.digest, version: report.version, artifact: artifact?.name,
            origin: artifact?.origin)
    }

    var report: VersionReport { VersionReport(revision: revision, digest: digest, version: version) }
}

/// Digests that failed here, with why; they are not loaded again until released. The oldest give way to newer ones.
package struct Quarantine: Codable, Sendable, Equatable {
    private struct Entry: Codable, Equatable {
        var digest: String
        var reason: String
    }

    private static let capacity = 100
    private var entries: [Entry] = []

    var count: Int { entries.count }

    func reason(for digest: String) -> String? {
        entries.last { $0.digest == digest }?.reason
    }

    /// The reason is cut: a message ends with up to 2 KiB of a plugin's output, escaped, and the ledger is written as a whole.
    mutating func add(_ digest: String, because reason: String) {
        entries.removeAll { $0.digest == digest }
        entries.append(Entry(digest: digest, reason: reason.excerpt))
        if entries.count > Self.capacity { entries.removeFirst(entries.count - Self.capacity) }
    }

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("entries") { writer in
                writer.array(entries) { writer, entry in
                    writer.object { writer in
                        writer.member("digest", entry.digest)
                        writer.member("reason", entry.reason)
                    }
                }
            }
        }
    }

    /// Takes one digest out, or with nil all; returns whether there was any.
    mutating func release(_ digest: String?) -> Bool {
        let before = entries.count
        entries.removeAll { digest == nil || $0.digest == digest }
        return entries.count < before
    }
}
