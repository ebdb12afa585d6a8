public import CReloadPlugin

/// A failure with a status of the plugin's choice; any other error that a plugin throws has the status 1.
public struct PluginFailure: Error, CustomStringConvertible {
    /// The status that the service sees, never 0.
    public let status: Int32

    /// The reason, for people.
    public let description: String

    /// Makes a failure; a `status` of 0, which would mean success, becomes 1.
    public init(_ description: String, status: Int32 = RELOAD_FAILED) {
        self.status = status == RELOAD_OK ? RELOAD_FAILED : status
        self.description = description
    }

    /// The answer to an operation that the plugin does not have (`RELOAD_UNKNOWN_OPERATION`).
    public static func unknownOperation(_ operation: UInt32) -> PluginFailure {
        PluginFailure("unknown operation \(operation)", status: RELOAD_UNKNOWN_OPERATION)
    }

    /// The answer to a state that this version cannot take over (`RELOAD_STATE_REFUSED`).
    public static func stateRefused(_ reason: String) -> PluginFailure {
        PluginFailure(reason, status: RELOAD_STATE_REFUSED)
    }
}
