import ReloadProtocol
import Testing

@testable import ReloadAMQP

@Suite(.timeLimit(.minutes(5))) struct OutboxTests {
    private let now = ContinuousClock.now

    private func message(_ id: String, routingKey: String = "k", mandatory: Bool = false) -> QueuedMessage {
        var envelope = Envelope(body: [])
        envelope.messageID = id
        return QueuedMessage(
            envelope: envelope, exchange: "e", routingKey: routingKey, mandatory: mandatory, completion: { _ in })
    }

    private func copy(_ id: String) -> QueuedMessage {
        var message = message(id, routingKey: "reply")
        message.exchange = ""
        return message
    }

    private func outbox(_ ids: String..., limit: Int = 10_000, window: Int = 256) -> Outbox {
        var outbox = Outbox(limit: limit, window: window)
        for id in ids { _ = outbox.add(message(id)) }
        return outbox
    }

    /// Sends as much as the outbox gives, numbered from `first`.
    private func send(_ outbox: inout Outbox, from first: UInt64 = 1) -> [String?] {
        var sent: [String?] = []
        while let message = outbox.take(now: now) {
            outbox.sent(first + UInt64(sent.count))
            sent.append(message.envelope.messageID)
        }
        return sent
    }

    private func names(_ settled: [Settled]) -> [String] {
        settled.map { message in
            let id = message.message.envelope.messageID ?? ""
            return switch message.result {
            case .success: id
            case .failure(let error): "\(id):\(error.code)"
            }
        }
    }

    private func refusal(_ replyCode: Int?) -> ReloadError {
        var error = ReloadError(.brokerNotFound, "no exchange", operation: "receive")
        error.broker?.replyCode = replyCode
        return error
    }

    @Test func confirmsSettleOneOrMany() {
        var outbox = outbox("a", "b", "c", "d")
        #expect(send(&outbox) == ["a", "b", "c", "d"])
        #expect(names(outbox.confirmed(2, multiple: false)) == ["b"])
        #expect(names(outbox.confirmed(3, multiple: true)) == ["a", "c"])
        #expect(!outbox.isEmpty)
        // What was never sent, and what is settled already, is nothing.
        #expect(names(outbox.confirmed(3, multiple: false)) == [])
        #expect(names(outbox.confirmed(.max, multiple: true)) == ["d"])
        #expect(outbox.isEmpty)
    }

    @Test func theOldestIsDroppedForANewOne() {
        var outbox = outbox("a", "b", limit: 2)
        #expect(names(outbox.add(message("c")).dropped) == ["a:broker.outbox_full"])
        #expect(send(&outbox) == ["b", "c"])
    }

    @Test func onlyTheFirstWaitingMessageWakes() {
        var outbox = Outbox(limit: 10)
        #expect(outbox.add(message("a")).wake)
        #expect(!outbox.add(message("b")).wake)
        _ = send(&outbox)
        #expect(outbox.add(message("c")).wake)
    }

    @Test func theWindowBoundsWhatIsUnconfirmed() {
        var outbox = outbox("a", "b", "c", window: 2)
        #expect(send(&outbox) == ["a", "b"])
        _ = outbox.confirmed(1, multiple: false)
        #expect(send(&outbox, from: 3) == ["c"])
    }

    @Test func nothingIsSentWhileBlocked() {
        var outbox = outbox("a")
        outbox.blocked(true)
        #expect(send(&outbox) == [])
        outbox.blocked(false)
        #expect(send(&outbox) == ["a"])
    }

    @Test func aReconnectSendsTheUnconfirmedAgainInOrder() {
        var outbox = outbox("a", "b", "c")
        _ = send(&outbox)
        _ = outbox.confirmed(2, multiple: false)
        _ = outbox.add(message("d"))
        // Taken and not sent when the connection broke.
        #expect(outbox.take(now: now)?.envelope.messageID == "d")
        outbox.blocked(true)
        #expect(names(outbox.connectionLost(refusal(nil))) == [])
        #expect(send(&outbox) == ["a", "c", "d"])
        #expect(names(outbox.confirmed(3, multiple: true)) == ["a", "c", "d"])
    }

    @Test func aRefusedMessageIsSentAgainAfterAPause() {
        var outbox = outbox("a", "b")
        _ = send(&outbox)
        #expect(names(outbox.refused(1, multiple: true, now: now)) == [])
        let pause = outbox.pause(now: now) ?? .zero
        #expect(pause >= .zero && pause <= .milliseconds(100))
        #expect(outbox.take(now: now + .seconds(5))?.envelope.messageID == "a")
        outbox.sent(3)
        #expect(outbox.pause(now: now) == nil)
        #expect(names(outbox.confirmed(3, multiple: false)) == ["a"])
    }

    @Test func aReturnedMessageFailsWithItsConfirm() {
        var outbox = Outbox(limit: 10)
        for (id, key, mandatory) in [("a", "k", false), ("b", "x", true), ("b", "k", true), ("b", "k", true)] {
            _ = outbox.add(message(id, routingKey: key, mandatory: mandatory))
        }
        _ = send(&outbox)
        let returned = Returned(
            envelope: message("b").envelope, exchange: "e", routingKey: "k", replyCode: 312, replyText: "NO_ROUTE")
        outbox.returned(returned)
        outbox.returned(returned)
        #expect(
            names(outbox.confirmed(4, multiple: true)) == ["a", "b", "b:broker.unroutable", "b:broker.unroutable"])
        // One that nobody remembers is no harm.
        outbox.returned(returned)
    }

    @Test func aCloseForTheOnlyMessageFailsIt() {
        var outbox = outbox("a")
        _ = send(&outbox)
        _ = outbox.add(message("b"))
        #expect(names(outbox.connectionLost(refusal(404))) == ["a:broker.not_found"])
        #expect(send(&outbox) == ["b"])
    }

    @Test func aCloseForOneOfManyFindsItOneByOne() {
        var outbox = outbox("a", "b", "c")
        _ = send(&outbox)
        #expect(names(outbox.connectionLost(refusal(404))) == [])
        _ = outbox.add(message("d"))
        #expect(send(&outbox) == ["a"])
        #expect(names(outbox.confirmed(1, multiple: false)) == ["a"])
        #expect(send(&outbox, from: 2) == ["b"])
        #expect(names(outbox.connectionLost(refusal(404))) == ["b:broker.not_found"])
        // c is the last suspect: d has to wait for it.
        #expect(send(&outbox) == ["c"])
        #expect(names(outbox.confirmed(1, multiple: false)) == ["c"])
        _ = outbox.add(message("e"))
        #expect(send(&outbox, from: 2) == ["d", "e"])
    }

    /// `amq.rabbitmq.reply-to.g1hkAA.x` makes RabbitMQ 3.10 close the connection of whoever publishes to it.
    /// A thousand of them cost one connection, and the reports go on.
    @Test func replyQueuesThatTheBrokerCannotBearAreGivenUpAtOnce() {
        var outbox = outbox("report")
        for number in 0..<1000 { _ = outbox.add(copy("copy \(number)")) }
        _ = outbox.add(message("last"))
        #expect(send(&outbox).count == 256)
        let given = names(outbox.connectionLost(refusal(541), now: now))
        #expect(given == (0..<1000).map { "copy \($0):broker.not_found" })
        outbox.connected()
        // For some time nobody's copies are tried, however often it connects.
        let (refused, wake) = outbox.add(copy("copy"), now: now + Outbox.directPause - .seconds(1))
        #expect(names(refused) == ["copy:broker.not_found"] && !wake)
        #expect(send(&outbox) == ["report", "last"])
        // What goes to an exchange of ours stays, whatever ails the broker.
        #expect(names(outbox.connectionLost(refusal(541), now: now)) == [])
        outbox.connected()
        #expect(names(outbox.add(copy("later"), now: now + Outbox.directPause).dropped) == [])
        #expect(send(&outbox) == ["report", "last", "later"])
    }

    /// Each would close the channel, of which a connection has 2047.
    @Test func aRefusedCopyTakesThoseThatWaitWithIt() {
        var outbox = outbox("report")
        for number in 0..<1000 { _ = outbox.add(copy("copy \(number)")) }
        _ = outbox.add(message("last"))
        #expect(send(&outbox).count == 256)
        var error = ReloadError(.brokerAccessRefused, "access to exchange 'amq.default' refused", operation: "receive")
        error.broker?.replyCode = 403
        error.broker?.isChannelOnly = true
        #expect(names(outbox.connectionLost(error)) == [])
        #expect(send(&outbox) == ["report"])
        #expect(names(outbox.confirmed(1, multiple: false)) == ["report"])
        #expect(send(&outbox) == ["copy 0"])
        #expect(names(outbox.connectionLost(error)) == (0..<1000).map { "copy \($0):broker.access_refused" })
        #expect(names(outbox.add(copy("more")).dropped) == ["more:broker.access_refused"])
        // Nobody is suspected any more.
        _ = outbox.add(message("another"))
        #expect(send(&outbox) == ["last", "another"])
        #expect(names(outbox.confirmed(2, multiple: true)) == ["last", "another"])
        // On the next connection it may be allowed.
        outbox.connected()
        _ = outbox.add(copy("allowed"))
        #expect(send(&outbox) == ["allowed"])
    }

    @Test func aBrokerThatStopsBlamesNoMessage() {
        var outbox = outbox("a")
        _ = send(&outbox)
        #expect(names(outbox.connectionLost(refusal(320))) == [])
        #expect(send(&outbox) == ["a"])
    }

    @Test func aMessageThatCannotBeSentFailsAlone() {
        var outbox = outbox("a", "b")
        _ = outbox.take(now: now)
        #expect(names(outbox.notSent(ReloadError(.brokerBadMessage, "", operation: ""))) == ["a:broker.bad_message"])
        #expect(send(&outbox) == ["b"])
    }

    @Test func closingFailsEverything() {
        var outbox = outbox("a", "b", "c", window: 1)
        _ = send(&outbox)
        let stopped = ReloadError(.brokerStopped, "", operation: "stop")
        #expect(names(outbox.close(stopped)) == ["a:broker.stopped", "b:broker.stopped", "c:broker.stopped"])
        #expect(outbox.isEmpty)
    }

    @Test func orderSurvivesManyMessages() {
        var outbox = Outbox(limit: 5000, window: 100)
        for number in 0..<5000 { _ = outbox.add(message("\(number)")) }
        var sent: [String?] = []
        var sequence: UInt64 = 1
        while !outbox.isEmpty {
            let batch = send(&outbox, from: sequence)
            sent += batch
            sequence += UInt64(batch.count)
            _ = outbox.confirmed(sequence - 1, multiple: true)
        }
        #expect(sent == (0..<5000).map { "\($0)" })
    }
}
