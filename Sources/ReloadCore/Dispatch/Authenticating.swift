internal import FoundationEssentials
internal import Logging
internal import Metrics
internal import ReloadProtocol
internal import Synchronization

/// Whose requests are carried out.
extension Reloader {
    /// How much later than here it may be where a request was issued.
    private static let clockTolerance: TimeInterval = 300
    /// For how long a request stands that changes nothing, so that nothing else tells a recorded one.
    private static let questionLifetime: TimeInterval = 600

    /// Throws unless a trusted key signed the message and it is still valid. Without trusted keys everybody may.
    func authenticate(_ envelope: Envelope, _ request: Request) throws(ReloadError) {
        if let keys = try settings.trustedKeys?.current() {
            let key = try keys.signer(of: envelope, exchange: settings.controlExchange)
            try checkTime(of: request)
            try checkScope(of: key, request)
        }
        let now = now()
        let issued = request.issuedAt ?? envelope.timestamp.map { Date(timeIntervalSince1970: Double($0)) } ?? now
        let newest = state.withLock { state in
            state.newestRequest = max(state.newestRequest, min(issued, now))
            return state.newestRequest
        }
        ledger.newestRequest = newest
    }

    private func checkTime(of request: Request) throws(ReloadError) {
        guard let issued = request.issuedAt else {
            throw ReloadError(.messageInvalid, "issued_at: missing; a signed request has one")
        }
        let age = now().timeIntervalSince(issued)
        guard age >= -Self.clockTolerance else {
            throw ReloadError(
                .messageFromFuture,
                "it was issued at \(ReloadJSON.text(issued)), and here it is \(ReloadJSON.text(now()))")
        }
        if let expires = request.expiresAt, expires < issued {
            throw ReloadError(.messageInvalid, "expires_at: before issued_at")
        }
        let isQuestion = request.operation == .validate || request.operation == .inventory
        guard !isQuestion || age <= Self.questionLifetime else {
            throw ReloadError(
                .messageExpired,
                "it was issued at \(ReloadJSON.text(issued)); signed, \(request.operation.rawValue) stands for \(Int(Self.questionLifetime)) s"
            )
        }
    }

    /// A module that is not here may be registered before the request is carried out.
    private func checkScope(of key: TrustedKeys.Key, _ request: Request) throws(ReloadError) {
        let targets = state.withLock { $0.modules.mapValues(\.target.kind) }
        for module in request.modules {
            let kinds = (targets[module.name] ?? module.kind).map { [$0] } ?? ModuleKind.allCases
            for kind in kinds where !key.mayChange(module.name, kind) {
                throw ReloadError(
                    .messageKeyNotAllowed,
                    "the key \(key.id)\(key.name.map { " (\($0))" } ?? "") may not change the \(kind.rawValue) \(module.name)"
                        .excerpt)
            }
        }
    }

    /// Throws when a signed request was issued before one that it must not undo; else that one is this one for those that come.
    /// All of its modules, or none: what is refused leaves no trace.
    func order(_ request: Request, _ id: String?) throws(ReloadError) {
        guard settings.trustedKeys != nil else { return }
        let named = named(in: request)
        for module in named { try module.withState({ $0.issueTimes }).check(request, id) }
        for module in named { module.withState { $0.issueTimes.note(request, id) } }
    }

    /// These are answered: from now on the ledger says so.
    func noteIssue(of jobs: [ReloadJob]) {
        guard settings.trustedKeys != nil else { return }
        for job in jobs {
            for module in named(in: job.request) {
                module.withState { $0.answeredIssueTimes.note(job.request, job.ticket.id) }
            }
        }
    }

    private func named(in request: Request) -> [RegisteredModule] {
        state.withLock { state in request.modules.compactMap { state.modules[$0.name] } }
    }

    /// Answers a request that was read and is not carried out.
    func refuse(_ envelope: Envelope, _ request: Request, _ error: ReloadError, _ ticket: Ticket) {
        logger.warning(
            "reload request refused",
            metadata: [
                "request": "\(ticket.id ?? "")", "code": "\(error.code)", "reason": "\(error.message)",
                "origin": "\(request.origin?.excerpt ?? "")",
            ])
        refusalAnswer(envelope, error, ticket)()
    }

    /// Tells the metrics how long ago the newest request was issued: whoever withholds requests cannot keep it from growing.
    func recordRequestAge() {
        let newest = state.withLock { $0.newestRequest }
        requestAge.record(max(0, now().timeIntervalSince(newest)))
    }
}

extension Ticket {
    /// For a message that nobody is known to have signed. It is sent to nobody of its own choice either: that would be with this
    /// agent's rights.
    mutating func distrust() {
        isRemembered = false
        replyTo = nil
    }
}

extension Envelope {
    /// About how many bytes it takes until it is answered.
    var footprint: Int {
        headers.reduce(1024 + body.count) { sum, header in
            if case .string(let text) = header.value { sum + header.key.utf8.count + text.utf8.count } else { sum + 64 }
        }
    }
}
