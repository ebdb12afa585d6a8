import Foundation
import Logging
import Metrics
import ReloadCore
import ReloadProtocol
import Synchronization

/// A reloader in a folder of its own, without a broker: what it reports and acknowledges can be awaited.
final class Scene: Sendable {
    let folder: URL
    let reloader: Reloader
    private let directory: StateDirectory
    /// Whether the broker of this scene confirms reports.
    let confirms = Atomic(true)
    /// What it has not confirmed, which is kept until it does.
    private let unconfirmed = Mutex<[@Sendable () -> Void]>([])
    private let reports: AsyncStream<OutgoingReport>
    let deadLetters = Mutex<[(Envelope, ReloadError)]>([])
    let acknowledged = Mutex<[String]>([])
    let clock = Mutex(start)
    private static let start = Date(timeIntervalSince1970: 1_800_000_000)

    init(
        service: String = "crawler", instance: String = "web-1", keep: Int = 3, artifactLimit: Int = 1 << 20,
        trial: Trial? = Trial(), generationLimit: Int = 1000, drainDeadline: Duration = .seconds(60),
        metrics: (any MetricsFactory)? = nil, reportLimit: Int = 1000, waitingBytes: Int = 64 << 20,
        trustedKeys: TrustedKeysFile? = nil, answerTableCapacity: Int = 10_000, in folder: URL? = nil,
        isReadOnly: Bool = false, logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    ) throws {
        self.folder =
            folder ?? FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")
        let folder = self.folder
        try FileManager.default.createDirectory(
            at: folder.appendingPathComponent("artifacts"), withIntermediateDirectories: true)
        let (reports, continuation) = AsyncStream.makeStream(of: OutgoingReport.self)
        self.reports = reports
        var settings = Reloader.Settings(service: service, instance: instance)
        settings.keep = keep
        settings.artifactRoots = [folder.appendingPathComponent("artifacts").path]
        settings.trial = trial
        settings.generationLimit = generationLimit
        settings.drainDeadline = drainDeadline
        let outbox = Outbox()
        settings.reportLimit = reportLimit
        settings.waitingBytes = waitingBytes
        settings.trustedKeys = trustedKeys
        settings.answerTableCapacity = answerTableCapacity
        let path = folder.appendingPathComponent("state").path
        directory =
            isReadOnly
            ? try StateDirectory.temporary(insteadOf: path, artifactLimit: artifactLimit)
            : try StateDirectory(path: path, artifactLimit: artifactLimit)
        reloader = Reloader(
            settings: settings, directory: directory,
            outlets: Reloader.Outlets(
                report: { outgoing, done in
                    if outbox.scene.withLock({ $0 })?.isUnconfirmed(done) != true { done() }
                    continuation.yield(outgoing)
                },
                deadLetter: { envelope, error, done in
                    outbox.scene.withLock { $0 }?.deadLetters.withLock { $0.append((envelope, error)) }
                    done()
                }),
            logger: logger, metrics: metrics,
            now: { outbox.scene.withLock { $0 }?.clock.withLock { $0 } ?? Self.start })
        outbox.scene.withLock { $0 = self }
    }

    /// The way back from the reloader's closures to the scene, which does not exist yet when they are made.
    private final class Outbox: Sendable {
        let scene = Mutex<Scene?>(nil)
    }

    private func isUnconfirmed(_ done: @escaping @Sendable () -> Void) -> Bool {
        guard !confirms.load(ordering: .relaxed) else { return false }
        unconfirmed.withLock { $0.append(done) }
        return true
    }

    /// Confirms what is unconfirmed, and what comes.
    func confirm() {
        confirms.store(true, ordering: .relaxed)
        let settled = unconfirmed.withLock { unconfirmed in
            defer { unconfirmed = [] }
            return unconfirmed
        }
        for done in settled { done() }
    }

    /// What is left when the process is killed here: the folder, and nothing else is written to it.
    func kill() {
        directory.close()
    }

    /// A scene in the same folder, after this one was killed.
    func restart() throws -> Scene {
        kill()
        return try Scene(in: folder)
    }

    /// Files of the state directory.
    func files(in name: String = "") throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.appendingPathComponent("state/\(name)").path)
            .sorted()
    }

    /// A file under the artifact root.
    func write(_ text: String, to name: String) throws -> String {
        let url = folder.appendingPathComponent("artifacts/\(name)")
        try Data(text.utf8).write(to: url)
        return url.path
    }

    /// Hands a message to the reloader.
    func send(
        _ body: String, id: String? = nil, destination: String? = nil, replyTo: String? = nil, oversized: Bool = false,
        place: StreamPosition.Place? = nil
    ) {
        var envelope = Envelope(body: Array(body.utf8))
        envelope.messageID = id
        envelope.replyTo = replyTo
        if let destination { envelope.headers[Request.destinationHeader] = .string(destination) }
        send(envelope, oversized: oversized, place: place)
    }

    /// The same with properties of the test's own.
    func send(_ envelope: Envelope, oversized: Bool = false, place: StreamPosition.Place? = nil) {
        reloader.receive(envelope, isOversized: oversized, place: place) { [self] in
            acknowledged.withLock { $0.append(envelope.messageID ?? "") }
        }
    }

    /// Sends one request for one module and waits for its answer.
    func apply(
        _ module: String, _ revision: Int64, kind: String = "config", operation: String = "apply", more: String = ""
    ) async throws -> Report {
        try await answer(
            to: """
                {"protocol":"reload.request.v1","operation":"\(operation)","modules":[{"name":"\(module)",
                "kind":"\(kind)","revision":\(revision)\(more)}]}
                """)
    }

    func answer(to body: String) async throws -> Report {
        let id = UUID().uuidString
        send(body, id: id)
        return try await report(for: id)
    }

    /// The next report that answers `id`; others before it are passed over.
    func outgoing(for id: String?) async throws -> OutgoingReport {
        for await outgoing in reports where outgoing.report.request == id && outgoing.report.state != .online {
            return outgoing
        }
        throw ReloadError(.messageInvalid, "no report for \(id ?? "nobody")")
    }

    /// Reads reports until `count` request ids are answered; the states that each was given.
    func answers(_ count: Int) async -> [String: [ReportState]] {
        var answers: [String: [ReportState]] = [:]
        guard count > 0 else { return answers }
        for await outgoing in reports where outgoing.report.state != .online {
            if let id = outgoing.report.request { answers[id, default: []].append(outgoing.report.state) }
            for id in outgoing.report.superseded ?? [] { answers[id, default: []].append(.superseded) }
            if answers.count == count { break }
        }
        return answers
    }

    /// The next report, `online` ones included, of which this holds.
    func report(where isMeant: (Report) -> Bool) async throws -> Report {
        for await outgoing in reports where isMeant(outgoing.report) { return outgoing.report }
        throw ReloadError(.messageInvalid, "no such report")
    }

    func report(for id: String?) async throws -> Report {
        try await outgoing(for: id).report
    }
}

struct Rules: Codable, Sendable, Equatable {
    var depth: Int
    /// On the heap, where the address sanitizer sees it.
    private var text = String(repeating: "rules ", count: 10)

    init(depth: Int) { self.depth = depth }

    enum CodingKeys: CodingKey { case depth }
}

extension Scene {
    /// A config module whose first file says `depth: 1`.
    func rules(_ name: String = "rules") throws -> ConfigTarget<Rules> {
        try reloader.config(name, file: try write("depth: 1", to: "\(name).yaml")) { rules in
            if rules.depth < 0 { throw ReloadError(.configRefused, "depth is negative") }
        }
    }
}
