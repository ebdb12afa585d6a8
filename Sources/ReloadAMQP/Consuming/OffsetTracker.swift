/// Which messages of a stream a consumer has had, across connections.
///
/// The broker keeps no position for a stream's consumers, so this does: after a reconnect it asks again for the oldest
/// message that is not settled, and tells those that were handed out before from new ones. Offsets arrive in ascending
/// order on each attachment; so everything up to the last one is either in flight or done, and the number of messages in
/// flight (the prefetch) bounds what it stores.
struct OffsetTracker: Sendable {
    /// Where to attach to the stream.
    enum Start: Equatable {
        /// After everything that is there.
        case next
        /// At the oldest message there is.
        case first
        /// At this offset, inclusive.
        case offset(Int64)
        /// At what was published this many seconds ago by the broker's own clock.
        case age(seconds: Int64)
    }

    /// What to do with a message that arrived.
    enum Arrival: Equatable {
        /// It is new.
        case handOut
        /// It is still being worked on since an earlier connection; its acknowledgement will use the new tag.
        case keep
        /// It was settled before; tell the broker so.
        case acknowledge
    }

    /// What to do when someone settles an offset.
    enum Settlement: Equatable {
        /// Tell the broker about this delivery tag.
        case settle(tag: UInt64)
        /// It has not arrived again on this connection; it will be acknowledged when it does.
        case later
        /// It was settled before, or belongs to a stream that is gone.
        case stale
    }

    /// Counts the streams seen: offsets of one that was deleted mean nothing on the next.
    private(set) var incarnation: UInt64 = 0
    /// Offsets handed out and not settled, with the tag on the present connection if they have arrived on it.
    private var inFlight: [Int64: UInt64?] = [:]
    private var last: Int64?
    private var firstAttachment: ContinuousClock.Instant?
    private var beginsAtFirst = false

    /// Where to attach now.
    ///
    /// The hard case is a connection that was lost before it brought any message: the offset is unknown, and `next` would
    /// lose what was published since. An age is what the broker resolves by its own clock, so clocks that differ do not
    /// matter, only the time that passed here since the first attachment was asked for. The margin covers rounding and a
    /// clock that was stepped; the price is that messages from just before the start may be handed out, which an agent
    /// tells by their revision.
    func start(now: ContinuousClock.Instant) -> Start {
        if let offset = inFlight.keys.min() ?? last { return .offset(offset) }
        if beginsAtFirst { return .first }
        guard let firstAttachment else { return .next }
        return .age(seconds: firstAttachment.duration(to: now).components.seconds + 30)
    }

    /// The broker has attached the consumer; `time` is when it was asked to.
    mutating func attached(askedAt time: ContinuousClock.Instant) {
        for offset in inFlight.keys { inFlight[offset] = .some(nil) }
        if firstAttachment == nil { firstAttachment = time }
    }

    /// A message arrived.
    mutating func arrived(_ offset: Int64, tag: UInt64) -> Arrival {
        if let last, offset <= last {
            guard inFlight[offset] != nil else { return .acknowledge }
            inFlight[offset] = .some(tag)
            return .keep
        }
        last = offset
        inFlight[offset] = .some(tag)
        return .handOut
    }

    /// A message is done with.
    mutating func settled(_ offset: Int64, incarnation: UInt64) -> Settlement {
        guard incarnation == self.incarnation, let tag = inFlight.removeValue(forKey: offset) else { return .stale }
        return tag.map { .settle(tag: $0) } ?? .later
    }

    /// The stream was deleted: a new one begins at its first message.
    mutating func streamDeleted() {
        incarnation += 1
        inFlight = [:]
        last = nil
        beginsAtFirst = true
    }
}
