import Testing

@testable import ReloadAMQP

@Suite struct OffsetTrackerTests {
    private let start = ContinuousClock.now

    private func attachedTracker() -> OffsetTracker {
        var tracker = OffsetTracker()
        tracker.attached(askedAt: start)
        return tracker
    }

    @Test func aFreshConsumerBeginsAtTheEnd() {
        var tracker = OffsetTracker()
        #expect(tracker.start(now: start) == .next)
        // Nothing was attached, so nothing can have been missed.
        #expect(tracker.start(now: start + .seconds(60)) == .next)
        tracker.attached(askedAt: start)
        #expect(tracker.arrived(7, tag: 1) == .handOut)
    }

    @Test func withoutAMessageItAsksForTheTimeSinceItsFirstAttachment() {
        var tracker = attachedTracker()
        #expect(tracker.start(now: start + .seconds(100)) == .age(seconds: 130))
        tracker.attached(askedAt: start + .seconds(100))
        #expect(tracker.start(now: start + .seconds(200)) == .age(seconds: 230))
    }

    @Test func resumesAtTheOldestInFlight() {
        var tracker = attachedTracker()
        for offset in Int64(10)...14 { #expect(tracker.arrived(offset, tag: UInt64(offset)) == .handOut) }
        #expect(tracker.settled(10, incarnation: 0) == .settle(tag: 10))
        #expect(tracker.settled(12, incarnation: 0) == .settle(tag: 12))
        #expect(tracker.start(now: start) == .offset(11))

        tracker.attached(askedAt: start)
        #expect(tracker.arrived(11, tag: 1) == .keep)
        #expect(tracker.arrived(12, tag: 2) == .acknowledge)
        // 13 has not arrived again yet: its acknowledgement goes out when it does.
        #expect(tracker.settled(13, incarnation: 0) == .later)
        #expect(tracker.arrived(13, tag: 3) == .acknowledge)
        #expect(tracker.arrived(14, tag: 4) == .keep)
        #expect(tracker.arrived(15, tag: 5) == .handOut)
        #expect(tracker.settled(11, incarnation: 0) == .settle(tag: 1))
        #expect(tracker.settled(14, incarnation: 0) == .settle(tag: 4))
        #expect(tracker.settled(15, incarnation: 0) == .settle(tag: 5))
    }

    @Test func resumesInclusivelyAtTheLastWhenAllIsSettled() {
        var tracker = attachedTracker()
        #expect(tracker.arrived(3, tag: 1) == .handOut)
        #expect(tracker.settled(3, incarnation: 0) == .settle(tag: 1))
        #expect(tracker.start(now: start) == .offset(3))
        tracker.attached(askedAt: start)
        #expect(tracker.arrived(3, tag: 1) == .acknowledge)
        #expect(tracker.arrived(9, tag: 2) == .handOut)
    }

    @Test func tagsOfALostConnectionAreNeverUsed() {
        var tracker = attachedTracker()
        #expect(tracker.arrived(3, tag: 77) == .handOut)
        tracker.attached(askedAt: start)
        #expect(tracker.settled(3, incarnation: 0) == .later)
    }

    @Test func settlingTwiceIsStale() {
        var tracker = attachedTracker()
        #expect(tracker.arrived(3, tag: 1) == .handOut)
        #expect(tracker.settled(3, incarnation: 0) == .settle(tag: 1))
        #expect(tracker.settled(3, incarnation: 0) == .stale)
        #expect(tracker.settled(99, incarnation: 0) == .stale)
    }

    @Test func aNewStreamIsReadFromItsFirstMessage() {
        var tracker = attachedTracker()
        #expect(tracker.arrived(1000, tag: 1) == .handOut)
        tracker.streamDeleted()
        #expect(tracker.start(now: start) == .first)
        tracker.attached(askedAt: start)
        // Lost before the new stream brought anything: still from the first.
        #expect(tracker.start(now: start) == .first)
        #expect(tracker.arrived(0, tag: 1) == .handOut)
        #expect(tracker.settled(1000, incarnation: 0) == .stale)
        #expect(tracker.settled(0, incarnation: 0) == .stale)
        #expect(tracker.settled(0, incarnation: 1) == .settle(tag: 1))
    }
}
