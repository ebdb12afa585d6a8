/// Why something was refused or failed.
///
/// `code` is stable and meant for programs, `message` is for people and carries the cause: `dlerror`, the coding path,
/// the operating system's text.
public struct ReloadError: Error, Sendable, CustomStringConvertible {
    /// The stable code, as it goes into the report.
    public var code: ReloadCode
    /// What happened, for people.
    public var message: String
    /// The error behind it, if another library threw one.
    public var underlying: (any Error)?
    /// Where in the agent it was raised.
    public var file: String
    /// Where in the agent it was raised.
    public var line: Int

    /// Makes an error raised at the caller's place.
    public init(
        _ code: ReloadCode, _ message: String, underlying: (any Error)? = nil,
        file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.underlying = underlying
        self.file = file
        self.line = line
    }

    /// `code: message`.
    public var description: String { "\(code): \(message)" }
}
