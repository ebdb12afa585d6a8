internal import CReloadHost
internal import Glibc

/// Tries a candidate in a process of its own, so that one that crashes, hangs or exits does so there.
///
/// The service's executable is started again; a constructor in it sees the request before `main` and never returns (see
/// `creload_vet`). No helper has to be installed, and the candidate meets the libraries the service has.
package struct Vetting: Sendable {
    /// Longest time a candidate may take to open, create and test itself.
    package var timeout: Duration

    package init(timeout: Duration = .seconds(10)) {
        self.timeout = timeout
    }

    /// Has the process for the next candidate wait already: starting it takes longer than the trial.
    static func prepare() { creload_vet_prepare() }

    /// Ends the process that waits.
    static func dismiss() { creload_vet_dismiss() }

    /// Throws the reason why the library at `path` may not be opened in the service.
    func check(_ path: String) throws(ReloadError) {
        var vetting = creload_vetting()
        let milliseconds = UInt32(clamping: Int64(timeout / .milliseconds(1)))
        unsafe creload_vet(path, milliseconds, &vetting)
        let output = unsafe withUnsafeBytes(of: &vetting.output) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        let said = output.isEmpty ? "" : "; its output ends: \(output)"
        switch vetting.verdict {
        case CRELOAD_VERDICT_PASSED: return
        case CRELOAD_VERDICT_FAILED:
            var error = ReloadError(vetting.failure)
            error.message += said
            throw error
        case CRELOAD_VERDICT_CRASHED where [SIGTERM, SIGINT, SIGHUP].contains(vetting.detail):
            // Whoever ends the service may end all its processes.
            throw ReloadError(.pluginVetUnavailable, "the trial was ended from outside with signal \(vetting.detail)")
        case CRELOAD_VERDICT_CRASHED:
            throw ReloadError(.pluginVetCrashed, "it ended its process with signal \(vetting.detail)\(said)")
        case CRELOAD_VERDICT_EXITED:
            throw ReloadError(
                .pluginVetCrashed, "it ended its process with exit status \(vetting.detail) before its self test\(said)"
            )
        case CRELOAD_VERDICT_TIMED_OUT:
            throw ReloadError(.pluginVetTimedOut, "its self test was not over after \(timeout)\(said)")
        default:
            throw ReloadError(
                .pluginVetUnavailable,
                vetting.detail == 0
                    ? "the agent is not linked into the main executable, so that cannot be started to try plugins"
                    : "cannot start a process to try it: \(systemText(vetting.detail))")
        }
    }
}
