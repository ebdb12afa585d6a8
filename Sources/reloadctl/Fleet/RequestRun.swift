internal import Foundation
internal import ReloadAMQP
internal import ReloadCore

/// One request on its way: who is there, publish, wait for the answers.
struct RequestRun {
    /// How far it came.
    enum Progress {
        /// Nothing was sent.
        case unsent
        /// Begun, and not all of it was sent: nobody can have it.
        case sending
        /// Sent, and no confirm came: the broker may have it or not.
        case unconfirmed
        /// The broker has it.
        case confirmed
    }

    let id = UUID().uuidString.lowercased()
    var request: Request
    let link: Link
    let wait: WaitArgument
    /// What it is signed with, if anything.
    let key: SigningKey?
    /// What is said if the command hangs where nothing ends it; see ``Interruption/setLastWords(_:)``.
    var lastWords: (@Sendable (RequestRun) -> ExitStatus)?

    private(set) var view = FleetView()
    private(set) var answers: Answers
    private(set) var progress = Progress.unsent {
        didSet { keepLastWords() }
    }
    /// Why the stream could not be read to the end of the wait.
    private(set) var problem: BrokerError?
    /// The signal that ended the wait.
    private(set) var signal: Int32?

    init(_ request: Request, on link: Link, wait: WaitArgument, key: SigningKey?) {
        self.request = request
        self.link = link
        self.wait = wait
        self.key = key
        answers = Answers(request: id, to: request.destination, goal: .count(0))
    }

    /// Publishes and waits.
    ///
    /// - Parameters:
    ///   - begun: Is called when the request is confirmed and it is known whose answers are awaited.
    ///   - changed: Is called after each answer, then with whose it is, after each `applying`, and once a second.
    /// - Throws: ``BrokerError`` or ``Interrupted`` when the request is not confirmed; see ``progress``. Once it is, nothing
    ///   is thrown, and the time or a signal ends the wait.
    mutating func run(begun: (RequestRun) -> Void, changed: (RequestRun, Instance?) -> Void) throws {
        keepLastWords()
        var publisher = try ConfirmingPublisher(link)
        var follower: ReportFollower?
        switch wait {
        case .count(0):
            break
        case .count(let count):
            follower = ReportFollower(link, try StreamReader(link, link.topology.reports, from: .next))
            answers = Answers(request: id, to: request.destination, goal: .count(count))
        case .all:
            var presence = try StreamReader(link, link.topology.reports, from: .age(FleetView.window))
            var view = view
            try readToMarker(&presence, &publisher, link) { delivery in
                if let report = delivery.report() { view.fold(report) }
            }
            self.view = view
            let present = Set(view.present(matching: request.destination).keys)
            answers = Answers(request: id, to: request.destination, goal: .all(present))
            follower = ReportFollower(link, presence)
        }
        try publish(with: &publisher)
        publisher.close()
        begun(self)
        // The request is out: whatever happens to the connection now, the stream keeps the answers, and only the time or
        // a signal ends the wait.
        do {
            while !answers.isComplete {
                if follower?.problem != nil { keepLastWords() }
                try follower?.reconnect()
                guard let report = try follower?.next() else {
                    changed(self, nil)
                    continue
                }
                view.fold(report)
                let sender = answers.fold(report)
                changed(self, sender)
            }
        } catch {
            signal = link.interruption.signal
            problem = follower?.problem
        }
    }

    private func keepLastWords() {
        guard let lastWords else { return }
        link.interruption.setLastWords { lastWords(self) }
    }

    /// The main thread hangs, and the watching one speaks for it.
    mutating func hung() -> BrokerError {
        signal = link.interruption.signal
        problem = .unending
        return .unending
    }

    private mutating func publish(with publisher: inout ConfirmingPublisher) throws {
        let envelope = try self.envelope()
        try link.check()
        progress = .sending
        let number = try publisher.send(envelope, exchange: link.topology.controlExchange, routingKey: "")
        progress = .unconfirmed
        try publisher.awaitConfirm(number)
        progress = .confirmed
    }
}

extension RequestRun {
    private func envelope() throws(ReloadError) -> Envelope {
        var envelope = Envelope(
            body: try request.encode(), type: Request.protocolName, id: id, correlationID: id,
            appID: Report.reservedService)
        if let expiresAt = request.expiresAt {
            envelope.expiration = "\(max(1, Int64(expiresAt.timeIntervalSinceNow * 1000)))"
        }
        if let destination = request.destination {
            envelope.headers[Request.destinationHeader] = .string(destination.pattern)
        }
        try key?.sign(&envelope, exchange: link.topology.controlExchange)
        return envelope
    }
}
