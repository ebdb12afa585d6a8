import Dispatch
import Logging
import Metrics
import ReloadAMQP
import ReloadCore
import ReloadProtocol
import Testing

extension EndToEnd.OneBroker {
    @Suite struct ConsumerTests {
        /// It logs in while its service is still getting ready.
        @Test func nothingIsConsumedBeforeItMayBe() async throws {
            try await World.run { world in
                let settings = ConnectionSettings(url: try BrokerURL(world.broker.url), name: "test")
                let queue = "reload.agent.\(world.service)"
                let (events, event) = AsyncStream.makeStream(of: String.self)
                let gate = DispatchSemaphore(value: 0)
                var handlers = Consumer.Handlers(delivered: { _, _, _ in }, connected: { event.yield("consumes") })
                handlers.willConsume = {
                    event.yield("may it?")
                    gate.wait()
                }
                let consumer = try Consumer(
                    settings: settings, topology: Topology(), delivery: .queue(name: queue, expiry: 60_000),
                    addressee: Addressee(service: world.service, instance: "one"), position: StreamPosition(),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                    metrics: NOOPMetricsHandler.instance, handlers: handlers)
                try consumer.start()
                defer { consumer.stop() }
                var next = events.makeAsyncIterator()
                try #require(await next.next() == "may it?")
                let look = { @Sendable in
                    var connection = try Connection.open(settings)
                    return try connection.declareQueue(queue, passive: true).consumerCount
                }
                let error = await #expect(throws: ReloadError.self) {
                    try await Wire(broker: world.broker).onThread(look)
                }
                #expect(error?.code == .brokerNotFound)
                gate.signal()
                #expect(await next.next() == "consumes")
                #expect(try await Wire(broker: world.broker).onThread(look) == 1)
            }
        }
    }
}
