import Testing

@testable import ReloadAMQP

@Suite(.timeLimit(.minutes(5))) struct BacklogTests {
    private let start = ContinuousClock.now

    private func isBefore(_ one: ContinuousClock.Instant?, _ other: ContinuousClock.Instant?) -> Bool {
        guard let one, let other else { return false }
        return one < other
    }

    @Test func theEndIsThereWhenTheProbesFirstMessageIsReachedAndNothingMoreComes() {
        var backlog = Backlog()
        #expect(backlog.ends == nil)
        backlog.arrived(5, at: start)
        let unknown = backlog.ends
        backlog.probeArrived(7, isBeforeStart: false, at: start)
        backlog.probeArrived(9, isBeforeStart: false, at: start)
        backlog.arrived(6, at: start)
        #expect(backlog.ends == unknown)
        backlog.arrived(7, at: start)
        let known = backlog.ends
        #expect(isBefore(known, unknown))
        backlog.arrived(8, at: start + .milliseconds(10))
        #expect(backlog.ends == known.map { $0 + .milliseconds(10) })
        #expect(backlog.suspectUntil == nil)
    }

    @Test func messagesThatKeepComingDoNotHoldItUpForEver() {
        var backlog = Backlog()
        backlog.probeArrived(0, isBeforeStart: false, at: start)
        for milliseconds in 0..<3000 {
            backlog.arrived(Int64(milliseconds), at: start + .milliseconds(milliseconds))
        }
        #expect(isBefore(backlog.ends, start + .milliseconds(2999)))
    }

    @Test func aProbeThatIsLateFindsTheEndReached() {
        var early = Backlog()
        early.probeArrived(0, isBeforeStart: false, at: start)
        early.arrived(0, at: start)
        var late = Backlog()
        late.arrived(0, at: start)
        #expect(late.ends != early.ends)
        late.probeArrived(0, isBeforeStart: false, at: start)
        #expect(late.ends == early.ends)
    }

    @Test func aShorterStreamWasMadeAnewWhenTheBrokerAnswersAndTheReaderGetsNothing() {
        var backlog = Backlog()
        backlog.probeArrived(2, isBeforeStart: true, at: start)
        #expect(backlog.suspectUntil != nil)
        #expect(!backlog.isConfirmed)
        backlog.brokerAnswered(at: start + .seconds(1))
        #expect(backlog.isConfirmed)
        #expect(isBefore(start + .seconds(1), backlog.suspectUntil))
        backlog.arrived(10, at: start)
        #expect(backlog.suspectUntil == nil)
    }

    @Test func aProbeThatComesToTheStartTakesTheSuspicionAway() {
        var backlog = Backlog()
        backlog.probeArrived(2, isBeforeStart: true, at: start)
        backlog.probeArrived(3, isBeforeStart: false, at: start)
        #expect(backlog.suspectUntil == nil)
    }

    @Test func aQueueEndsWithItsLastMessageOrWhenTheRestHasExpired() {
        var backlog = Backlog(count: 2, at: start)
        let silent = backlog.ends
        #expect(isBefore(start, silent))
        backlog.arrived(at: start + .milliseconds(10))
        #expect(backlog.ends == silent.map { $0 + .milliseconds(10) })
        backlog.arrived(at: start + .milliseconds(20))
        #expect(backlog.ends == start + .milliseconds(20))
    }
}
