internal import FoundationEssentials
internal import ReloadAMQP
public import ReloadProtocol

/// One request on its way: who is there, publish, wait for the answers.
///
/// ```swift
/// var run = RequestRun(request, on: fleet, wait: .all)
/// try run.run()
/// run.answers.isComplete
/// ```
public struct RequestRun: Sendable {
    /// Whose answers are waited for.
    public enum Wait: Sendable, Equatable {
        /// Those of every present instance that is meant.
        case all
        /// This many, whoever they are.
        case count(Int)
    }

    /// Whether the request was published: certain only with a confirm, or when it was never sent or refused.
    public enum Fate: String, Sendable, Encodable {
        /// Nobody can have it.
        case no
        /// It was sent and not confirmed.
        case unknown
        /// The broker has it.
        case yes
    }

    private enum Progress {
        /// Nothing was sent, or not all of it.
        case unsent
        /// Sent, and no confirm came: the broker may have it or not.
        case unconfirmed
        /// Nobody took it.
        case refused
        case confirmed
    }

    /// The `message_id`, by which instances name it in their answers.
    public let id = UUID().uuidString.lowercased()
    /// What is asked.
    public let request: Request
    let fleet: Fleet
    let wait: Wait
    /// What it is signed with, if anything.
    let key: SigningKey?
    /// Is given a copy after each step, for who has to speak for a thread that hangs.
    package var onStep: (@Sendable (RequestRun) -> Void)?

    /// Who was there, and what they have reported since.
    public private(set) var view = FleetView()
    /// How they answered.
    public private(set) var answers: Answers
    private var progress = Progress.unsent {
        didSet { onStep?(self) }
    }
    /// Why the stream could not be read to the end of the wait.
    public private(set) var problem: ReloadError?
    /// Whether the limit ended the wait because it was cancelled.
    public private(set) var wasCancelled = false

    /// Prepares a request; nothing is sent yet.
    ///
    /// - Parameters:
    ///   - request: What is asked.
    ///   - fleet: Whom.
    ///   - wait: Whose answers are waited for.
    ///   - key: What it is signed with; nil leaves it unsigned.
    public init(_ request: Request, on fleet: Fleet, wait: Wait = .all, key: SigningKey? = nil) {
        self.request = request
        self.fleet = fleet
        self.wait = wait
        self.key = key
        answers = Answers(request: id, to: request.destination, goal: .count(0))
    }

    /// Whether the request was published.
    public var published: Fate {
        switch progress {
        case .unsent, .refused: .no
        case .unconfirmed: .unknown
        case .confirmed: .yes
        }
    }

    /// Publishes and waits.
    ///
    /// - Parameters:
    ///   - begun: Is called when the request is confirmed and it is known whose answers are awaited.
    ///   - changed: Is called after each answer, then with whose it is, after each `applying`, and once a second.
    /// - Throws: when the request is not confirmed; see ``published``. Once it is, nothing is thrown, and the limit ends the
    ///   wait.
    public mutating func run(
        begun: (RequestRun) -> Void = { _ in }, changed: (RequestRun, Instance?) -> Void = { _, _ in }
    ) throws(ReloadError) {
        onStep?(self)
        var publisher = try ConfirmingPublisher(fleet)
        var follower: ReportFollower?
        switch wait {
        case .count(0):
            break
        case .count(let count):
            follower = try ReportFollower(fleet)
            answers = Answers(request: id, to: request.destination, goal: .count(count))
        case .all:
            var presence = try StreamReader(fleet, fleet.topology.reports, from: .age(FleetView.window))
            var view = view
            try readToMarker(&presence, &publisher, fleet) { fleet.fold($0, into: &view) }
            // The marker came, at the latest.
            if let end = presence.first { try fleet.addEarlier(than: end, to: &view, matching: request.destination) }
            self.view = view
            let present = Set(view.present(matching: request.destination).keys)
            answers = Answers(request: id, to: request.destination, goal: .all(present))
            follower = ReportFollower(fleet, presence)
        }
        try publish(with: &publisher)
        publisher.close()
        begun(self)
        // The request is out: whatever happens to the connection now, the stream keeps the answers, and only the limit ends
        // the wait.
        do throws(ReloadError) {
            while !answers.isComplete {
                if follower?.problem != nil { onStep?(self) }
                guard let report = try follower?.next() else {
                    changed(self, nil)
                    continue
                }
                view.fold(report)
                let sender = answers.fold(report)
                changed(self, sender)
            }
        } catch {
            problem = follower?.problem
            wasCancelled = error.code == .brokerCancelled
        }
    }

    private mutating func publish(with publisher: inout ConfirmingPublisher) throws(ReloadError) {
        let envelope = try self.envelope()
        try fleet.check()
        let number = try publisher.send(envelope, exchange: fleet.topology.controlExchange, routingKey: "")
        progress = .unconfirmed
        do throws(ReloadError) {
            try publisher.awaitConfirm(number)
        } catch {
            // A refusal of the whole channel is certain; silence is not, nor is a basic.nack, which one of several queues is
            // enough for.
            if error.isChannelOnly || error.code == .brokerUnroutable || error.code == .brokerBadMessage {
                progress = .refused
            }
            throw error
        }
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
        try key?.sign(&envelope, exchange: fleet.topology.controlExchange)
        return envelope
    }
}
