internal import Foundation
internal import Logging
internal import Metrics
internal import Synchronization

/// Whose requests are carried out.
extension Reloader {
    /// How much later than here it may be where a request was issued.
    private static let clockTolerance: TimeInterval = 300

    /// Throws when the message may not be carried out: because of its signature, of what its key may change, or of the time at
    /// which it was issued. Without trusted keys everything may.
    func authenticate(_ envelope: Envelope, _ request: Request) throws(ReloadError) {
        if let keys = try settings.trustedKeys?.current() {
            let key = try keys.signer(of: envelope, exchange: settings.controlExchange)
            guard let issued = request.issuedAt else {
                throw ReloadError(.messageInvalid, "issued_at: missing; a signed request has one")
            }
            guard issued.timeIntervalSince(now()) <= Self.clockTolerance else {
                throw ReloadError(
                    .messageFromFuture,
                    "it was issued at \(ReloadJSON.text(issued)), and here it is \(ReloadJSON.text(now()))")
            }
            try take(request, issued, signedWith: key)
        }
        let issued = request.issuedAt ?? envelope.timestamp.map { Date(timeIntervalSince1970: Double($0)) } ?? now()
        state.withLock { state in
            state.newestRequest = max(state.newestRequest ?? .distantPast, min(issued, now()))
        }
    }

    /// All of its modules, or none: what is refused leaves no trace.
    private func take(_ request: Request, _ issued: Date, signedWith key: TrustedKeys.Key) throws(ReloadError) {
        let named = state.withLock { state in request.modules.compactMap { state.modules[$0.name] } }
        for module in named {
            let target = module.target
            guard key.mayChange(target.name, target.kind) else {
                throw ReloadError(
                    .messageKeyNotAllowed,
                    "the key \(key.id)\(key.name.map { " (\($0))" } ?? "") may not change the \(target.kind.rawValue) \(target.name)"
                )
            }
            try module.withState({ $0.arrived }).check(request.operation, issued)
        }
        for module in named { module.withState { $0.arrived.take(request.operation, issued) } }
    }

    /// Answers a request that was read and is not carried out.
    func refuse(_ request: Request, _ error: ReloadError, _ ticket: Ticket) {
        logger.warning(
            "reload request refused",
            metadata: [
                "request": "\(ticket.id ?? "")", "code": "\(error.code)", "reason": "\(error.message)",
                "origin": "\(request.origin?.excerpt ?? "")",
            ])
        workers.run { [self] in
            answer(ticket, Attempt.Outcome(state: error.state, code: error.code, message: error.message))
        }
    }

    /// Tells the metrics how long ago the newest request was issued: whoever withholds requests cannot keep it from growing.
    func recordRequestAge() {
        let (newest, modules) = state.withLock { ($0.newestRequest, $0.modules.values) }
        let kept = modules.compactMap { $0.withState { $0.answered.newest } }.max()
        let times = [newest, kept.map { Date(timeIntervalSince1970: Double($0) / 1000) }].compactMap(\.self)
        if let last = times.max() { requestAge.record(max(0, now().timeIntervalSince(last))) }
    }
}
