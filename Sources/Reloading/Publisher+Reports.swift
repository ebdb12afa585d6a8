internal import FoundationEssentials
internal import Logging
internal import ReloadAMQP
internal import ReloadCore
internal import ReloadProtocol
internal import Synchronization

/// How long a message that nobody could read stays in `reload.dead`, in milliseconds: 7 days.
private let deadLetterLifetime = 7 * 24 * 60 * 60 * 1000

extension Publisher {
    /// Publishes a report to the status exchange and to the queue that asked for a copy. `done` is called when the broker
    /// has both, or has refused one for good.
    ///
    /// - Parameter user: who is logged in, for `user_id`: the broker refuses any other name (406), so a reader knows that it
    ///   is true.
    func publish(
        _ outgoing: OutgoingReport, topology: Topology, user: String?, logger: Logger,
        done: @escaping @Sendable () -> Void
    ) {
        var envelope = Envelope(
            body: outgoing.report.encode(), type: Report.protocolName, id: outgoing.id,
            correlationID: outgoing.correlationID, appID: "reload-agent")
        envelope.userID = user
        let copies = Copies(outgoing.replyTo == nil ? 1 : 2, done)
        if let queue = outgoing.replyTo {
            publish(envelope, exchange: "", routingKey: queue) { result in
                copies.settle(result, "copy of a report not published", logger)
            }
        }
        publish(envelope, exchange: topology.statusExchange, routingKey: outgoing.report.routingKey) { result in
            copies.settle(result, "report not published", logger)
        }
    }

    /// Keeps a message that could not be read, with the reason in its headers.
    func publish(
        unreadable envelope: Envelope, _ error: ReloadError, to exchange: String, logger: Logger,
        done: @escaping @Sendable () -> Void
    ) {
        var envelope = envelope
        // All of them or none: half of them would look like the message that came.
        envelope.headers = envelope.hasModestHeaders ? envelope.headers.filter { $0.value != .other } : [:]
        envelope.headers["x-reload-code"] = .string(error.code.rawValue)
        envelope.headers["x-reload-reason"] = .string(error.message)
        envelope.headers["x-reload-body-size"] = .integer(Int64(clamping: envelope.bodySize))
        envelope.userID = nil
        envelope.expiration = "\(deadLetterLifetime)"
        let copies = Copies(1, done)
        publish(envelope, exchange: exchange, routingKey: "") { result in
            copies.settle(result, "unreadable message not kept", logger)
        }
    }
}

extension Envelope {
    /// Whether the headers fit into a message together with others: a frame has room for 128 KiB, and the shim for 64 of them.
    fileprivate var hasModestHeaders: Bool {
        let sizes = headers.map { name, value in
            if case .string(let text) = value { name.utf8.count + text.utf8.count } else { name.utf8.count }
        }
        return sizes.count <= 32 && sizes.reduce(0, +) <= 32 << 10 && headers.keys.allSatisfy { $0.utf8.count <= 128 }
    }
}

/// Calls back when the last copy of a message is settled.
private final class Copies: Sendable {
    private let left: Atomic<Int>
    private let done: @Sendable () -> Void

    init(_ count: Int, _ done: @escaping @Sendable () -> Void) {
        left = Atomic(count)
        self.done = done
    }

    /// A copy that was refused for good counts as settled: the request it answers would otherwise come back for ever. One
    /// that was given up because the agent stops does not: the broker keeps the request.
    func settle(_ result: Result<Void, ReloadError>, _ message: Logger.Message, _ logger: Logger) {
        if case .failure(let error) = result {
            if error.code == .brokerStopped { return }
            logger.error(message, metadata: ["reason": "\(error)"])
        }
        if left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { done() }
    }
}
