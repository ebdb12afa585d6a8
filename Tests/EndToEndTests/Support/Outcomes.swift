import Foundation
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

/// What the instances of one service answered, read from the stream of reports, over every fault of the broker.
final class Outcomes: Sendable {
    /// The part a report has in a request.
    struct Answer: Sendable {
        /// AMQP `message_id`: a report that is sent again has the same.
        var report: String
        var state: ReportState
        var code: ReloadCode
        /// When, by the instance's clock.
        var at: String
    }

    /// Everything that was answered.
    struct Tally: Sendable {
        /// By instance and by the request's id; another report adds to it, the same one again does not.
        fileprivate(set) var answers: [String: [String: [Answer]]] = [:]
        /// Requests with an answer, summed over the instances.
        fileprivate(set) var count = 0
        /// Reports, those that were sent again not counted.
        fileprivate(set) var reports = 0
        /// Messages of `online` reports by instance, the newest last.
        fileprivate(set) var notes: [String: [String]] = [:]

        mutating func add(_ report: Report, id: String) {
            if report.state == .online { notes[report.instance, default: []].append(report.message) }
            guard report.state.isFinal else { return }
            reports += 1
            if let request = report.request {
                add(
                    Answer(report: id, state: report.state, code: report.code, at: report.at), to: request,
                    from: report.instance)
            }
            for request in report.superseded ?? [] {
                add(
                    Answer(report: id, state: .superseded, code: .ok, at: report.at), to: request, from: report.instance
                )
            }
        }

        private mutating func add(_ answer: Answer, to request: String, from instance: String) {
            let answers = answers[instance, default: [:]][request, default: []]
            guard !answers.contains(where: { $0.report == answer.report }) else { return }
            if answers.isEmpty { count += 1 }
            self.answers[instance, default: [:]][request, default: []].append(answer)
        }

        /// What one instance answered to one request.
        func answers(to request: String, from instance: String) -> [Answer] { answers[instance]?[request] ?? [] }

        /// How many of the requests were answered by each of the instances.
        func answered(_ requests: [String], by instances: [String]) -> Int {
            requests.count { request in instances.allSatisfy { !answers(to: request, from: $0).isEmpty } }
        }

        /// Requests that an instance says to have applied in two different reports.
        var appliedTwice: [String] { requests { answers in answers.count { $0.state == .applied } > 1 } }

        /// Requests that an instance answered in two different reports.
        var answeredTwice: [String] { requests { $0.count > 1 } }

        private func requests(_ isWanted: ([Answer]) -> Bool) -> [String] {
            answers.values.flatMap { $0.filter { isWanted($0.value) }.keys }
        }
    }

    private struct State {
        var tally = Tally()
        /// Offset of the report that came last.
        var last: Int64?
        var isStopped = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let url: String
    private let service: String
    private let state = Mutex(State())
    private let interrupter = Interrupter()
    private let isOver = DispatchSemaphore(value: 0)

    /// Reads from the first report on, until it is stopped.
    init(_ broker: Broker, service: String) {
        url = broker.url
        self.service = service
        Thread { [self] in
            while !state.withLock({ $0.isStopped }) {
                try? follow()
                // A broker that is not there refuses at once.
                _ = poll(nil, 0, 50)
            }
            isOver.signal()
        }.start()
    }

    /// Ends the thread.
    func stop() {
        state.withLock { $0.isStopped = true }
        interrupter.interrupt()
        isOver.wait()
    }

    var tally: Tally { state.withLock { $0.tally } }

    /// Waits until the tally is as wanted; a test whose time is over learns what it was.
    func wait(_ what: String, until isWanted: @Sendable (Tally) -> Bool) async throws {
        while true {
            let tally = tally
            if isWanted(tally) { return }
            guard !Task.isCancelled else {
                throw TestFailure("\(what) did not come: \(tally.count) answers in \(tally.reports) reports")
            }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let isDone = state.withLock { state in
                        guard state.tally.reports == tally.reports, state.tally.notes == tally.notes, !Task.isCancelled
                        else { return true }
                        state.waiting.append(continuation)
                        return false
                    }
                    if isDone { continuation.resume() }
                }
            } onCancel: {
                change { _ in }
            }
        }
    }

    private func change(_ body: (inout State) -> Void) {
        let waiting = state.withLock { state in
            body(&state)
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Reads until the connection is lost.
    private func follow() throws {
        var settings = ConnectionSettings(url: try BrokerURL(url), name: "outcomes", bodyLimit: 64 << 20)
        settings.heartbeat = 5
        var connection = try Connection.open(settings, interrupter: interrupter)
        let topology = Topology()
        try topology.declare(on: &connection)
        try connection.qos(prefetch: 200)
        // The last one again, since an offset beyond the end would be silence.
        let start: Argument = state.withLock { $0.last }.map { .integer($0) } ?? "first"
        _ = try connection.consume(topology.reports, arguments: ["x-stream-offset": start])
        while !state.withLock({ $0.isStopped }) {
            while let event = try connection.next() {
                guard case .delivery(let delivery) = event else { continue }
                try connection.acknowledge(delivery.tag)
                take(delivery)
            }
            connection.wait(timeoutMilliseconds: 1000)
        }
        connection.close()
    }

    private func take(_ delivery: Delivery) {
        guard let offset = delivery.streamOffset, offset > state.withLock({ $0.last ?? -1 }) else { return }
        var report: Report?
        if delivery.routingKey.hasPrefix(service.replacing(".", with: "_") + ".") {
            report = try? Report.decode(delivery.envelope.body)
        }
        change { state in
            state.last = offset
            if let report { state.tally.add(report, id: delivery.envelope.messageID ?? "\(offset)") }
        }
    }
}

/// One row of the fault matrix: numbered requests for all instances of a test's world, and what became of them.
final class FaultRow: Sendable {
    private struct State {
        var requests: [NumberedRequest] = []
        var revisions: [String: Int64] = [:]
        var healed = ContinuousClock.now
    }

    let name: String
    let outcomes: Outcomes
    private let world: World
    private let state = Mutex(State())

    /// Runs a row and ends the reading of reports with it.
    static func run(_ name: String, in world: World, _ body: (FaultRow) async throws -> Void) async throws {
        let row = FaultRow(name, world)
        defer { row.outcomes.stop() }
        try await body(row)
    }

    private init(_ name: String, _ world: World) {
        self.name = name
        self.world = world
        outcomes = Outcomes(world.broker, service: world.service)
    }

    /// The newest revision of each module that was asked for.
    var newest: [String: Int64] { state.withLock { $0.revisions } }

    /// Ids of the requests so far.
    var requests: [String] { state.withLock { $0.requests.map(\.id) } }

    /// Numbers the next requests, for each of the configs in turn.
    func next(_ count: Int, configs: [String] = ["rules"]) -> [NumberedRequest] {
        state.withLock { state in
            (0..<count).map { index in
                let config = configs[index % configs.count]
                let revision = state.revisions[config, default: 0] + 1
                state.revisions[config] = revision
                let request = NumberedRequest(
                    id: "\(world.service)-\(state.requests.count)", service: world.service, config: config,
                    revision: revision)
                state.requests.append(request)
                return request
            }
        }
    }

    /// Numbers the next request for a plugin, whose path follows from its revision.
    func next(plugin module: String, path: (Int64) throws -> String) rethrows -> NumberedRequest {
        try state.withLock { state in
            let revision = state.revisions[module, default: 0] + 1
            let artifact = #""path":"\#(try path(revision))""#
            state.revisions[module] = revision
            let request = NumberedRequest(
                id: "\(world.service)-\(state.requests.count)", service: world.service, module: module, kind: .plugin,
                revision: revision, artifact: artifact)
            state.requests.append(request)
            return request
        }
    }

    /// Publishes the next requests until the broker has confirmed them all.
    @discardableResult
    func publish(_ count: Int, configs: [String] = ["rules"]) async throws -> [NumberedRequest] {
        let requests = next(count, configs: configs)
        try await Wire(broker: world.broker).publish(requests)
        return requests
    }

    /// Begins to publish requests, which may take until a fault is over.
    func publishing(_ requests: [NumberedRequest], inBatchesOf size: Int = .max) -> Task<Void, any Error> {
        Task { [world] in
            for start in stride(from: 0, to: requests.count, by: size) {
                try await Wire(broker: world.broker).publish(Array(requests[start...].prefix(size)))
            }
        }
    }

    /// The same for the next requests.
    func publishing(
        _ count: Int, configs: [String] = ["rules"], inBatchesOf size: Int = .max
    ) -> Task<Void, any Error> {
        publishing(next(count, configs: configs), inBatchesOf: size)
    }

    /// From here on the time to converge counts.
    func healed() { state.withLock { $0.healed = .now } }

    /// Waits until each instance has answered everything that was asked so far.
    func answered(by agents: [TestAgent]) async throws {
        let count = state.withLock { $0.requests.count } * agents.count
        try await outcomes.wait("\(count) answers") { $0.count >= count }
    }

    /// Waits until each instance has answered everything and runs the newest revision of every module, and says so.
    func finish(_ agents: [TestAgent]) async throws {
        try await answered(by: agents)
        for agent in agents {
            let modules = try await agent.status().modules ?? [:]
            for (module, revision) in newest {
                #expect(modules[module]?.revision == revision, "\(module) of \(agent.instance)")
            }
        }
        report(agents.map(\.instance))
    }

    /// Counts, and prints the line of the row.
    func report(_ instances: [String]) {
        let (requests, healed) = state.withLock { ($0.requests.map(\.id), $0.healed) }
        let tally = outcomes.tally
        let answered = tally.answered(requests, by: instances)
        let twice = tally.appliedTwice
        let seconds = healed.duration(to: .now) / .seconds(1)
        print(
            "fault | \(name) | \(requests.count) published | \(answered) answered | \(twice.count) twice | "
                + "converged in \(String(format: "%.1f", seconds)) s")
        #expect(answered == requests.count)
        #expect(twice.isEmpty, "\(twice.prefix(5))")
        #expect(tally.answeredTwice.isEmpty, "\(tally.answeredTwice.prefix(5))")
        let known = Set(requests)
        let unknown = tally.answers.values.flatMap(\.keys).filter { !known.contains($0) }
        #expect(unknown.isEmpty, "\(unknown.prefix(5))")
    }
}
