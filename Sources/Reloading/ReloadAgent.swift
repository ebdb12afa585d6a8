// `snapshot` for bodies that suspend and for those that do not.
// swift-format-ignore-file: AmbiguousTrailingClosureOverload

internal import Dispatch
internal import FoundationEssentials
public import Logging
public import Metrics
internal import ReloadAMQP
public import ReloadCore
public import ReloadProtocol
internal import Synchronization

/// Reloads the plugins and configurations of a running service when a message says so.
///
/// ```swift
/// let agent = try ReloadAgent(service: "crawler", broker: "amqp://localhost")
/// let rules = try agent.config("crawler.rules", file: "rules.yaml", as: CrawlRules.self)
/// let parser = try agent.plugin("crawler.parser", file: "plugins/libParser.so")
/// try agent.start()
///
/// rules.current.maxDepth
/// let records = try parser.call(page)
/// ```
///
/// Register every module before ``start()``. Two background threads talk to the broker, one that consumes and one that
/// publishes; reloads run on threads of their own. The service's threads only ever read ``Config/current`` and call
/// ``PluginHandle/call(_:operation:)``.
public final class ReloadAgent: Sendable {
    /// What this agent was made with.
    public let settings: Settings
    private let reloader: Reloader
    private let consumer: Consumer
    private let publisher: Publisher
    private let logger: Logger
    private let state = Mutex(State())
    /// Zero until the reloader takes messages.
    private let mayConsume = DispatchSemaphore(value: 0)

    private struct State {
        var phase = Phase.new
        var online: Ticker?
    }

    private enum Phase {
        case new
        case started
        case stopped
    }

    /// Makes an agent with the default settings.
    public convenience init(
        service: String, broker: String? = nil, logger: Logger = Logger(label: "reload-agent")
    ) throws(ReloadError) {
        var settings = Settings(service: service)
        settings.broker = broker ?? settings.broker
        try self.init(settings, logger: logger)
    }

    /// Makes an agent. Nothing is connected before ``start()``.
    ///
    /// - Throws: `ReloadError`: `broker.bad_url`, `broker.bad_passfile`; `state.locked` when
    ///   another live instance has the state directory, and with `keys.unusable` when the trusted keys cannot be read or are
    ///   none: what should be checked is never taken unchecked. The same where OpenSSL has no Ed25519 for this process, and
    ///   `state.unusable` where it has no SHA-256. A state directory that cannot be written is an error in the log.
    ///
    /// - Parameters:
    ///   - settings: How it behaves.
    ///   - logger: Where it logs.
    ///   - metrics: Where counters, gauges and timers go; nil: where `MetricsSystem` sends them.
    public init(
        _ settings: Settings, logger: Logger = Logger(label: "reload-agent"), metrics: (any MetricsFactory)? = nil
    ) throws(ReloadError) {
        let metrics = metrics ?? MetricsSystem.factory
        self.settings = settings
        self.logger = logger
        try Digest.check()
        var topology = Topology(
            controlExchange: settings.controlExchange, statusExchange: settings.statusExchange,
            deadExchange: settings.deadExchange)
        if settings.delivery != .stream { topology.streams = .optional }
        let url = try BrokerURL(source: settings.broker)
        var connection = ConnectionSettings(
            url: url, name: "\(settings.service):\(settings.instanceName)")
        connection.heartbeat = settings.heartbeat
        connection.bodyLimit = settings.bodyLimit
        // What is published is confirmed; so it need not say as often that it is there.
        var reporting = connection
        reporting.heartbeat *= 2
        let publisher = try Publisher(settings: reporting, topology: topology, logger: logger, metrics: metrics)
        self.publisher = publisher

        var core = Reloader.Settings(service: settings.service, instance: settings.instanceName)
        core.trustedKeys = try settings.trustedKeys.map { path throws(ReloadError) in try TrustedKeysFile(path: path) }
        core.controlExchange = settings.controlExchange
        core.artifactRoots = settings.artifactRoots
        core.keep = settings.keep
        core.reportLimit = settings.reportLimit
        core.trial = settings.trialTimeout.map { timeout in
            Trial(
                timeout: timeout, memoryLimit: settings.trialMemoryLimit, environment: settings.trialEnvironment)
        }
        core.generationLimit = settings.generationLimit
        core.drainDeadline = settings.drainDeadline
        core.reportInterval = min(max(settings.reportInterval, .milliseconds(1)), Report.longestInterval)
        let reloader = Reloader(
            settings: core, directory: try Self.directory(settings, logger),
            outlets: Reloader.Outlets(
                report: { [topology, url] outgoing, done in
                    publisher.publish(
                        outgoing, topology: topology, user: url.knownUser, logger: logger, done: done)
                },
                deadLetter: { [topology] envelope, error, done in
                    publisher.publish(
                        unreadable: envelope, error, to: topology.deadExchange, logger: logger, done: done)
                }),
            logger: logger, metrics: metrics)
        self.reloader = reloader

        let wayBack = WayBack()
        var handlers = Consumer.Handlers(
            delivered: { delivery, receipt, place in
                reloader.receive(delivery.envelope, isOversized: delivery.isOversized, place: place) {
                    wayBack.acknowledge(receipt)
                }
            },
            connected: { reloader.announce(.online) })
        handlers.willConsume = { [mayConsume] in
            mayConsume.wait()
            mayConsume.signal()
        }
        handlers.backlogChanged = { reloader.backlogChanged($0) }
        handlers.hasRoom = { reloader.hasRoom }
        let warn = { @Sendable (message: String) in
            logger.warning("\(message)")
            reloader.announce(.online, note: message)
        }
        handlers.lost = { count in
            warn("the stream no longer has \(count) messages that were published while this instance was away")
        }
        handlers.queueFound = { name, isNew in
            if isNew, reloader.ledger.queue == name {
                warn("the queue \(name) had expired: what was published while this instance was away is lost")
            }
            reloader.ledger.queue = name
        }
        consumer = try Consumer(
            settings: connection, topology: topology, delivery: DeliveryMode(settings),
            addressee: settings.trustedKeys == nil ? reloader.addressee : nil, position: reloader.ledger.position,
            logger: logger, metrics: metrics,
            handlers: handlers)
        wayBack.lead(to: consumer)
    }

    /// The way from an answer back to the consumer, which does not exist yet when its callbacks are made. Weak, or the two
    /// would keep each other.
    private final class WayBack: Sendable {
        private struct Weak {
            weak var consumer: Consumer?
        }

        private let end = Mutex(Weak())

        func lead(to consumer: Consumer) {
            end.withLock { $0.consumer = consumer }
        }

        func acknowledge(_ receipt: Receipt) {
            end.withLock { $0.consumer }?.acknowledge(receipt)
        }
    }

    /// The state directory, or one that lasts as long as the process where that cannot be used: a service starts in any case.
    private static func directory(_ settings: Settings, _ logger: Logger) throws(ReloadError) -> StateDirectory {
        let path = settings.stateDirectoryPath
        do throws(ReloadError) {
            return try StateDirectory(path: path, artifactLimit: settings.artifactLimit)
        } catch {
            guard error.code == .stateUnusable else { throw error }
            logger.error(
                "state directory cannot be used: a restart will not know what was loaded",
                metadata: ["reason": "\(error)"])
            return try StateDirectory.temporary(insteadOf: path, artifactLimit: settings.artifactLimit)
        }
    }

    deinit {
        stop()
        reloader.close()
    }

    // MARK: Registering

    /// Registers a configuration: the version it had before a restart, else the file.
    ///
    /// - Parameters:
    ///   - name: What messages call it, such as `crawler.rules`.
    ///   - file: YAML, or JSON when the name ends in `.json`; read again when a request brings no artifact of its own.
    ///   - type: What it is decoded into.
    ///   - validate: Throws to refuse a version that decodes but makes no sense; its error goes into the report.
    /// - Throws: `ReloadError` when the first version is not good.
    public func config<Value: Decodable & Sendable>(
        _ name: String, file: String, as type: Value.Type = Value.self,
        validate: @escaping @Sendable (Value) throws -> Void = { _ in }
    ) throws(ReloadError) -> Config<Value> {
        Config(try reloader.config(name, file: file, validate: validate))
    }

    /// Registers a plugin, tries the version it had before a restart, else the file, in a process of its own and loads it.
    ///
    /// - Throws: `ReloadError` when the first version is not good.
    public func plugin(_ name: String, file: String) throws(ReloadError) -> PluginHandle {
        PluginHandle(target: try reloader.plugin(name, file: file))
    }

    /// Registers the service's own way of reloading something.
    ///
    /// - Parameters:
    ///   - name: What messages call it, such as `crawler.words`.
    ///   - file: Read when a request brings no artifact of its own.
    ///   - prepare: Loads and checks what it is given, on a background thread, and returns what makes it visible. A throw
    ///     from `prepare` fails the request and changes nothing. What it returns is called when every module of the request
    ///     is prepared; a throw from there takes the whole request back. If another module fails after that, `prepare` is given
    ///     the version before again; a first version that the service had by itself it cannot be given.
    @discardableResult
    public func handler(
        _ name: String, file: String? = nil,
        prepare: @escaping @Sendable (HandlerArtifact) throws -> @Sendable () throws -> Void
    ) -> HandlerHandle {
        HandlerHandle(target: reloader.handler(name, file: file, prepare))
    }

    // MARK: One version throughout

    /// Runs `body`, in which every config and plugin of this agent stays at the generation it has at the beginning, all of
    /// them taken at one moment: between two modules of one request, for instance, there is no mixture.
    ///
    /// What the task calls is inside as well, child tasks and `Task { }` included, which keep it until they end. An old
    /// generation stays in memory meanwhile. A snapshot inside a snapshot is the outer one.
    ///
    /// It costs an allocation for each module, and from the first one in a process every read looks for one, which costs some
    /// nanoseconds more. A single module needs none: take ``Config/current`` once, or ``PluginHandle/pinned``.
    public func snapshot<Result>(_ body: () throws -> Result) rethrows -> Result {
        guard let snapshot = reloader.snapshot() else { return try body() }
        return try Snapshot.$current.withValue(snapshot, operation: body)
    }

    /// The same for a body that suspends.
    public func snapshot<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        guard let snapshot = reloader.snapshot() else { return try await body() }
        return try await Snapshot.$current.withValue(snapshot, operation: body)
    }

    // MARK: Running

    /// Starts the background threads. A broker that is away is no error: the threads keep trying.
    ///
    /// - Throws: `ReloadError` with `broker.resources` when a thread cannot be started.
    public func start() throws(ReloadError) {
        guard advance(from: .new, to: .started) else { return }
        // It logs in while the ledger is written.
        try consumer.start()
        reloader.start()
        mayConsume.signal()
        try publisher.start()
        state.withLock { state in
            state.online = Ticker(every: reloader.settings.reportInterval) { [reloader] in
                reloader.announce(.online)
                reloader.save()
            }
        }
        logger.info(
            "reload agent started",
            metadata: [
                "service": "\(settings.service)", "instance": "\(settings.instanceName)",
                "delivery": "\(settings.delivery.rawValue)",
            ])
    }

    /// Stops in order: waits for reloads under way (at most ``Settings/shutdownGrace``), says `offline`, sends what is
    /// left to send, and ends the threads. What the agent loaded stays loaded. Called from a callback of the agent's it waits
    /// for that callback in vain.
    public func stop() {
        guard advance(from: .started, to: .stopped) else { return }
        state.withLock { $0.online }?.stop()
        reloader.stop(grace: settings.shutdownGrace)
        reloader.announce(.offline)
        publisher.stop(flushing: .seconds(2))
        consumer.stop()
        reloader.close()
        logger.info("reload agent stopped")
    }

    private func advance(from: Phase, to: Phase) -> Bool {
        state.withLock { state in
            guard state.phase == from else { return false }
            state.phase = to
            return true
        }
    }
}

extension DeliveryMode {
    init(_ settings: ReloadAgent.Settings) {
        switch settings.delivery {
        case .stream: self = .stream
        case .queue:
            self = .queue(
                name: settings.queueName, expiry: settings.queueExpiry.wholeMilliseconds)
        case .ephemeral: self = .ephemeral
        }
    }
}
