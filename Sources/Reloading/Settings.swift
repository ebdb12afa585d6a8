internal import FoundationEssentials
internal import Glibc
internal import ReloadAMQP
internal import ReloadProtocol

extension ReloadAgent {
    /// How an agent behaves. Every value has a default but the service's name.
    public struct Settings: Sendable {
        /// How requests reach the agent.
        public enum Delivery: String, Sendable, CaseIterable {
            /// From the fleet's journal, a RabbitMQ stream: what was published while it was away arrives when it is back.
            case stream
            /// From a durable queue of its own, for brokers without streams: the broker keeps it for ``queueExpiry`` while the
            /// instance is away.
            case queue
            /// From an exclusive queue that lives as long as the connection: what is published while it is away is lost.
            case ephemeral
        }

        /// Name of the service, the part before the colon in a destination. `reloadctl` is reserved.
        public var service: String
        /// Name of this instance; nil means `<host>/<process id>`.
        public var instance: String?
        /// `amqp://user:password@host:port/vhost`, with TLS `amqps://` (see `docs/broker.md`), or `passfile:PATH`, a file of mode 0600
        /// whose only line is such a URL. Default: `$AMQP_URL`, else the guest of a broker on this machine.
        public var broker: String {
            get { source.text }
            set { source.text = newValue }
        }
        private var source: BrokerSource
        /// How requests reach the agent.
        public var delivery = Delivery.stream
        /// How long the broker keeps the queue of an instance that is away (delivery `queue`).
        public var queueExpiry = Duration.seconds(7 * 24 * 60 * 60)
        /// Folder for the ledger and the private copies of artifacts. Default: `$RELOAD_STATE_DIR`, else
        /// `$XDG_STATE_HOME/reload-agent/<service>/<instance, or the host>`. One live instance for each folder: several
        /// on one host need names or folders of their own.
        public var stateDirectory: String?
        /// File with the public keys whose requests are carried out, and what each may change; see `docs/signatures.md`.
        /// nil carries out the requests of everybody whom the broker lets publish. Default: `$RELOAD_TRUSTED_KEYS`.
        public var trustedKeys: String?
        /// Folders a request's `path` may lead into; none: the folders of the registered files.
        public var artifactRoots: [String] = []
        /// Largest message body in bytes; a larger one is refused without being read.
        public var bodyLimit = 16 << 20
        /// Largest artifact in bytes.
        public var artifactLimit = 256 << 20
        /// Proven versions kept for rollback, beside the running one.
        public var keep = 3
        /// Longest time a plugin may take to open, create and test itself in its trial, a process of its own. nil tries
        /// nothing beforehand: a plugin that crashes then takes the service with it.
        public var trialTimeout: Duration? = .seconds(10)
        /// Bytes a plugin may take in that process.
        public var trialMemoryLimit = 1 << 30
        /// Names of environment variables that plugins read. Of the service's variables that process has these and what
        /// linker and runtime go by (`PATH`, `HOME`, `LANG`, `LC_*`, `TZ`, `TMPDIR`, `LD_*`, `SWIFT_*`…): no passwords.
        public var trialEnvironment: [String] = []
        /// Most generations of one module in memory: the running one, those that something holds, and libraries that cannot
        /// be unloaded. One more is refused with `plugin.too_many_generations` or `config.too_many_generations`.
        public var generationLimit = 1000
        /// After this time an old generation that a call, a pin or a snapshot still holds is said in the log and in an `online`
        /// report. It is never forced.
        public var drainDeadline = Duration.seconds(60)
        /// Seconds between AMQP heartbeats; twice that on the connection that reports.
        public var heartbeat = 10
        /// Time between two `online` reports; an instance counts as present for three of them. At most 5 minutes: readers look
        /// back no further.
        public var reportInterval = Duration.seconds(30)
        /// Reports that are kept on disk while the broker is away; the oldest is dropped for one more.
        public var reportLimit = 1000
        /// How long ``ReloadAgent/stop()`` waits for reloads under way.
        public var shutdownGrace = Duration.seconds(10)
        /// Name of the exchange requests come from.
        public var controlExchange = "reload.control"
        /// Name of the exchange reports go to.
        public var statusExchange = "reload.status"
        /// Name of the exchange for messages nobody could read.
        public var deadExchange = "reload.dead"

        /// Settings with their defaults.
        public init(service: String) {
            self.service = service
            source = BrokerSource(text: BrokerURL.defaultSource)
            trustedKeys = variable("RELOAD_TRUSTED_KEYS")
        }

        /// The instance as reports name it.
        public var instanceName: String {
            instance ?? "\(ProcessInfo.processInfo.hostName)/\(ProcessInfo.processInfo.processIdentifier)"
        }

        /// The folder that ``stateDirectory`` comes to.
        public var stateDirectoryPath: String {
            if let path = stateDirectory ?? variable("RELOAD_STATE_DIR") { return path }
            let home =
                variable("XDG_STATE_HOME") ?? FileManager.default.homeDirectoryForCurrentUser.path + "/.local/state"
            return "\(home)/reload-agent/\(service)/\(lastingName.replacing("/", with: "_"))"
        }

        /// The instance without the process id, so that a restarted service finds its folder and its queue again.
        private var lastingName: String { instance ?? ProcessInfo.processInfo.hostName }

        /// Name of the queue with delivery `queue`.
        public var queueName: String { "reload.agent.\(service).\(lastingName)" }
    }
}

/// What may hold a password, and does not show it in a description or a `dump` of the settings.
private struct BrokerSource: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    var text: String

    var description: String {
        text.hasPrefix("passfile:") ? text : (try? BrokerURL(text))?.description ?? "not a broker's URL"
    }
    var debugDescription: String { description }
    var customMirror: Mirror { Mirror(self, children: ["url": description]) }
}

/// A variable of the environment, without the dictionary of all of them that `ProcessInfo` makes.
private func variable(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
}
