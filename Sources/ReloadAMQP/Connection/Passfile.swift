#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

extension BrokerURL {
    /// Reads what an operator gives: a URL, or `passfile:PATH`, a file whose only line is one.
    ///
    /// The file must be a regular one, of this process's user or of root, that group and others can neither read nor write.
    /// Line breaks at its end do not count.
    ///
    /// - Throws: ``BrokerError`` with ``BrokerError/Code/badURL`` or ``BrokerError/Code/badPassfile``; never with what the
    ///   file holds.
    public init(source: String) throws(BrokerError) {
        guard source.hasPrefix(Self.passfile) else {
            try self.init(source)
            return
        }
        try self.init(Self.read(String(source.dropFirst(Self.passfile.count))))
    }

    private static let passfile = "passfile:"
    private static let sizeLimit = 65_536

    private static func read(_ path: String) throws(BrokerError) -> String {
        func refuse(_ reason: String) -> BrokerError {
            BrokerError(.badPassfile, "\(path): \(reason)", operation: "passfile")
        }

        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw refuse(unsafe String(cString: strerror(errno))) }
        defer { close(descriptor) }
        // Of what was opened, not of what the path may lead to by now.
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw refuse(unsafe String(cString: strerror(errno))) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw refuse("it is no regular file") }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw refuse("it belongs to user \(status.st_uid), neither to this one nor to root")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw refuse(
                "its mode is \(String(status.st_mode & 0o7777, radix: 8)): group or others could read or write it; "
                    + "chmod 600 it")
        }
        var bytes = [UInt8](repeating: 0, count: sizeLimit + 1)
        // A regular file gives all it has at once.
        let count = unsafe pread(descriptor, &bytes, bytes.count, 0)
        guard count >= 0 else { throw refuse(unsafe String(cString: strerror(errno))) }
        guard count <= sizeLimit else { throw refuse("it holds more than \(sizeLimit) bytes") }
        bytes.removeLast(bytes.count - count)
        while bytes.last == UInt8(ascii: "\n") || bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        guard let text = String(validating: bytes, as: UTF8.self), !text.isEmpty, !text.contains(where: \.isNewline)
        else { throw refuse("it does not hold one line of UTF-8 text, the broker's URL") }
        return text
    }
}
