internal import CReloadPlugin
internal import CReloadTrial
internal import Glibc
internal import Logging
internal import ReloadProtocol
internal import Synchronization

/// Tries a candidate in a process of its own, so that one that crashes, hangs or exits does so there.
///
/// The service's executable is started again; a constructor in it sees the request before `main` and never returns (see
/// `creload_trial_run`). No helper has to be installed, and the candidate meets the libraries the service has. What that process
/// may not do is in `confine.c`. It keeps plugins that are broken from the service: one that is hostile may behave there.
package struct Trial: Sendable {
    /// Longest time a candidate may take to open, create and test itself, and to take over the state.
    package var timeout: Duration
    /// Bytes it may take meanwhile.
    package var memoryLimit: Int
    /// Names of the environment variables it sees beside those of the dynamic linker and the runtime.
    package var environment: [String]
    /// Where it is said when the kernel does not let a trial be confined.
    var logger: Logger?

    package init(timeout: Duration = .seconds(10), memoryLimit: Int = 1 << 30, environment: [String] = []) {
        self.timeout = timeout
        self.memoryLimit = memoryLimit
        self.environment = environment
    }

    /// What the version in service hands over.
    struct HandedState {
        var schema: UInt32
        var bytes: [UInt8]
    }

    /// Has the process for the next candidate wait already: starting it takes longer than the trial.
    func prepare() { unsafe creload_trial_prepare(environmentLines) }

    /// Ends the process that waits.
    static func dismiss() { creload_trial_dismiss() }

    private var environmentLines: String { environment.map { "\($0)\n" }.joined() }

    /// Throws the reason why the library at `path` may not be opened in the service, or may not take over `state`.
    func check(_ path: String, state: HandedState?) throws(ReloadError) {
        let result = run(path, state)
        sayOnce(unconfined: result.unconfined)
        let output = unsafe withUnsafeBytes(of: result.output) { bytes in
            unsafe String(fromPlugin: bytes.prefix { $0 != 0 })
        }
        let said = output.isEmpty ? "" : "; its output ends: \(output)"
        switch result.verdict {
        case CRELOAD_TRIAL_VERDICT_PASSED: return
        case CRELOAD_TRIAL_VERDICT_FAILED:
            var error = ReloadError(result.failure)
            error.message += said
            throw error
        case CRELOAD_TRIAL_VERDICT_CRASHED where [SIGTERM, SIGINT, SIGHUP].contains(result.detail):
            // Whoever ends the service may end all its processes.
            throw ReloadError(.pluginVetUnavailable, "the trial was ended from outside with signal \(result.detail)")
        case CRELOAD_TRIAL_VERDICT_CRASHED:
            throw ReloadError(.pluginVetCrashed, "it ended its process with signal \(result.detail)\(said)")
        case CRELOAD_TRIAL_VERDICT_EXITED:
            throw ReloadError(
                .pluginVetCrashed, "it ended its process with exit status \(result.detail) before its self test\(said)"
            )
        case CRELOAD_TRIAL_VERDICT_TIMED_OUT:
            throw ReloadError(.pluginVetTimedOut, "its self test was not over after \(timeout)\(said)")
        default:
            throw ReloadError(
                .pluginVetUnavailable,
                result.detail == 0
                    ? "the agent is not linked into the main executable, so that cannot be started to try plugins"
                    : "cannot start a process to try it: \(systemText(result.detail))")
        }
    }

    private func run(_ path: String, _ state: HandedState?) -> creload_trial_result {
        var result = creload_trial_result()
        unsafe environmentLines.withCString { environment in
            unsafe (state?.bytes ?? []).withUnsafeBytes { bytes in
                var terms = unsafe creload_trial_terms(
                    timeout_milliseconds: UInt32(clamping: timeout.wholeMilliseconds),
                    state_schema: state?.schema ?? 0, memory_bytes: UInt64(clamping: memoryLimit),
                    environment: environment, state: PluginLibrary.slice(bytes))
                unsafe creload_trial_run(path, &terms, &result)
            }
        }
        return result
    }

    private static let isSaid = Atomic(false)

    private func sayOnce(unconfined: UInt32) {
        guard unconfined != 0, !Self.isSaid.exchange(true, ordering: .relaxed) else { return }
        let missing = [
            unconfined & CRELOAD_TRIAL_UNCONFINED_CALLS.rawValue == 0
                ? nil : "seccomp: they may use the network and other processes",
            unconfined & CRELOAD_TRIAL_UNCONFINED_FILES.rawValue == 0
                ? nil : "Landlock: they may write to files and look into the service",
        ]
        logger?.warning(
            "the kernel does not let plugins be tried in full confinement",
            metadata: ["missing": .array(missing.compactMap { $0.map { .string($0) } })])
    }
}
