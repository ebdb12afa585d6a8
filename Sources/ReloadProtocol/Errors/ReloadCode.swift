/// The stable code of an outcome, as it stands in a report's `code`.
///
/// The part before the dot says where it was decided: `message` (the request itself), `module` (what this instance has
/// under that name), `artifact` (the bytes), `plugin`, `config`, `handler` (the target), `state` (the state directory),
/// `keys` (a file of keys), `broker` (between this process and the broker).
/// This list is the only one; `docs/codes.md` is checked against ``all``.
public struct ReloadCode: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
    /// The text on the wire.
    public let rawValue: String

    /// A code from its text on the wire; codes this version does not know are kept as they are.
    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// The text on the wire.
    public var description: String { rawValue }

    /// Nothing went wrong.
    public static let ok = Self(rawValue: "ok")

    /// The body is empty.
    public static let messageEmpty = Self(rawValue: "message.empty")
    /// The body is larger than the agent takes.
    public static let messageTooLarge = Self(rawValue: "message.too_large")
    /// The body is not JSON.
    public static let messageNotJSON = Self(rawValue: "message.not_json")
    /// JSON, but a field is missing or has the wrong type; the text names it.
    public static let messageInvalid = Self(rawValue: "message.invalid")
    /// `protocol` names a version this agent does not speak.
    public static let messageUnknownProtocol = Self(rawValue: "message.unknown_protocol")
    /// `operation` is none this agent knows.
    public static let messageUnknownOperation = Self(rawValue: "message.unknown_operation")
    /// `kind` is none this agent knows.
    public static let messageUnknownKind = Self(rawValue: "message.unknown_kind")
    /// The request had expired before it was looked at.
    public static let messageExpired = Self(rawValue: "message.expired")
    /// The revision is older than the running one.
    public static let messageStaleRevision = Self(rawValue: "message.stale_revision")
    /// The revision runs already, or was asked for, with other bytes.
    public static let messageRevisionConflict = Self(rawValue: "message.revision_conflict")
    /// Only signed requests are taken here, and this one has no signature.
    public static let messageUnsigned = Self(rawValue: "message.unsigned")
    /// The signature is badly written, or is not one for this message: another body, id, time or exchange was signed.
    public static let messageBadSignature = Self(rawValue: "message.bad_signature")
    /// It was signed with a key that is not, or no longer, trusted here.
    public static let messageUnknownKey = Self(rawValue: "message.unknown_key")
    /// The key may not change this module, or modules of its kind.
    public static let messageKeyNotAllowed = Self(rawValue: "message.key_not_allowed")
    /// A signed request was issued later than it is here, by more than clocks differ.
    public static let messageFromFuture = Self(rawValue: "message.from_future")
    /// A signed request was issued before one that was taken already and that it must not undo.
    public static let messageReplayed = Self(rawValue: "message.replayed")

    /// This instance has no such module.
    public static let moduleUnknown = Self(rawValue: "module.unknown")
    /// The module is of another kind here.
    public static let moduleKindMismatch = Self(rawValue: "module.kind_mismatch")
    /// The digest failed here before and is not tried again until it is released.
    public static let moduleQuarantined = Self(rawValue: "module.quarantined")
    /// There is no version to roll back to.
    public static let moduleNoPrevious = Self(rawValue: "module.no_previous")
    /// Another module of the same request was refused or failed, so this one was left as it is.
    public static let moduleNotAttempted = Self(rawValue: "module.not_attempted")

    /// The path leaves the artifact roots.
    public static let artifactOutsideRoots = Self(rawValue: "artifact.outside_roots")
    /// There is no such file, or the request names none and the module has none.
    public static let artifactMissing = Self(rawValue: "artifact.missing")
    /// A folder, device, pipe or socket.
    public static let artifactNotAFile = Self(rawValue: "artifact.not_a_file")
    /// The file cannot be read.
    public static let artifactUnreadable = Self(rawValue: "artifact.unreadable")
    /// More bytes than the agent takes.
    public static let artifactTooLarge = Self(rawValue: "artifact.too_large")
    /// The bytes are not those the request names.
    public static let artifactDigestMismatch = Self(rawValue: "artifact.digest_mismatch")
    /// `inline` is not base64.
    public static let artifactBadInline = Self(rawValue: "artifact.bad_inline")
    /// The private copy could not be written.
    public static let artifactNotStaged = Self(rawValue: "artifact.not_staged")
    /// Others than those who own the artifact root may have written the file.
    public static let artifactUnsafePermissions = Self(rawValue: "artifact.unsafe_permissions")

    /// Not an ELF shared library for this machine.
    public static let pluginNotALibrary = Self(rawValue: "plugin.not_a_library")
    /// The file ends before what its headers promise.
    public static let pluginTruncated = Self(rawValue: "plugin.truncated")
    /// The dynamic linker refused it; the text is `dlerror`'s.
    public static let pluginNotOpened = Self(rawValue: "plugin.not_opened")
    /// It exports no `reload_plugin_entry`, or that returned NULL.
    public static let pluginNoEntry = Self(rawValue: "plugin.no_entry")
    /// Its ABI is another one.
    public static let pluginABIMismatch = Self(rawValue: "plugin.abi_mismatch")
    /// `create` failed.
    public static let pluginNotCreated = Self(rawValue: "plugin.not_created")
    /// `self_test` failed.
    public static let pluginSelfTestFailed = Self(rawValue: "plugin.self_test_failed")
    /// `restore_state` refused the state of the version before, or that could not be taken.
    public static let pluginStateRefused = Self(rawValue: "plugin.state_refused")
    /// The version before gave no state to hand over; nothing is held against the new one.
    public static let pluginStateNotGiven = Self(rawValue: "plugin.state_not_given")
    /// The process that tried it died.
    public static let pluginVetCrashed = Self(rawValue: "plugin.vet_crashed")
    /// The process that tried it ran into the time limit.
    public static let pluginVetTimedOut = Self(rawValue: "plugin.vet_timed_out")
    /// The process that tries plugins could not be started.
    public static let pluginVetUnavailable = Self(rawValue: "plugin.vet_unavailable")
    /// The service died while it was loaded into it.
    public static let pluginCrashedHost = Self(rawValue: "plugin.crashed_host")
    /// As many generations are held in memory as the settings allow.
    public static let pluginTooManyGenerations = Self(rawValue: "plugin.too_many_generations")
    /// It needs an executable stack, or code that is written to, which the whole service would have from then on.
    public static let pluginWritableCode = Self(rawValue: "plugin.writable_code")
    /// It needs a library that is not there.
    public static let pluginMissingLibrary = Self(rawValue: "plugin.missing_library")
    /// It needs a library of its own, but another one of that name is loaded, which it would get instead.
    public static let pluginLibraryInUse = Self(rawValue: "plugin.library_in_use")
    /// It looks for a library where everybody may put one, or relative to the working directory.
    public static let pluginUnsafeLibraryFolder = Self(rawValue: "plugin.unsafe_library_folder")

    /// A call that the service made was answered with another status than `RELOAD_OK`; thrown, never reported.
    public static let pluginCallFailed = Self(rawValue: "plugin.call_failed")

    /// The bytes do not decode into the service's type; the text names the coding path.
    public static let configInvalid = Self(rawValue: "config.invalid")
    /// The service's `validate` closure refused it.
    public static let configRefused = Self(rawValue: "config.refused")
    /// As many old values as the agent's settings allow are still held by calls or snapshots.
    public static let configTooManyGenerations = Self(rawValue: "config.too_many_generations")
    /// The service's own handler failed.
    public static let handlerFailed = Self(rawValue: "handler.failed")

    /// Another live instance uses the state directory.
    public static let stateLocked = Self(rawValue: "state.locked")
    /// The state directory cannot be made or written, or others may change it; or OpenSSL has no SHA-256, without which nothing
    /// can be checked.
    public static let stateUnusable = Self(rawValue: "state.unusable")

    /// The ledger could not be written; what runs is not affected.
    public static let stateNotSaved = Self(rawValue: "state.not_saved")

    /// The file with the trusted keys, or with the signing key, is missing, empty, badly written or open to others; or OpenSSL
    /// has no Ed25519.
    public static let keysUnusable = Self(rawValue: "keys.unusable")

    // What went wrong between this process and the broker: thrown and logged, never reported.

    /// The URL cannot be used.
    public static let brokerBadURL = Self(rawValue: "broker.bad_url")
    /// The file of `passfile:` is missing, cannot be read, or can be read by others.
    public static let brokerBadPassfile = Self(rawValue: "broker.bad_passfile")
    /// No TCP connection: the name does not resolve, or nobody listens.
    public static let brokerUnreachable = Self(rawValue: "broker.unreachable")
    /// The broker refused the login, or the permission for an exchange or queue (AMQP 403, 530).
    public static let brokerAccessRefused = Self(rawValue: "broker.access_refused")
    /// The broker did not answer in time, or its heartbeats stopped.
    public static let brokerTimeout = Self(rawValue: "broker.timeout")
    /// The connection or channel ended.
    public static let brokerClosed = Self(rawValue: "broker.closed")
    /// No such exchange, queue or virtual host (AMQP 404).
    public static let brokerNotFound = Self(rawValue: "broker.not_found")
    /// Something exists with other properties, or a message breaks a limit (AMQP 406).
    public static let brokerPreconditionFailed = Self(rawValue: "broker.precondition_failed")
    /// A queue is in exclusive use elsewhere (AMQP 405).
    public static let brokerLocked = Self(rawValue: "broker.locked")
    /// What arrived is not AMQP, or not in an order that AMQP allows.
    public static let brokerProtocolViolation = Self(rawValue: "broker.protocol")
    /// librabbitmq cannot decode the properties of a message that arrived: it was acknowledged unread.
    public static let brokerUnreadableMessage = Self(rawValue: "broker.unreadable_message")
    /// The message cannot be sent as it is, for example a property over 255 bytes.
    public static let brokerBadMessage = Self(rawValue: "broker.bad_message")
    /// A mandatory message that no queue took (AMQP 312).
    public static let brokerUnroutable = Self(rawValue: "broker.unroutable")
    /// Dropped from a full outbox to make room for a newer message.
    public static let brokerOutboxFull = Self(rawValue: "broker.outbox_full")
    /// Stopped before the broker had confirmed.
    public static let brokerStopped = Self(rawValue: "broker.stopped")
    /// A CA, certificate or key file is missing, unreadable or no PEM, or the key needs a passphrase.
    public static let brokerTLSFile = Self(rawValue: "broker.tls_file")
    /// The client's key does not belong to its certificate.
    public static let brokerTLSKeyMismatch = Self(rawValue: "broker.tls_key_mismatch")
    /// No CA that is trusted here vouches for the broker.
    public static let brokerTLSUnknownCA = Self(rawValue: "broker.tls_unknown_ca")
    /// The broker's certificate, or its CA's, has expired or is not valid yet.
    public static let brokerTLSExpired = Self(rawValue: "broker.tls_expired")
    /// The broker's certificate is for another name or address.
    public static let brokerTLSHostName = Self(rawValue: "broker.tls_host_name")
    /// TLS was spoken to a port that does not speak it.
    public static let brokerTLSNotSpoken = Self(rawValue: "broker.tls_not_spoken")
    /// TLS was not spoken to a port that speaks nothing else.
    public static let brokerTLSNeeded = Self(rawValue: "broker.tls_needed")
    /// The broker takes no TLS version from 1.2 on.
    public static let brokerTLSVersion = Self(rawValue: "broker.tls_version")
    /// The broker wants a client certificate.
    public static let brokerTLSCertificateRequired = Self(rawValue: "broker.tls_certificate_required")
    /// The broker does not take the client's certificate.
    public static let brokerTLSCertificateRefused = Self(rawValue: "broker.tls_certificate_refused")
    /// Another failure of TLS.
    public static let brokerTLSFailed = Self(rawValue: "broker.tls_failed")
    /// The broker does not let this certificate log in (SASL EXTERNAL), or offers no such login.
    public static let brokerExternalRefused = Self(rawValue: "broker.external_refused")
    /// Whoever waited for the broker gave it up.
    public static let brokerCancelled = Self(rawValue: "broker.cancelled")
    /// A resource of this process ran out.
    public static let brokerResources = Self(rawValue: "broker.resources")

    /// The part before the dot: who decided.
    public var area: Substring { rawValue.prefix { $0 != "." } }

    /// Every code there is.
    public static let all: [ReloadCode] = [
        .ok,
        .messageEmpty, .messageTooLarge, .messageNotJSON, .messageInvalid, .messageUnknownProtocol,
        .messageUnknownOperation, .messageUnknownKind, .messageExpired, .messageStaleRevision,
        .messageRevisionConflict,
        .messageUnsigned, .messageBadSignature, .messageUnknownKey, .messageKeyNotAllowed, .messageFromFuture,
        .messageReplayed,
        .moduleUnknown, .moduleKindMismatch, .moduleQuarantined, .moduleNoPrevious, .moduleNotAttempted,
        .artifactOutsideRoots, .artifactMissing, .artifactNotAFile, .artifactUnreadable, .artifactTooLarge,
        .artifactDigestMismatch, .artifactBadInline, .artifactNotStaged, .artifactUnsafePermissions,
        .pluginNotALibrary, .pluginTruncated, .pluginNotOpened, .pluginNoEntry, .pluginABIMismatch,
        .pluginNotCreated, .pluginSelfTestFailed, .pluginStateRefused, .pluginStateNotGiven, .pluginVetCrashed,
        .pluginVetTimedOut,
        .pluginVetUnavailable, .pluginCrashedHost, .pluginTooManyGenerations, .pluginWritableCode,
        .pluginMissingLibrary, .pluginLibraryInUse, .pluginUnsafeLibraryFolder, .pluginCallFailed,
        .configInvalid, .configRefused, .configTooManyGenerations, .handlerFailed,
        .stateLocked, .stateUnusable, .stateNotSaved,
        .keysUnusable,
        .brokerBadURL, .brokerBadPassfile, .brokerUnreachable, .brokerAccessRefused, .brokerTimeout, .brokerClosed,
        .brokerNotFound, .brokerPreconditionFailed, .brokerLocked, .brokerProtocolViolation, .brokerUnreadableMessage,
        .brokerBadMessage, .brokerUnroutable, .brokerOutboxFull, .brokerStopped, .brokerTLSFile,
        .brokerTLSKeyMismatch, .brokerTLSUnknownCA, .brokerTLSExpired, .brokerTLSHostName, .brokerTLSNotSpoken,
        .brokerTLSNeeded, .brokerTLSVersion, .brokerTLSCertificateRequired, .brokerTLSCertificateRefused,
        .brokerTLSFailed, .brokerExternalRefused, .brokerCancelled, .brokerResources,
    ]
}
