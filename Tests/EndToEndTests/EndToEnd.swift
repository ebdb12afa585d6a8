import Testing

/// What only a real broker, real processes and real signals can show. One test after another: each drives several
/// processes, and two cores are enough for one of them at a time.
@Suite(
    .serialized, .withBroker, .enabled(if: Repository.isReady, "scripts/test builds what these tests run"),
    .timeLimit(.minutes(5)))
enum EndToEnd {}
