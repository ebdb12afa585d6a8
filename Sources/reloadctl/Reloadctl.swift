internal import ArgumentParser
internal import Glibc
internal import ReloadProtocol

/// The operators' command line.
@main
struct Reloadctl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reloadctl",
        abstract: "Publishes reload requests and shows what a fleet makes of them.",
        discussion: """
            Exit status: 0 all applied, unchanged or validated; 1 some failed, refused or rolled back; 2 usage; \
            3 some did not respond; 4 broker unreachable or the request not confirmed.
            """,
        version: Version.current,
        subcommands: [
            Publish.self, Rollback.self, Status.self, History.self, Watch.self, Release.self, Keygen.self,
            Permissions.self,
        ]
    )

    /// Without a subcommand; ArgumentParser's default is to show the help and to succeed.
    func run() throws {
        throw ValidationError("name a subcommand")
    }

    /// librabbitmq decodes tables in tables by recursion; a message's header has room for 26,000 of them, which is seen to
    /// take up to 4 MB. The main thread's stack grows as far as the limit is now.
    private static func enlargeStack() {
        var limit = rlimit()
        let stack = Int32(RLIMIT_STACK.rawValue)
        guard unsafe getrlimit(stack, &limit) == 0 else { return }
        limit.rlim_cur = max(limit.rlim_cur, min(32 << 20, limit.rlim_max))
        unsafe setrlimit(stack, &limit)
    }

    /// ArgumentParser's own `main` would end with sysexits' 64 where the contract says 2.
    static func main() {
        // A reader that has gone is told by write(); standard error may have none at all.
        signal(SIGPIPE, SIG_IGN)
        if ProcessArguments.hidePasswords() {
            StandardError.line(
                "reloadctl: warning: everybody here could read the password of the command line for a moment; "
                    + "give it with --broker passfile:PATH or in $AMQP_URL")
        }
        enlargeStack()
        do {
            var command = try parseAsRoot()
            try Digest.check()
            try command.run()
        } catch let status as ExitStatus {
            status.end()
        } catch let error as ReloadError {
            StandardError.line(ProcessArguments.hidingPasswords(in: "reloadctl: \(error)"))
            let isUsage = error.code.area != "broker" || [.brokerBadURL, .brokerBadPassfile].contains(error.code)
            (isUsage ? ExitStatus.usage : .broker).end()
        } catch {
            let text = ProcessArguments.hidingPasswords(in: fullMessage(for: error))
            guard exitCode(for: error) != .success else {
                StandardOutput.write(text + "\n")
                return
            }
            StandardError.line(text)
            ExitStatus.usage.end()
        }
    }
}
