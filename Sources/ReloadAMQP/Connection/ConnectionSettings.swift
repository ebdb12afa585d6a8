/// How to reach a broker, and the limits while talking to it.
package struct ConnectionSettings: Sendable {
    /// Where the broker is and who logs in.
    package var url: BrokerURL
    /// The connection's name in the broker's management pages.
    package var name: String
    /// Seconds between heartbeats as this side proposes it; a broker that is silent for twice as long is given up.
    package var heartbeat: Int
    /// Limit for the TCP connection with its TLS handshake, and again for the login.
    package var connectTimeout: Duration
    /// Limit for each request that waits for an answer.
    package var rpcTimeout: Duration
    /// Bytes of the largest body that is kept; a larger one is skipped as it arrives and reported as oversized.
    package var bodyLimit: Int

    /// Settings with the defaults that fit an agent.
    package init(
        url: BrokerURL, name: String, heartbeat: Int = 10, connectTimeout: Duration = .seconds(5),
        rpcTimeout: Duration = .seconds(10), bodyLimit: Int = 16 << 20
    ) {
        self.url = url
        self.name = name
        self.heartbeat = heartbeat
        self.connectTimeout = connectTimeout
        self.rpcTimeout = rpcTimeout
        self.bodyLimit = bodyLimit
    }
}

extension Duration {
    /// Whole milliseconds, rounded up and kept within 0 and `Int32.max`.
    var milliseconds: Int32 {
        let (seconds, attoseconds) = components
        guard seconds < Int64(Int32.max) / 1000 else { return .max }
        return Int32(max(0, seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000))
    }
}
