import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

extension EndToEnd.Faults {
    /// A broker that has no streams: instances have queues of their own.
    @Suite(.inTurn) struct NoStreamsTests {
        private func wire(_ world: World) -> Wire {
            var wire = Wire(broker: world.broker)
            wire.topology.streams = .none
            return wire
        }

        /// Does something and waits until the instance has answered every request.
        private func answers(
            to requests: [NumberedRequest], in world: World, after start: @escaping @Sendable () async throws -> Void
        ) async throws -> [String: [ReportState]] {
            let wanted = Set(requests.map(\.id))
            let answers = Mutex<[String: [ReportState]]>([:])
            _ = try await wire(world).report { report -> Bool? in
                guard report.state.isFinal else { return nil }
                return answers.withLock { answers in
                    if let id = report.request { answers[id, default: []].append(report.state) }
                    for id in report.superseded ?? [] { answers[id, default: []].append(.superseded) }
                    return wanted.isSubset(of: answers.keys) ? true : nil
                }
            } after: {
                try await start()
            }
            return answers.withLock { $0 }
        }

        @Test func whatWasPublishedWhileAwayWaitsInTheQueue() async throws {
            let broker = try await Broker.start("--without-streams")
            let result: Result<Void, any Error>
            do {
                result = .success(try await run(on: broker))
            } catch {
                result = .failure(error)
            }
            try await broker.stop()
            try result.get()
        }

        private func run(on broker: Broker) async throws {
            try await World.run(on: broker) { world in
                let features = try await broker.run("ctl", "--quiet", "list_feature_flags").output
                #expect(features.contains("stream_queue\tdisabled"))
                let agent = world.agent("one") { $0.delivery = "queue" }
                let wire = wire(world)
                let service = world.service
                _ = try await wire.report {
                    $0.service == service && $0.state == .online ? true : nil
                } after: {
                    try await agent.start()
                }
                try await agent.kill()
                let requests = (1...60).map {
                    NumberedRequest(id: "\(service)-\($0)", service: service, config: "rules", revision: $0)
                }
                try await wire.publish(Array(requests[..<50]))
                var answers = try await answers(to: Array(requests[..<50]), in: world) { try await agent.start() }
                try await agent.change(to: 50)
                try await broker.run("restart")
                answers.merge(
                    try await self.answers(to: Array(requests[50...]), in: world) {
                        try await wire.publish(Array(requests[50...]))
                    }
                ) { $0 + $1 }
                try await agent.change(to: 60)
                let twice = answers.values.count { $0.count > 1 }
                print(
                    "fault | broker without streams, instance away, broker restarted | \(requests.count) published | "
                        + "\(answers.count) answered | \(twice) twice | -")
                #expect(answers.count == requests.count)
                #expect(twice == 0)
            }
        }
    }
}
