#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Standard output: results, and with `--json` nothing but JSON.
enum StandardOutput {
    /// Writes all of it. A reader that has gone ends the process without a word, as SIGPIPE does where it is not ignored.
    static func write(_ text: String) {
        guard writeAll(text, to: STDOUT_FILENO) else {
            let reason = errno
            if reason == EPIPE { _exit(ExitStatus.signal(SIGPIPE).rawValue) }
            StandardError.line("reloadctl: cannot write the output: \(unsafe String(cString: strerror(reason)))")
            exit(ExitStatus.failure.rawValue)
        }
    }

    static func line(_ text: String) { write(text + "\n") }
}

/// Standard error: everything that is not a result.
enum StandardError {
    static func write(_ text: String) { _ = writeAll(text, to: STDERR_FILENO) }

    static func line(_ text: String) { write(text + "\n") }
}

private func writeAll(_ text: String, to descriptor: Int32) -> Bool {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = unsafe bytes.withUnsafeBytes { buffer in
            unsafe buffer.baseAddress.map { unsafe write(descriptor, $0, buffer.count) } ?? 0
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return false }
        bytes = bytes.dropFirst(count)
    }
    return true
}

extension String {
    /// The text on one line and without control characters: what others send must not move the operator's cursor.
    var printable: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .lineSeparator, .paragraphSeparator: " "
                    default: scalar
                    }
                }))
    }
}
