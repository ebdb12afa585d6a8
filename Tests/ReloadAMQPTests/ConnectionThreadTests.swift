import Logging
import Metrics
import ReloadProtocol
import Testing

@testable import ReloadAMQP

@Suite(.timeLimit(.minutes(5))) struct ConnectionThreadTests {
    /// Uses much of the stack it is called on.
    private struct Digger: ConnectionUser {
        let done: AsyncStream<Void>.Continuation

        func disconnected(by error: ReloadError) -> Bool {
            dig(from: nil)
            done.yield()
            return false
        }

        private func dig(from top: UInt?) {
            var byte: UInt8 = 0
            let here = unsafe withUnsafePointer(to: &byte) { UInt(bitPattern: $0) }
            if (top ?? here) - here < 12 << 20 { dig(from: top ?? here) }
        }

        func connected(_ connection: inout Connection) {}
        func begins() {}
        func passesOver(_ message: borrowing ArrivingMessage) -> Bool { false }
        func passedOver(on connection: inout Connection) {}
        func handle(_ event: BrokerEvent, on connection: inout Connection) {}
        func work(on connection: inout Connection) -> Bool { false }
        func recover(from error: ReloadError, on connection: inout Connection) -> Bool { false }
        func finished() {}
        var isIdle: Bool { true }
        var pause: Duration? { nil }
    }

    /// Headers of a message may be tables in tables as deep as a frame is long; see `stackSize`.
    @Test func headersNestedDeeplyFitOnTheStack() async throws {
        await #expect(processExitsWith: .success) {
            let (ends, done) = AsyncStream.makeStream(of: Void.self)
            let settings = ConnectionSettings(url: try BrokerURL("amqp://127.0.0.1:1"), name: "test")
            let thread = try ConnectionThread(
                name: "test", settings: settings, topology: Topology(),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, metrics: NOOPMetricsHandler.instance)
            try thread.start(Digger(done: done))
            for await _ in ends { break }
            thread.stop(flush: .zero)
        }
    }
}
