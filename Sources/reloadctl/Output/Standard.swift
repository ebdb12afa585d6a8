internal import Glibc
internal import ReloadFleet
internal import ReloadProtocol

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

    /// A value on a line, for `--json`.
    static func line(_ value: some Encodable) {
        do {
            line(try value.jsonLine())
        } catch {
            StandardError.line("reloadctl: cannot write JSON: \(error)")
            exit(ExitStatus.failure.rawValue)
        }
    }

    /// Ends the process as ``write(_:)`` does if the reader has gone: for a command that waits long for what it writes next.
    static func checkReader() {
        var reader = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
        guard unsafe poll(&reader, 1, 0) > 0, reader.revents & Int16(POLLERR) != 0 else { return }
        _exit(ExitStatus.signal(SIGPIPE).rawValue)
    }
}

/// Standard error: everything that is not a result.
enum StandardError {
    /// A terminal there, opened once more: what takes nothing, because it is stopped (Ctrl-S) or nobody reads its other end,
    /// must not stop this process, and not to wait on the descriptor itself would hold for the shell as well. nil when it is
    /// no terminal, or another user's.
    private static let terminal: Int32? = {
        guard isatty(STDERR_FILENO) == 1 else { return nil }
        let descriptor = unsafe open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        return descriptor < 0 ? nil : descriptor
    }()

    static var isLive: Bool { terminal != nil }

    /// Writes all of it, or as much as a terminal takes within a second.
    static func write(_ text: String) {
        guard let terminal else {
            _ = writeAll(text, to: STDERR_FILENO)
            return
        }
        let end = ContinuousClock.now + .seconds(1)
        var bytes = Array(text.utf8)[...]
        while true {
            bytes = writeNow(bytes)
            let left = ContinuousClock.now.duration(to: end).wholeMilliseconds
            guard !bytes.isEmpty, left > 0 else { return }
            var room = pollfd(fd: terminal, events: Int16(POLLOUT), revents: 0)
            _ = unsafe poll(&room, 1, Int32(left))
        }
    }

    /// A line or several, without anything that a terminal would take for a command: some of it the broker said.
    static func line(_ text: String) {
        write(
            text.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).printable + "\n" }.joined())
    }

    /// Writes what the terminal takes at once; returns the rest.
    static func writeNow(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard let terminal, !bytes.isEmpty else { return [] }
        let count = writeSome(bytes, to: terminal)
        if count < 0 { return errno == EAGAIN || errno == EINTR ? bytes : [] }
        return bytes.dropFirst(count)
    }
}

private func writeAll(_ text: String, to descriptor: Int32) -> Bool {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = writeSome(bytes, to: descriptor)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return false }
        bytes = bytes.dropFirst(count)
    }
    return true
}

private func writeSome(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Int {
    unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
}

extension String {
    /// The text on one line, without control characters and without those that turn the direction of writing: what others
    /// send must not move the operator's cursor, nor show something else than what is there.
    var printable: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .lineSeparator, .paragraphSeparator: " "
                    default: scalar.properties.isBidiControl ? " " : scalar
                    }
                }))
    }
}
