/// The stable code of an outcome, as it stands in a report's `code`.
///
/// The part before the dot says where it was decided: `message` (the request itself), `module` (what this instance has
/// under that name), `artifact` (the bytes), `plugin`, `config`, `handler` (the target), `state` (the state directory),
/// `keys` (a file of keys).
/// This list is the only one; README's table is checked against ``all``.
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

    /// The journal could not be written; what runs is not affected.
    public static let stateNotSaved = Self(rawValue: "state.not_saved")

    /// The file with the trusted keys, or with the signing key, is missing, empty, badly written or open to others; or OpenSSL
    /// has no Ed25519.
    public static let keysUnusable = Self(rawValue: "keys.unusable")

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
        .pluginMissingLibrary, .pluginLibraryInUse, .pluginUnsafeLibraryFolder,
        .configInvalid, .configRefused, .configTooManyGenerations, .handlerFailed,
        .stateLocked, .stateUnusable, .stateNotSaved,
        .keysUnusable,
    ]
}
