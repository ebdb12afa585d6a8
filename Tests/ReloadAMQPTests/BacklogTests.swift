import Testing

@testable import ReloadAMQP

@Suite struct BacklogTests {
    private let start = ContinuousClock.now

    @Test func theEndIsThereWhenTheProbesFirstMessageIsReachedAndNothingMoreComes() {
        var backlog = Backlog(probe: "probe")
        #expect(backlog.ends == nil)
        backlog.arrived(5, at: start)
        let unknown = backlog.ends
        backlog.probeArrived(7, isBeforeStart: false, at: start)
        backlog.probeArrived(9, isBeforeStart: false, at: start)
        backlog.arrived(6, at: start)
        #expect(backlog.ends == unknown)
        backlog.arrived(7, at: start)
        let known = backlog.ends
        #expect(known.map { known in unknown.map { known < $0 } ?? false } == true)
        backlog.arrived(8, at: start + .seconds(1))
        #expect(backlog.ends == known.map { $0 + .seconds(1) })
        #expect(backlog.wasMadeAnew == nil)
    }

    @Test func aProbeThatIsLateFindsTheEndReached() {
        var early = Backlog(probe: "probe")
        early.probeArrived(0, isBeforeStart: false, at: start)
        early.arrived(0, at: start)
        var late = Backlog(probe: "probe")
        late.arrived(0, at: start)
        #expect(late.ends != early.ends)
        late.probeArrived(0, isBeforeStart: false, at: start)
        #expect(late.ends == early.ends)
    }

    @Test func aShorterStreamWasMadeAnewWhenTheBrokerAnswersAndTheReaderGetsNothing() {
        var backlog = Backlog(probe: "probe")
        backlog.probeArrived(2, isBeforeStart: true, at: start)
        #expect(backlog.wasMadeAnew != nil)
        #expect(!backlog.isConfirmed)
        backlog.brokerAnswered(at: start + .seconds(1))
        #expect(backlog.isConfirmed)
        #expect(backlog.wasMadeAnew.map { $0 > start + .seconds(1) } == true)
        backlog.arrived(10, at: start)
        #expect(backlog.wasMadeAnew == nil)
    }

    @Test func aProbeThatComesToTheStartTakesTheSuspicionAway() {
        var backlog = Backlog(probe: "probe")
        backlog.probeArrived(2, isBeforeStart: true, at: start)
        backlog.probeArrived(3, isBeforeStart: false, at: start)
        #expect(backlog.wasMadeAnew == nil)
    }
}
