/// How long to wait before the next attempt: exponential with full jitter, so that a fleet does not return all at once.
struct Backoff: Sendable {
    let first: Duration
    let most: Duration
    private var ceiling: Duration

    /// Starts with a random time up to `first`; the limit doubles with each attempt up to `most`.
    init(first: Duration = .milliseconds(100), most: Duration = .seconds(5)) {
        self.first = first
        self.most = most
        ceiling = first
    }

    /// The time to wait now: `fraction` (0 to 1) of the current limit.
    mutating func next(fraction: Double = .random(in: 0...1)) -> Duration {
        defer { ceiling = min(ceiling * 2, most) }
        return ceiling * fraction
    }

    /// Begins anew.
    mutating func reset() { ceiling = first }
}
