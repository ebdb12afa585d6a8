internal import ReloadProtocol
internal import Testing

@testable internal import ReloadFleet
@testable internal import reloadctl

struct OptionsTests {
    @Test(arguments: [
        ("500ms", Duration.milliseconds(500)), ("30s", .seconds(30)), ("10m", .seconds(600)), ("2h", .seconds(7200)),
        ("1d", .seconds(86_400)), ("0s", .zero),
    ])
    func durations(text: String, duration: Duration) {
        #expect(DurationArgument(argument: text)?.duration == duration)
    }

    @Test(arguments: ["", "30", "s", "-1s", "1.5s", "1 s", "1S", "1w", "10001d", "99999999999999999999s", "\u{0663}s"])
    func noDurations(text: String) {
        #expect(DurationArgument(argument: text) == nil)
    }

    @Test func durationsAsText() {
        #expect(Duration.seconds(90).text == "90s")
        #expect(Duration.seconds(86_400).text == "1d")
        #expect(Duration.milliseconds(1500).text == "1500ms")
        #expect(
            [3_210, 12_000, 250_000, 7_500_000, 180_000_000, -5].map { Duration.milliseconds($0).age }
                == ["3.2s", "12s", "4m10s", "2h5m", "2d2h", "0.0s"])
    }

    @Test func waits() {
        #expect(WaitArgument(argument: "all") == .all)
        #expect(WaitArgument(argument: "0") == .count(0))
        #expect(WaitArgument(argument: "-1") == nil)
        #expect(WaitArgument(argument: "some") == nil)
    }

    @Test func digests() {
        let hex = String(repeating: "9f", count: 32)
        #expect(DigestArgument(argument: hex.uppercased())?.digest == "sha256:" + hex)
        #expect(DigestArgument(argument: "sha256:" + hex)?.digest == "sha256:" + hex)
        #expect(DigestArgument(argument: hex + "0") == nil)
        #expect(DigestArgument(argument: String(repeating: "zz", count: 32)) == nil)
    }
}
