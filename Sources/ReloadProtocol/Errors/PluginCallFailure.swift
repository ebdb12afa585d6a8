/// A plugin answered a call with a status other than `RELOAD_OK`: the error behind one with the code `plugin.call_failed`.
public struct PluginCallFailure: Error, Sendable, Equatable {
    /// Name and version of the plugin that answered.
    public let plugin: String
    /// What was asked of it.
    public let operation: UInt32
    /// What it returned; `RELOAD_UNKNOWN_OPERATION` is 2, other numbers are the plugin's own.
    public let status: Int32
    /// Its reason.
    public let message: String

    package init(plugin: String, operation: UInt32, status: Int32, message: String) {
        self.plugin = plugin
        self.operation = operation
        self.status = status
        self.message = message
    }
}

extension ReloadError {
    package init(_ failure: PluginCallFailure) {
        let reason = failure.message.isEmpty ? "" : ": \(failure.message)"
        self.init(
            .pluginCallFailed,
            "\(failure.plugin) answered operation \(failure.operation) with status \(failure.status)\(reason)",
            underlying: failure)
    }

    /// What the plugin answered, of an error with the code `plugin.call_failed`.
    public var pluginCall: PluginCallFailure? { underlying as? PluginCallFailure }
}
