internal import ReloadProtocol

/// A message on its way to the broker.
struct QueuedMessage: Sendable {
    var envelope: Envelope
    var exchange: String
    var routingKey: String
    var mandatory: Bool
    var completion: @Sendable (Result<Void, ReloadError>) -> Void
    /// Set when the broker returned it; the confirm that follows ends it.
    var returned: ReloadError?

    /// Whether it goes to a queue by its name, through the default exchange.
    var isDirect: Bool { exchange.isEmpty }
}

/// The fate of a message; ``report()`` is called after the lock is left.
struct Settled: Sendable {
    var message: QueuedMessage
    var result: Result<Void, ReloadError>

    func report() { message.completion(result) }
}

/// What a publisher has to send and what it has sent without an answer yet.
struct Outbox: Sendable {
    private let limit: Int
    private let window: Int
    private var waiting = Queue()
    /// Taken out, and not yet handed to the socket.
    private var sending: QueuedMessage?
    /// Sent and unconfirmed, by sequence number.
    private var inFlight: [UInt64: QueuedMessage] = [:]
    /// No smaller number is in flight.
    private var oldest: UInt64 = 1
    private var isBlocked = false
    /// How many at the front may have made the broker close the channel: they go one at a time.
    private var suspects = 0
    private var refusals = Backoff()
    private var resumesAt: ContinuousClock.Instant?
    /// Why nothing goes directly to queues, which others name, and until when; nil is as long as the connection lasts.
    private var directRefusal: (error: ReloadError, until: ContinuousClock.Instant?)?
    /// How long direct messages are refused after one may have closed the connection.
    static let directPause = Duration.seconds(300)

    /// - Parameters:
    ///   - limit: messages that may wait; the oldest is dropped for one more.
    ///   - window: messages that may be unconfirmed at a time.
    init(limit: Int, window: Int = 256) {
        self.limit = max(1, limit)
        self.window = max(1, window)
    }

    /// Whether everything has its answer.
    var isEmpty: Bool { waiting.isEmpty && sending == nil && inFlight.isEmpty }
    /// Messages that the broker has not settled.
    var count: Int { waiting.count + inFlight.count + (sending == nil ? 0 : 1) }
    /// Whether something waits to be sent.
    var hasWaiting: Bool { !waiting.isEmpty }

    /// Adds a message; returns the ones dropped for it, itself if it is direct and such are refused now, and whether the
    /// sending thread must be woken.
    mutating func add(
        _ message: QueuedMessage, now: ContinuousClock.Instant = .now
    ) -> (dropped: [Settled], wake: Bool) {
        if let until = directRefusal?.until, until <= now { directRefusal = nil }
        if message.isDirect, let error = directRefusal?.error {
            return ([Settled(message: message, result: .failure(error))], false)
        }
        let wake = waiting.isEmpty
        waiting.append(message)
        return (dropOverflow(), wake)
    }

    /// The next message to send now, if any; ``sent(_:)``, ``notSent(_:)`` or ``connectionLost(_:)`` must follow.
    mutating func take(now: ContinuousClock.Instant) -> QueuedMessage? {
        precondition(sending == nil, "the message taken before was neither sent nor given back")
        guard !isBlocked, inFlight.count < (suspects > 0 ? 1 : window) else { return nil }
        if let resumesAt {
            guard now >= resumesAt else { return nil }
            self.resumesAt = nil
        }
        sending = waiting.popFirst()
        return sending
    }

    /// How long ``take(now:)`` stays empty because the broker refused a message; `nil` when it is not for that reason.
    func pause(now: ContinuousClock.Instant) -> Duration? {
        resumesAt.map { max(.zero, now.duration(to: $0)) }
    }

    /// The message taken last went out with this number.
    mutating func sent(_ sequence: UInt64) {
        if inFlight.isEmpty { oldest = sequence }
        inFlight[sequence] = sending
        sending = nil
    }

    /// The message taken last cannot be sent at all.
    mutating func notSent(_ error: ReloadError) -> [Settled] {
        guard let message = sending else { return [] }
        sending = nil
        return [settle(message, .failure(error))]
    }

    /// The broker has the messages.
    mutating func confirmed(_ sequence: UInt64, multiple: Bool) -> [Settled] {
        refusals.reset()
        return remove(sequence, multiple: multiple).map { message in
            settle(message, message.returned.map { .failure($0) } ?? .success(()))
        }
    }

    /// The broker did not take the messages: they go to the front again, after a pause.
    mutating func refused(_ sequence: UInt64, multiple: Bool, now: ContinuousClock.Instant) -> [Settled] {
        waiting.prepend(remove(sequence, multiple: multiple))
        resumesAt = now + refusals.next()
        return dropOverflow()
    }

    /// A mandatory message came back. The broker names no sequence number, but returns come in the order of publishing
    /// and before the confirm, and what goes to the same place has the same fate: so it is the oldest one like it.
    mutating func returned(_ returned: Returned) {
        let sequence = inFlight.keys.sorted().first { sequence in
            guard let message = inFlight[sequence] else { return false }
            return message.mandatory && message.returned == nil && message.exchange == returned.exchange
                && message.routingKey == returned.routingKey
                && message.envelope.messageID == returned.envelope.messageID
                && message.envelope.correlationID == returned.envelope.correlationID
                && message.envelope.bodySize == returned.envelope.bodySize
        }
        guard let sequence else { return }
        var error = ReloadError(
            .brokerUnroutable,
            "no queue takes messages for '\(returned.routingKey)' from exchange '\(returned.exchange)': \(returned.replyText)",
            operation: "basic.publish")
        error.broker?.replyCode = returned.replyCode
        error.broker?.replyText = returned.replyText
        inFlight[sequence]?.returned = error
    }

    /// The broker reads from this connection, or not.
    mutating func blocked(_ isBlocked: Bool) { self.isBlocked = isBlocked }

    /// There is a new connection: permissions may have changed since the last one.
    mutating func connected() {
        if directRefusal?.until == nil { directRefusal = nil }
    }

    /// Connection or channel is gone, so nothing is confirmed any more: what was in flight is sent again.
    ///
    /// When the broker closed because of a message, it does not say which one. If only one was in flight, it fails with
    /// the broker's words; otherwise each of them goes out alone next time.
    ///
    /// Direct messages go to queues that somebody else named, and are copies of what is published elsewhere. Some names
    /// make the broker close the connection every time; so if it did and there was a direct message among those in flight,
    /// all that wait are given up, and more of them are refused for ``directPause``, however often it connects. If this
    /// user may not write to queues, they are given up and refused as long as the connection lasts.
    mutating func connectionLost(_ error: ReloadError, now: ContinuousClock.Instant = .now) -> [Settled] {
        isBlocked = false
        resumesAt = nil
        var unconfirmed = inFlight.keys.sorted().compactMap { inFlight[$0] }
        inFlight = [:]
        for index in unconfirmed.indices { unconfirmed[index].returned = nil }
        let unsent = sending.map { [$0] } ?? []
        sending = nil
        if !error.isChannelOnly, error.blamesMessage || error.broker?.replyCode == 541,
            unconfirmed.contains(where: \.isDirect)
        {
            waiting.prepend(unconfirmed + unsent)
            return refuseDirect(error, until: now + Self.directPause) + dropOverflow()
        }
        guard error.blamesMessage, !unconfirmed.isEmpty else {
            waiting.prepend(unconfirmed + unsent)
            return dropOverflow()
        }
        if unconfirmed.count == 1 {
            waiting.prepend(unsent)
            var settled = [settle(unconfirmed[0], .failure(error))]
            if unconfirmed[0].isDirect, error.code == .brokerAccessRefused {
                settled += refuseDirect(error, until: nil)
            }
            return settled + dropOverflow()
        }
        suspects = max(suspects, unconfirmed.count)
        waiting.prepend(unconfirmed + unsent)
        return dropOverflow()
    }

    /// Gives up everything.
    mutating func close(_ error: ReloadError) -> [Settled] {
        _ = connectionLost(error)
        var settled: [Settled] = []
        while let message = waiting.popFirst() { settled.append(settle(message, .failure(error))) }
        return settled
    }

    /// Gives up all direct messages, and refuses more of them.
    private mutating func refuseDirect(_ error: ReloadError, until: ContinuousClock.Instant?) -> [Settled] {
        directRefusal = (error, until)
        var settled: [Settled] = []
        var kept: [QueuedMessage] = []
        var suspectsKept = 0
        while let message = waiting.popFirst() {
            if message.isDirect {
                settled.append(Settled(message: message, result: .failure(error)))
            } else {
                if settled.count + kept.count < suspects { suspectsKept += 1 }
                kept.append(message)
            }
        }
        waiting.prepend(kept)
        suspects = suspectsKept
        return settled
    }

    private mutating func remove(_ sequence: UInt64, multiple: Bool) -> [QueuedMessage] {
        guard multiple else { return inFlight.removeValue(forKey: sequence).map { [$0] } ?? [] }
        var removed: [QueuedMessage] = []
        guard let last = inFlight.keys.max() else { return [] }
        // 0 means everything.
        let newest = sequence == 0 ? last : min(sequence, last)
        while oldest <= newest {
            if let message = inFlight.removeValue(forKey: oldest) { removed.append(message) }
            oldest += 1
        }
        return removed
    }

    private mutating func settle(_ message: QueuedMessage, _ result: Result<Void, ReloadError>) -> Settled {
        // Suspects are at the front, so whatever is settled while there are any is one of them.
        suspects = max(0, suspects - 1)
        return Settled(message: message, result: result)
    }

    private mutating func dropOverflow() -> [Settled] {
        var dropped: [Settled] = []
        while waiting.count > limit, let message = waiting.popFirst() {
            let error = ReloadError(
                .brokerOutboxFull, "the outbox holds \(limit) newer messages", operation: "basic.publish")
            dropped.append(settle(message, .failure(error)))
        }
        return dropped
    }
}

extension ReloadError {
    /// Whether a message that was published made the broker close: by its exchange, permissions, size or properties.
    fileprivate var blamesMessage: Bool {
        switch broker?.replyCode {
        case 311, 313, 403, 404, 406, 501, 502, 503, 505, 540: true
        default: false
        }
    }
}

/// First in, first out, with a cheap front.
private struct Queue: Sendable {
    private var elements: [QueuedMessage?] = []
    private var head = 0

    var count: Int { elements.count - head }
    var isEmpty: Bool { count == 0 }

    mutating func append(_ element: QueuedMessage) { elements.append(element) }

    mutating func prepend(_ front: [QueuedMessage]) {
        guard !front.isEmpty else { return }
        elements.replaceSubrange(0..<head, with: front)
        head = 0
    }

    mutating func popFirst() -> QueuedMessage? {
        guard head < elements.count else { return nil }
        let element = elements[head]
        elements[head] = nil
        head += 1
        if head * 2 > elements.count {
            elements.removeFirst(head)
            head = 0
        }
        return element
    }
}
