public import FoundationEssentials

/// What became of a request, or what an instance says of itself.
public enum ReportState: String, Sendable, Codable, CaseIterable {
    /// The new version answers through the live handle.
    case applied
    /// The named version was running already.
    case unchanged
    /// It would have been applied.
    case validated
    /// Turned away before anything was tried.
    case refused
    /// Tried, and did not work; the version before never stopped serving.
    case failed
    /// Switched to, not proven, switched back.
    case rolledBack = "rolled_back"
    /// A newer request for the same modules took its place.
    case superseded
    /// Too old when it was looked at.
    case expired
    /// On the way; a final state follows.
    case applying
    /// The instance is there: on every connect, after every change, at every interval.
    case online
    /// The instance stopped in order.
    case offline

    /// Whether this answers a request for good.
    public var isFinal: Bool {
        switch self {
        case .applied, .unchanged, .validated, .refused, .failed, .rolledBack, .superseded, .expired: true
        case .applying, .online, .offline: false
        }
    }

    /// Whether the instance did as it was asked.
    public var isSuccess: Bool {
        self == .applied || self == .unchanged || self == .validated
    }
}

/// A version of a module as reports name it.
public struct VersionReport: Sendable, Codable, Equatable {
    /// The publisher's number; 0 for the file the service registered.
    public var revision: Int64
    /// `sha256:<hex>`; nil when the bytes were never seen.
    public var digest: String?
    /// Text for people: the publisher's, else the plugin's own.
    public var version: String?
    /// Counts the module's activations in that process. Only for what runs.
    public var generation: UInt64?

    /// A version by its parts.
    public init(revision: Int64, digest: String?, version: String? = nil, generation: UInt64? = nil) {
        self.revision = revision
        self.digest = digest
        self.version = version
        self.generation = generation
    }
}

/// An old generation whose calls have not all returned.
public struct LingeringReport: Sendable, Codable, Equatable {
    /// Its number.
    public var generation: UInt64
    /// Calls that have not returned, pins and snapshots that hold it.
    public var inFlight: Int
    /// How long ago it was replaced, in milliseconds.
    public var ageMilliseconds: Int

    /// A generation by its parts.
    public init(generation: UInt64, inFlight: Int, ageMilliseconds: Int) {
        self.generation = generation
        self.inFlight = inFlight
        self.ageMilliseconds = ageMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case generation
        case inFlight = "in_flight"
        case ageMilliseconds = "age_ms"
    }
}

/// One module in a report.
public struct ModuleReport: Sendable, Codable, Equatable {
    /// What messages call it.
    public var name: String
    /// nil where this instance has no such module.
    public var kind: ModuleKind?
    /// What became of the request for this module.
    public var state: ReportState
    /// `ok`, or why not.
    public var code: ReloadCode
    /// The same for people.
    public var message: String
    /// What was asked for last.
    public var desired: VersionReport?
    /// What was tried last.
    public var attempted: VersionReport?
    /// What serves calls now.
    public var running: VersionReport?
    /// Old generations that something still holds.
    public var lingering: [LingeringReport]
    /// Milliseconds of each stage: `stage`, `vet`, `load`, `prove`, `swap`.
    public var timings: [String: Double]

    /// A module by its parts.
    public init(
        name: String, kind: ModuleKind?, state: ReportState, code: ReloadCode = .ok, message: String = "",
        desired: VersionReport? = nil, attempted: VersionReport? = nil, running: VersionReport? = nil,
        lingering: [LingeringReport] = [], timings: [String: Double] = [:]
    ) {
        self.name = name
        self.kind = kind
        self.state = state
        self.code = code
        self.message = message
        self.desired = desired
        self.attempted = attempted
        self.running = running
        self.lingering = lingering
        self.timings = timings
    }

    enum CodingKeys: String, CodingKey {
        case name, kind, state, code, message, desired, attempted, running, lingering
        case timings = "timings_ms"
    }
}

/// One report, `reload.status.v1`.
public struct Report: Sendable, Codable, Equatable {
    /// The value of `protocol`, and the AMQP `type`.
    public static let protocolName = "reload.status.v1"

    /// The value of `protocol`.
    public var proto = Report.protocolName
    /// `message_id` of the request it answers; nil when there is none.
    public var request: String?
    /// Name of the service.
    public var service: String
    /// Name of the instance in it.
    public var instance: String
    /// Counts this instance's reports since it started, from 1.
    public var sequence: UInt64
    /// What became of the request, or that the instance is there.
    public var state: ReportState
    /// `ok`, or why not.
    public var code: ReloadCode
    /// The same for people.
    public var message: String
    /// Of `online` and `offline` all modules, of an answer those it is about.
    public var modules: [ModuleReport]
    /// Time between two of this instance's `online` reports, in milliseconds; nil where an agent of before does not say.
    public var intervalMilliseconds: Int64?
    /// Ids of other requests that this report answers as superseded.
    public var superseded: [String]?
    /// RFC 3339, UTC.
    public var at: String
    /// The login it came from, which the broker checked; it is no part of the body. Nil when the sender did not say.
    public var user: String?

    /// A report, made at that time.
    public init(
        request: String?, service: String, instance: String, sequence: UInt64, state: ReportState,
        code: ReloadCode = .ok, message: String = "", modules: [ModuleReport] = [], interval: Duration? = nil, at: Date
    ) {
        self.request = request
        self.service = service
        self.instance = instance
        self.sequence = sequence
        self.state = state
        self.code = code
        self.message = message
        self.modules = modules
        intervalMilliseconds = interval?.wholeMilliseconds
        self.at = ReloadJSON.text(at)
    }

    enum CodingKeys: String, CodingKey {
        case proto = "protocol"
        case intervalMilliseconds = "report_interval_ms"
        case request, service, instance, sequence, state, code, message, modules, superseded, at
    }

    /// Writes the keys of `reload.status.v1`; `request` as null where there is none.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(proto, forKey: .proto)
        try container.encodeIfPresent(intervalMilliseconds, forKey: .intervalMilliseconds)
        try container.encode(request, forKey: .request)
        try container.encode(service, forKey: .service)
        try container.encode(instance, forKey: .instance)
        try container.encode(sequence, forKey: .sequence)
        try container.encode(state, forKey: .state)
        try container.encode(code, forKey: .code)
        try container.encode(message, forKey: .message)
        try container.encode(modules, forKey: .modules)
        try container.encodeIfPresent(superseded, forKey: .superseded)
        try container.encode(at, forKey: .at)
    }

    /// The longest interval that readers look back for; agents keep to it.
    public static let longestInterval = Duration.seconds(300)

    /// Time between two `online` reports, at most ``longestInterval``; nil where it is not said, or makes no sense.
    public var interval: Duration? {
        intervalMilliseconds.flatMap { $0 > 0 ? min(.milliseconds($0), Self.longestInterval) : nil }
    }

    /// `<service>.<instance>.<state>`, dots in names replaced.
    public var routingKey: String {
        [service, instance, state.rawValue].map { $0.replacing(".", with: "_") }.joined(separator: ".")
    }

    /// Whether a routing key has the shape of a report's.
    public static func isRoutingKey(_ key: String) -> Bool {
        let parts = key.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 3 && ReportState(rawValue: String(parts[2])) != nil
    }

    /// Bytes of the largest body that readers keep: 1,000 modules, each with a name and three versions of 255 bytes and ten
    /// old generations whose calls have not returned, take less than 2.8 MB.
    public static let bodyLimit = 4 << 20

    /// Encodes a report, keys sorted.
    public func encode() -> [UInt8] {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }

    /// Decodes a report; a body that is none, or that the decoder would take much memory for, throws `message.invalid` or
    /// `message.not_json`.
    public static func decode(_ body: [UInt8]) throws(ReloadError) -> Report {
        try JSONScreen.check(body)
        do {
            return try JSONDecoder().decode(Report.self, from: Data(body))
        } catch let error as DecodingError {
            throw ReloadError(.messageInvalid, error.pathAndReason, underlying: error)
        } catch {
            throw ReloadError(.messageInvalid, "\(error)", underlying: error)
        }
    }
}
