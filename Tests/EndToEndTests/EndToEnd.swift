import Testing

/// What only a real broker, real processes and real signals can show. A few suites run side by side, since their tests wait
/// most of the time; in each one test after another.
@Suite(.enabled(if: Repository.isReady, "scripts/test builds what these tests run"), .timeLimit(.minutes(5)))
enum EndToEnd {
    /// Suites that leave their broker as it was, one after another on the same one.
    @Suite(.serialized, .withBroker) enum OneBroker {}
}
