/// Finds the end of what was in the stream when a consumer attached to it.
///
/// A broker does not say where a stream ends. So a second consumer, the probe, is attached at its last chunk: the first
/// message it brings is one that the reader has to reach. A chunk may hold more messages, which arrive at once, so the end is
/// there when nothing has come for a moment after that.
///
/// The probe also shows a stream that was made anew and is still shorter than the old one: an offset beyond its end is
/// silence for ever, while the probe brings smaller ones.
struct Backlog {
    typealias Instant = ContinuousClock.Instant

    /// How long nothing comes at the end.
    private static let pause = Duration.milliseconds(20)
    /// The same when the reader has not reached what the probe brought, and before a stream counts as made anew.
    private static let silence = Duration.milliseconds(500)

    /// Consumer tag of the probe.
    let probe: String
    /// When the stream counts as made anew, if nothing comes to the reader before.
    private(set) var wasMadeAnew: Instant?
    /// The broker has answered since the stream came under suspicion: it is not just slow.
    private(set) var isConfirmed = false
    private var target: Int64?
    private var last: (offset: Int64, at: Instant)?

    init(probe: String) {
        self.probe = probe
    }

    /// When the end is there, if nothing comes before.
    var ends: Instant? {
        last.map { last in
            let hasReachedTarget = target.map { last.offset >= $0 } ?? false
            return last.at + (hasReachedTarget ? Self.pause : Self.silence)
        }
    }

    /// The probe brought a message.
    ///
    /// - Parameter isBeforeStart: it is older than what the reader asked for and has not got.
    mutating func probeArrived(_ offset: Int64, isBeforeStart: Bool, at now: Instant) {
        target = target ?? offset
        wasMadeAnew = isBeforeStart ? now + Self.silence : nil
    }

    /// The reader got a message.
    mutating func arrived(_ offset: Int64, at now: Instant) {
        wasMadeAnew = nil
        last = (offset, now)
    }

    /// The broker answered a request.
    mutating func brokerAnswered(at now: Instant) {
        isConfirmed = true
        wasMadeAnew = now + Self.silence
    }
}
