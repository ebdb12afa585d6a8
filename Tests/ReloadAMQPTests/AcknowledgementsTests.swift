import Testing

@testable import ReloadAMQP

@Suite(.timeLimit(.minutes(5))) struct AcknowledgementsTests {
    /// What a broker knows of one channel. It closes it over an acknowledgement of a tag that is not open.
    private struct Channel {
        var open: [UInt64] = []
        var frames = 0

        mutating func acknowledge(_ tag: UInt64, _ multiple: Bool) -> [UInt64] {
            frames += 1
            #expect(open.contains(tag), "tag \(tag) is not known")
            let gone = open.filter { multiple ? $0 <= tag : $0 == tag }
            open.removeAll { gone.contains($0) }
            return gone
        }
    }

    @Test func aRunIsOneFrame() {
        var acknowledgements = Acknowledgements(prefetch: 40)
        var channel = Channel()
        for tag: UInt64 in 1...10 {
            #expect(!acknowledgements.isDue)
            channel.open.append(tag)
            acknowledgements.passed(tag)
        }
        #expect(acknowledgements.isDue)
        acknowledgements.send { tag, multiple in _ = channel.acknowledge(tag, multiple) }
        #expect(channel.open.isEmpty && channel.frames == 1)
        acknowledgements.send { _, _ in Issue.record("acknowledged twice") }
    }

    @Test func whatIsOpenHoldsBackOnlyItself() {
        var acknowledgements = Acknowledgements(prefetch: 40)
        var frames: [String] = []
        for tag: UInt64 in [1, 2, 4, 5] { acknowledgements.passed(tag) }
        acknowledgements.handedOut(3)
        acknowledgements.send { frames.append("\($0)\($1 ? "+" : "")") }
        #expect(frames == ["2+", "4", "5"])
        let (first, second) = (acknowledgements.settle(3), acknowledgements.settle(3))
        #expect(first && !second)
        acknowledgements.send { frames.append("\($0)\($1 ? "+" : "")") }
        #expect(frames == ["2+", "4", "5", "3"])
    }

    @Test func readingAheadSettlesWhatIsOpen() {
        var acknowledgements = Acknowledgements(prefetch: 4)
        var frames: [String] = []
        for tag: UInt64 in 1...3 { acknowledgements.handedOut(tag) }
        acknowledgements.settleAll()
        acknowledgements.send { frames.append("\($0)\($1 ? "+" : "")") }
        #expect(frames == ["3+"])
        let wasOpen = acknowledgements.settle(2)
        #expect(acknowledgements.openCount == 0 && !wasOpen)
    }

    @Test(arguments: 0..<50)
    func nothingOpenIsEverAcknowledged(seed: UInt64) {
        var generator = SplitMix(state: seed)
        var acknowledgements = Acknowledgements(prefetch: 20)
        var channel = Channel()
        var open: Set<UInt64> = []
        for tag: UInt64 in 1...500 {
            channel.open.append(tag)
            if Bool.random(using: &generator) {
                acknowledgements.passed(tag)
            } else {
                open.insert(tag)
                acknowledgements.handedOut(tag)
            }
            if Int.random(in: 0..<3, using: &generator) == 0, let tag = open.sorted().randomElement(using: &generator) {
                open.remove(tag)
                let wasOpen = acknowledgements.settle(tag)
                #expect(wasOpen)
            }
            if acknowledgements.isDue || Int.random(in: 0..<9, using: &generator) == 0 {
                acknowledgements.send { tag, multiple in
                    let gone = channel.acknowledge(tag, multiple)
                    #expect(open.isDisjoint(with: gone))
                }
                #expect(Set(channel.open) == open)
            }
        }
        for tag in open { _ = acknowledgements.settle(tag) }
        acknowledgements.send { tag, multiple in _ = channel.acknowledge(tag, multiple) }
        #expect(channel.open.isEmpty)
    }
}

/// Random numbers that are the same each time.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
