package import FoundationEssentials

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
    package var isFinal: Bool {
        switch self {
        case .applied, .unchanged, .validated, .refused, .failed, .rolledBack, .superseded, .expired: true
        case .applying, .online, .offline: false
        }
    }

    /// Whether the instance did as it was asked.
    package var isSuccess: Bool {
        self == .applied || self == .unchanged || self == .validated
    }
}

/// A version of a module as reports name it.
package struct VersionReport: Sendable, Codable, Equatable {
    package var revision: Int64
    /// `sha256:<hex>`; nil when the bytes were never seen.
    package var digest: String?
    package var version: String?
    /// Only for what runs.
    package var generation: UInt64?

    package init(revision: Int64, digest: String?, version: String? = nil, generation: UInt64? = nil) {
        self.revision = revision
        self.digest = digest
        self.version = version
        self.generation = generation
    }
}

/// An old generation whose calls have not all returned.
package struct LingeringReport: Sendable, Codable, Equatable {
    package var generation: UInt64
    package var inFlight: Int
    package var ageMilliseconds: Int

    package init(generation: UInt64, inFlight: Int, ageMilliseconds: Int) {
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
package struct ModuleReport: Sendable, Codable, Equatable {
    package var name: String
    package var kind: ModuleKind?
    package var state: ReportState
    package var code: ReloadCode
    package var message: String
    package var desired: VersionReport?
    package var attempted: VersionReport?
    package var running: VersionReport?
    package var lingering: [LingeringReport]
    package var timings: [String: Double]

    package init(
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
package struct Report: Sendable, Codable, Equatable {
    /// The value of `protocol`, and the AMQP `type`.
    package static let protocolName = "reload.status.v1"

    package var proto = Report.protocolName
    /// `message_id` of the request it answers; nil when there is none.
    package var request: String?
    package var service: String
    package var instance: String
    /// Counts this instance's reports since it started, from 1.
    package var sequence: UInt64
    package var state: ReportState
    package var code: ReloadCode
    package var message: String
    package var modules: [ModuleReport]
    /// Ids of other requests that this report answers as superseded.
    package var superseded: [String]?
    /// RFC 3339, UTC.
    package var at: String
    /// The login it came from, which the broker checked; it is no part of the body. Nil when the sender did not say.
    package var user: String?

    package init(
        request: String?, service: String, instance: String, sequence: UInt64, state: ReportState,
        code: ReloadCode = .ok, message: String = "", modules: [ModuleReport] = [], at: Date
    ) {
        self.request = request
        self.service = service
        self.instance = instance
        self.sequence = sequence
        self.state = state
        self.code = code
        self.message = message
        self.modules = modules
        self.at = ReloadJSON.text(at)
    }

    enum CodingKeys: String, CodingKey {
        case proto = "protocol"
        case request, service, instance, sequence, state, code, message, modules, superseded, at
    }

    // By hand for one reason: `request` is written as null rather than left out.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(proto, forKey: .proto)
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

    /// `<service>.<instance>.<state>`, dots in names replaced.
    package var routingKey: String {
        [service, instance, state.rawValue].map { $0.replacing(".", with: "_") }.joined(separator: ".")
    }

    /// Whether a routing key has the shape of a report's.
    package static func isRoutingKey(_ key: String) -> Bool {
        let parts = key.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 3 && ReportState(rawValue: String(parts[2])) != nil
    }

    /// Bytes of the largest body that readers keep: 1,000 modules, each with a name and three versions of 255 bytes and ten
    /// old generations whose calls have not returned, take less than 2.8 MB.
    package static let bodyLimit = 4 << 20

    /// Encodes a report, keys sorted.
    package func encode() -> [UInt8] {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }

    /// Decodes a report; a body that is none, or that the decoder would take much memory for, throws `message.invalid` or
    /// `message.not_json`.
    package static func decode(_ body: [UInt8]) throws(ReloadError) -> Report {
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
