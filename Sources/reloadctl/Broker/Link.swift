internal import Foundation
internal import ReloadAMQP
internal import ReloadCore

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Where the broker is, and what may end the talk with it.
struct Link {
    let url: BrokerURL
    let interruption: Interruption
    let topology = Topology()

    init(_ options: BrokerOptions, timeout: Duration?) throws {
        url = try options.url()
        if url.tls?.isVerified == false {
            StandardError.line("reloadctl: warning: the broker's certificate is not checked (verify_none)")
        }
        interruption = try Interruption(timeout: timeout)
    }

    /// Connects and declares the topology, which may be the first to be there.
    ///
    /// - Parameter bodyLimit: bytes of the largest body that is kept.
    func open(_ interrupter: Interrupter, bodyLimit: Int = 16 << 20) throws -> Connection {
        let settings = ConnectionSettings(
            url: url, name: Self.instanceName, connectTimeout: max(.milliseconds(1), interruption.left(.seconds(5))),
            bodyLimit: bodyLimit)
        return try bounded(interrupter) { () throws(BrokerError) in
            var connection = try Connection.open(settings, interrupter: interrupter)
            try topology.declare(on: &connection)
            return connection
        }
    }

    /// Runs a call that waits for the broker; a signal or the deadline end it.
    ///
    /// - Throws: What the call throws; ``ExitStatus`` after a signal; `broker.timeout` after the deadline.
    func bounded<Result: ~Copyable>(
        _ interrupter: Interrupter, _ call: () throws(BrokerError) -> Result
    ) throws -> Result {
        do throws(BrokerError) {
            return try interruption.guarding(interrupter, call)
        } catch {
            try check(because: error)
            throw error
        }
    }

    /// Throws when it is time to end: ``ExitStatus`` after a signal, `broker.timeout` after the deadline.
    func check(because error: BrokerError? = nil) throws {
        if let signal = interruption.signal { throw Interrupted(signal: signal) }
        if interruption.isOver {
            throw BrokerError.tooSlow(
                "\(url) did not answer in time" + (error.map { " (\($0.operation))" } ?? ""))
        }
    }

    /// `<host>/<process id>`
    static let instanceName = "\(hostName)/\(getpid())"

    /// The host's own name; `ProcessInfo.hostName` would ask the resolver, which may hang.
    static let hostName: String = {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }()
}

/// A signal ended the command before it came to its end.
struct Interrupted: Error {
    let signal: Int32
}
