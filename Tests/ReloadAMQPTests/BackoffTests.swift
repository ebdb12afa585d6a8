import Testing

@testable import ReloadAMQP

@Suite(.timeLimit(.minutes(5))) struct BackoffTests {
    @Test func doublesUpToItsLimitAndBeginsAnew() {
        var backoff = Backoff()
        var limits: [Duration] = []
        for _ in 0..<8 { limits.append(backoff.next(fraction: 1)) }
        #expect(
            limits == [
                .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800), .milliseconds(1600),
                .milliseconds(3200), .seconds(5), .seconds(5),
            ])
        backoff.reset()
        #expect(backoff.next(fraction: 1) == .milliseconds(100))
    }

    @Test func jitterIsFull() {
        var backoff = Backoff()
        #expect(backoff.next(fraction: 0) == .zero)
        #expect(backoff.next(fraction: 0.5) == .milliseconds(100))
        for _ in 0..<100 { #expect((Duration.zero ... .seconds(5)).contains(backoff.next())) }
    }

    @Test(arguments: [
        (Duration.zero, Int32(0)), (.seconds(-5), 0), (.microseconds(1), 1), (.milliseconds(1500), 1500),
        (.seconds(1 << 40), .max),
    ])
    func millisecondsAreRoundedUpAndBounded(_ duration: Duration, _ expected: Int32) {
        #expect(duration.milliseconds == expected)
    }
}
