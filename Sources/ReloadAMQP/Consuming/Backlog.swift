/// Finds the end of what was there when a consumer attached, so that of many requests for a module only the newest is
/// loaded.
///
/// A queue says how many messages it holds; some of them may have expired and never come. A stream does not say where it
/// ends. So a second consumer, the probe, is attached at its last chunk: the first message it brings is one that the reader
/// has to reach. A chunk may hold more messages, which arrive at once, so the end is there when nothing has come for a
/// moment after that.
///
/// The probe also shows a stream that was made anew and is still shorter than the old one: an offset beyond its end is
/// silence for ever, while the probe brings smaller ones.
struct Backlog {
    typealias Instant = ContinuousClock.Instant

    /// How long nothing comes after the last message.
    private static let pause = Duration.milliseconds(20)
    /// The longest time in which messages may come after that one: others are published without a pause.
    private static let patience = Duration.seconds(1)
    /// How long nothing comes when the last message is not known, and before a stream counts as made anew.
    private static let silence = Duration.milliseconds(500)

    /// When the stream counts as made anew, if nothing comes to the reader before.
    private(set) var suspectUntil: Instant?
    /// The broker has answered since the stream came under suspicion: it is not just slow.
    private(set) var isConfirmed = false
    private var target: Int64?
    private var last: (offset: Int64, at: Instant)?
    private var reachedAt: Instant?
    /// Messages of a queue that have not come yet.
    private var missing: Int?

    /// What is on a stream.
    init() {}

    /// What is in a queue.
    init(count: Int, at now: Instant) {
        missing = count
        last = (0, now)
    }

    /// When the end is there, if nothing comes before.
    var ends: Instant? {
        guard let last else { return nil }
        if let missing { return missing == 0 ? last.at : last.at + Self.silence }
        guard let reachedAt else { return last.at + Self.silence }
        return min(last.at + Self.pause, reachedAt + Self.patience)
    }

    /// The probe brought a message.
    ///
    /// - Parameter isBeforeStart: it is older than what the reader asked for and has not got.
    mutating func probeArrived(_ offset: Int64, isBeforeStart: Bool, at now: Instant) {
        target = target ?? offset
        suspectUntil = isBeforeStart ? now + Self.silence : nil
        lookForTarget()
    }

    /// The reader got a message; one from a queue has no offset.
    mutating func arrived(_ offset: Int64 = 0, at now: Instant) {
        suspectUntil = nil
        last = (offset, now)
        missing = missing.map { max(0, $0 - 1) }
        lookForTarget()
    }

    private mutating func lookForTarget() {
        guard reachedAt == nil, let target, let last, last.offset >= target else { return }
        reachedAt = last.at
    }

    /// The broker answered a request.
    mutating func brokerAnswered(at now: Instant) {
        isConfirmed = true
        suspectUntil = now + Self.silence
    }
}
