internal import CReloadAMQP
internal import Logging
internal import Metrics
internal import ReloadProtocol
internal import Synchronization

/// What a ``ConnectionThread`` does with its connection. Everything is called on that thread.
protocol ConnectionUser: Sendable {
    /// The connection is new and the topology declared.
    mutating func connected(_ connection: inout Connection) throws(ReloadError)
    /// The connection is in use from now on.
    mutating func begins()
    /// Looks at a message before anything of it is copied; `true` when it need not be.
    mutating func passesOver(_ message: borrowing ArrivingMessage) throws(ReloadError) -> Bool
    /// A message was passed over.
    mutating func passedOver(on connection: inout Connection) throws(ReloadError)
    /// Handles one event.
    mutating func handle(_ event: BrokerEvent, on connection: inout Connection) throws(ReloadError)
    /// Does what other threads asked for; returns whether there was anything.
    mutating func work(on connection: inout Connection) throws(ReloadError) -> Bool
    /// Goes on with the same connection after an error; `false` gives it up.
    mutating func recover(from error: ReloadError, on connection: inout Connection) throws(ReloadError) -> Bool
    /// The connection is gone, or could not be made; returns whether that got it further all the same.
    mutating func disconnected(by error: ReloadError) -> Bool
    /// Whether ``work(on:)`` has nothing left to do or to wait for, so that a stop need not wait longer.
    var isIdle: Bool { get }
    /// How long the loop may sleep before ``work(on:)`` has something to do; `nil` for as long as heartbeats allow.
    var pause: Duration? { get }
    /// The last call.
    mutating func finished()
}

/// A named thread that owns one connection and makes it anew, with its topology, whenever it is lost.
///
/// Other threads reach it through what its ``ConnectionUser`` shares with them, and ``wake``.
final class ConnectionThread: Sendable {
    private enum Phase {
        case idle
        case connecting
        case connected
        case backingOff
    }

    private struct State {
        var phase = Phase.idle
        /// Set by stop(): when the thread gives up what it has not done yet.
        var deadline: ContinuousClock.Instant?
    }

    /// librabbitmq decodes tables in tables by recursion, and anybody who publishes may send as many as fit into a frame:
    /// 26,000, which 2 MB are too little for. The default is less than this where `ulimit -s` says so, or `unlimited`.
    static let stackSize = 16 << 20

    let wake: WakeDescriptor
    private let name: String
    private let settings: ConnectionSettings
    private let topology: Topology
    private let logger: Logger
    private let reconnects: Counter
    private let isConnected: Gauge
    private let interrupter = Interrupter()
    private let state = Mutex(State())
    private let done: WakeDescriptor

    /// - Parameter name: of the thread, at most 15 characters.
    init(
        name: String, settings: ConnectionSettings, topology: Topology, logger: Logger, metrics: any MetricsFactory
    ) throws(ReloadError) {
        precondition(name.utf8.count <= 15, "Linux keeps 15 characters of a thread's name")
        self.name = name
        self.settings = settings
        self.topology = topology
        self.logger = logger
        reconnects = Counter(
            label: "reload_agent_reconnects_total", dimensions: [("connection", name)], factory: metrics)
        isConnected = Gauge(label: "reload_agent_connected", dimensions: [("connection", name)], factory: metrics)
        isConnected.record(0)
        wake = try WakeDescriptor()
        done = try WakeDescriptor()
    }

    /// Starts the thread; call it once.
    func start(_ user: some ConnectionUser) throws(ReloadError) {
        state.withLock { state in
            precondition(state.phase == .idle, "a connection thread starts once")
            state.phase = .backingOff
        }
        // Detached: stop() must end in bounded time even while the resolver hangs.
        let result = DetachedThread.start(name, stackSize: Self.stackSize) { [self] in run(user) }
        guard result == 0 else {
            done.signal()
            throw ReloadError(.brokerResources, "cannot start a thread: error \(result)", operation: "pthread_create")
        }
    }

    /// Ends the thread: it has `flush` to do what it was asked for, says goodbye to the broker and is gone.
    ///
    /// A login or a request that hangs is cut short. It returns after `flush` and 3 s at the latest.
    ///
    /// - Returns: `false` if the thread still hangs in name resolution, in a connect that nobody answers, TLS included (at most
    ///   ``ConnectionSettings/connectTimeout``) or in a callback; it ends by itself after that.
    @discardableResult
    func stop(flush: Duration) -> Bool {
        let isRunning = state.withLock { state in
            state.deadline = .now + flush
            return state.phase != .idle
        }
        guard isRunning else { return true }
        wake.signal()
        if done.wait(flush) { return true }
        // From here on the thread begins no new connection.
        if state.withLock({ $0.phase }) == .connecting { interrupter.interrupt() }
        if done.wait(.seconds(2)) { return true }
        interrupter.interrupt()
        return done.wait(.seconds(1))
    }

    private func shouldEnd(_ user: some ConnectionUser) -> Bool {
        guard let deadline = state.withLock({ $0.deadline }) else { return false }
        return user.isIdle || deadline <= .now
    }

    /// `false` when it is time to end instead.
    private func enter(_ phase: Phase, _ user: some ConnectionUser) -> Bool {
        let isIdle = user.isIdle
        return state.withLock { state in
            if let deadline = state.deadline, isIdle || deadline <= .now { return false }
            state.phase = phase
            return true
        }
    }

    private func run(_ user: consuming some ConnectionUser) {
        var backoff = Backoff()
        var problem: String?
        var hasBeenConnected = false
        var topology = topology
        while enter(.connecting, user) {
            var connectedAt: ContinuousClock.Instant?
            do throws(ReloadError) {
                var connection = try Connection.open(settings, interrupter: interrupter)
                topology = try topology.declare(on: &connection)
                try user.connected(&connection)
                connectedAt = .now
                isConnected.record(1)
                if hasBeenConnected { reconnects.increment() }
                hasBeenConnected = true
                problem = nil
                logger.notice("connected to the broker", metadata: ["broker": "\(settings.url)"])
                if settings.url.tls?.isVerified == false {
                    logger.warning(
                        "the broker's certificate is not checked (verify_none)", metadata: ["broker": "\(settings.url)"]
                    )
                }
                if enter(.connected, user) {
                    user.begins()
                    try serve(&connection, &user)
                }
                connection.close()
            } catch {
                topology = topology.afterFailure(error)
                if user.disconnected(by: error) { backoff.reset() }
                let isStopping = state.withLock { $0.deadline != nil }
                let level: Logger.Level = isStopping || problem == error.description ? .debug : .warning
                problem = error.description
                logger.log(
                    level: level, "the broker is not available",
                    metadata: ["broker": "\(settings.url)", "error": "\(error)"])
            }
            isConnected.record(0)
            // A connection that lasted was no failed attempt.
            if let connectedAt, connectedAt.duration(to: .now) > backoff.most { backoff.reset() }
            guard enter(.backingOff, user) else { break }
            sleep(backoff.next(), user)
        }
        user.finished()
        done.signal()
    }

    /// Returns when it is time to end.
    private func serve(_ connection: inout Connection, _ user: inout some ConnectionUser) throws(ReloadError) {
        // It may be from before.
        var isWoken = true
        while true {
            do throws(ReloadError) {
                repeat {
                    try takeAll(from: &connection, &user)
                    if isWoken { wake.clear() }
                    isWoken = false
                } while try user.work(on: &connection)
            } catch {
                guard try user.recover(from: error, on: &connection) else { throw error }
                continue
            }
            if shouldEnd(user) { return }
            var pause = user.pause
            if let deadline = state.withLock({ $0.deadline }) {
                pause = min(pause ?? .seconds(1), deadline - .now)
            }
            isWoken = connection.wait(alsoOn: wake.descriptor, timeoutMilliseconds: pause.map { Int($0.milliseconds) })
        }
    }

    /// Hands over all that has arrived.
    private func takeAll(
        from connection: inout Connection, _ user: inout some ConnectionUser
    ) throws(ReloadError) {
        while true {
            let step = try connection.next { (message) throws(ReloadError) in try user.passesOver(message) }
            switch step {
            case .event(let event): try user.handle(event, on: &connection)
            case .passedOver: try user.passedOver(on: &connection)
            case .nothing: return
            }
        }
    }

    /// Waits out a back-off. Only stop() cuts it short; other threads may wake it as often as they like.
    private func sleep(_ duration: Duration, _ user: some ConnectionUser) {
        let end = ContinuousClock.now + duration
        while !shouldEnd(user) {
            var left = end - .now
            guard left > .zero else { return }
            if let deadline = state.withLock({ $0.deadline }) { left = min(left, deadline - .now) }
            if wake.wait(left) { wake.clear() }
        }
    }
}
