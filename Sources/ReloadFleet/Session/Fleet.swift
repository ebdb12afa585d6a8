internal import Glibc
package import ReloadAMQP
public import ReloadProtocol
internal import Synchronization

/// The agents behind one broker: publishes to them, and reads what they report.
///
/// ```swift
/// let fleet = try Fleet(broker: "amqp://localhost", limit: Limit(timeout: .seconds(30)))
/// let view = try fleet.view()
/// ```
///
/// Its calls block the calling thread until the broker has answered, or the limit ends them. Each opens connections of its own.
public struct Fleet: Sendable {
    package let url: BrokerURL
    /// When to end.
    public let limit: Limit
    package let topology = Topology()
    /// Is told, once each, what is not as it should be and ends nothing.
    let warn: @Sendable (String) -> Void
    /// Of reports that came under another name.
    let warnings = Once()

    /// Looks at the URL; nothing is connected yet.
    ///
    /// - Parameters:
    ///   - broker: `amqp[s]://user:password@host:port/vhost`, or `passfile:PATH`, a file of mode 0600 with such a URL;
    ///     nil: `$AMQP_URL`, else the guest of a broker on this machine.
    ///   - limit: When every call on it ends.
    ///   - warn: is told, for people, what is not as it should be and ends nothing.
    /// - Throws: `broker.bad_url` or `broker.bad_passfile`; the text never holds a password.
    public init(
        broker: String? = nil, limit: Limit, warn: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(ReloadError) {
        url = try BrokerURL(source: broker ?? BrokerURL.defaultSource)
        self.limit = limit
        self.warn = warn
        if url.tls?.isVerified == false { warn("the broker's certificate is not checked (verify_none)") }
    }

    /// Says once that something is so.
    final class Once: Sendable {
        private let isOver = Atomic(false)

        func isFirst() -> Bool { !isOver.exchange(true, ordering: .relaxed) }
    }

    /// Connects and declares the topology, which may be the first to be there.
    ///
    /// - Parameter bodyLimit: bytes of the largest body that is kept.
    func open(_ interrupter: Interrupter, bodyLimit: Int = 16 << 20) throws(ReloadError) -> Connection {
        let settings = ConnectionSettings(
            url: url, name: Self.instanceName, connectTimeout: max(.milliseconds(1), limit.left(.seconds(5))),
            bodyLimit: bodyLimit)
        return try bounded(interrupter) { () throws(ReloadError) in
            var connection = try Connection.open(settings, interrupter: interrupter)
            try topology.declare(on: &connection)
            return connection
        }
    }

    /// Runs a call that waits for the broker; the limit ends it.
    ///
    /// - Throws: What the call throws; `broker.cancelled`; `broker.timeout` after the deadline.
    func bounded<Result: ~Copyable>(
        _ interrupter: Interrupter, _ call: () throws(ReloadError) -> Result
    ) throws(ReloadError) -> Result {
        do throws(ReloadError) {
            return try limit.guarding(interrupter, call)
        } catch {
            try check(because: error)
            throw error
        }
    }

    /// Throws when it is time to end: `broker.cancelled`, or `broker.timeout` after the deadline.
    func check(because error: ReloadError? = nil) throws(ReloadError) {
        try limit.check("\(url) did not answer in time" + (error?.operation.map { " (\($0))" } ?? ""))
    }

    /// `<host>/<process id>`
    static let instanceName = "\(hostName)/\(getpid())"

    /// The host's own name; `ProcessInfo.hostName` would ask the resolver, which may hang.
    package static let hostName: String = {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }()
}
