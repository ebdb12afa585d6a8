import Foundation
import ReloadAMQP
import ReloadProtocol
import Testing

extension EndToEnd.OneBroker {
    /// What is declared in one go still fails one by one.
    @Suite struct TopologyTests {
        /// An answer of the broker that does not arrive, and the request that the error then names.
        struct Lost: Sendable, CustomTestStringConvertible {
            var answer: String
            var position = Proxy.Position.header
            var accident = Proxy.Accident.cut
            var operation: String

            var testDescription: String { "\(accident) \(position) of \(answer.debugDescription)" }

            /// Class and method of an answer, as they stand in a frame.
            private static let exchange = "\0\u{28}\0\u{0B}"
            private static let queue = "\0\u{32}\0\u{0B}"
            private static let binding = "\0\u{32}\0\u{15}"

            static let all = [
                Lost(answer: exchange, operation: "exchange.declare"),
                Lost(answer: exchange, position: .behind, operation: "exchange.declare"),
                Lost(answer: queue, operation: "queue.declare"),
                Lost(answer: queue, position: .end, operation: "queue.declare"),
                Lost(answer: queue, position: .behind, operation: "queue.bind"),
                Lost(answer: binding, operation: "queue.bind"),
                Lost(answer: binding, position: .behind, operation: "queue.declare"),
                Lost(answer: "reload.reports", operation: "queue.declare"),
                Lost(answer: "reload.reports", position: .behind, operation: "queue.bind"),
                Lost(answer: "reload.journal", accident: .freeze, operation: "queue.declare"),
            ]
        }

        @Test(arguments: Lost.all) func anErrorNamesTheFirstRequestWithoutAnAnswer(lost: Lost) async throws {
            try await World.run { world in
                // A stream that is made takes its time.
                try await Wire(broker: world.broker).declare()
                let proxy = try Proxy(to: world.broker)
                defer { proxy.stop() }
                var settings = ConnectionSettings(url: try BrokerURL(try proxy.url(of: world.broker)), name: "test")
                if lost.accident == .freeze { settings.rpcTimeout = .seconds(1) }
                let place = Proxy.Place(
                    direction: .toClient, frame: .method, text: lost.answer, position: lost.position)
                proxy.accident(lost.accident, at: place)
                let error = try await Wire(broker: world.broker).onThread { [settings] in
                    var connection = try Connection.open(settings)
                    return refusal { () throws(ReloadError) in try Topology().declare(on: &connection) }
                }
                #expect(error?.operation == lost.operation, "\(error.map(\.description) ?? "")")
                #expect(error?.code == (lost.accident == .cut ? .brokerClosed : .brokerTimeout))
                #expect(error?.isChannelOnly == false)
            }
        }

        /// What is there already, with other properties; the request that then fails; and whether the stream before it is made.
        @Test(arguments: [("dead", "exchange.declare", false), ("reports", "queue.declare", true)])
        func whatDiffersIsNamed(name: String, operation: String, isMade: Bool) async throws {
            try await World.run { world in
                let settings = ConnectionSettings(url: try BrokerURL(world.broker.url), name: "test")
                let own = "\(world.service)."
                let topology = Topology(
                    controlExchange: own + "control", statusExchange: own + "status", deadExchange: own + "dead",
                    journal: own + "journal", reports: own + "reports")
                let (refusals, missing) = try await Wire(broker: world.broker).onThread {
                    var connection = try Connection.open(settings)
                    if name == "dead" {
                        try connection.declareExchange(own + name, type: "topic")
                    } else {
                        try connection.ensureQueue(own + name)
                    }
                    let refusals = try (0..<2).map { _ in
                        let error = refusal { () throws(ReloadError) in try topology.declare(on: &connection) }
                        // The connection goes on, and what came before was done.
                        try connection.reopenChannel()
                        try connection.declareExchange(own + "status", type: "topic", passive: true)
                        return error
                    }
                    let missing = refusal { () throws(ReloadError) in
                        try connection.ensureQueue(own + "journal", passive: true)
                    }
                    return (refusals, missing)
                }
                for error in refusals {
                    #expect(error?.operation == operation)
                    #expect(error?.code == .brokerPreconditionFailed && error?.isChannelOnly == true)
                }
                #expect(missing?.code == (isMade ? nil : .brokerNotFound))
            }
        }
    }
}

/// What a request ended with, if it was not answered.
private func refusal(_ request: () throws(ReloadError) -> Void) -> ReloadError? {
    do throws(ReloadError) {
        try request()
        return nil
    } catch {
        return error
    }
}
