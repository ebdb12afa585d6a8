internal import Glibc
internal import ReloadFleet
internal import ReloadProtocol

/// What the process ends with. Thrown by a command that has said everything already.
struct ExitStatus: RawRepresentable, Error, Equatable {
    let rawValue: Int32

    /// All applied, unchanged or validated.
    static let success = ExitStatus(rawValue: 0)
    /// Some failed, refused or rolled back, or were superseded or expired: they do not run what was asked.
    static let failure = ExitStatus(rawValue: 1)
    /// The command line makes no sense.
    static let usage = ExitStatus(rawValue: 2)
    /// Some did not respond.
    static let noResponse = ExitStatus(rawValue: 3)
    /// The broker is unreachable, or did not confirm the request.
    static let broker = ExitStatus(rawValue: 4)

    /// As a shell reports a program that a signal ended: 130 for SIGINT, 143 for SIGTERM.
    static func signal(_ number: Int32) -> ExitStatus { ExitStatus(rawValue: 128 + number) }

    /// What a request came to. A failure weighs more than a silence.
    init(_ answers: Answers) {
        if answers.given.values.contains(where: { !$0.state.isSuccess }) {
            self = .failure
        } else {
            self = answers.isComplete ? .success : .noResponse
        }
    }

    init(rawValue: Int32) { self.rawValue = rawValue }

    /// Ends the process.
    func end() -> Never { exit(rawValue) }

    /// Ends the command unless all is well.
    func check() throws(ExitStatus) {
        if self != .success { throw self }
    }
}
