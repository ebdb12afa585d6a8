internal import Glibc

/// A file that others must not be able to change, and if it is secret, not to read.
package enum ProtectedFile {
    /// Why a file is not taken; without anything of what it holds.
    package struct Refusal: Error {
        /// For people, to be put behind the file's name.
        package var reason: String
    }

    private static let sizeLimit = 64 << 10

    /// Reads text.
    ///
    /// It must be a regular file, of this process's user or root, whose mode lets neither group nor others write, nor read when
    /// `isSecret`.
    package static func read(_ path: String, isSecret: Bool) throws(Refusal) -> String {
        guard let file = FileDescriptor(path, O_RDONLY | O_NONBLOCK | O_NOCTTY) else {
            throw Refusal(reason: systemText())
        }
        // Of what was opened, not of what the path may lead to by now.
        var status = stat()
        guard unsafe fstat(file.number, &status) == 0 else { throw Refusal(reason: systemText()) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw Refusal(reason: "it is no regular file") }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw Refusal(reason: "it belongs to user \(status.st_uid), neither to this one nor to root")
        }
        guard status.st_mode & (isSecret ? 0o077 : 0o022) == 0 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw Refusal(
                reason: isSecret
                    ? "its mode is \(mode): group or others could read or write it; chmod 600 it"
                    : "its mode is \(mode): group or others could write it; chmod go-w it")
        }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count <= sizeLimit {
            guard let count = file.read(into: &buffer) else { throw Refusal(reason: systemText()) }
            if count > 0 {
                bytes += buffer[..<count]
            } else if let text = String(validating: bytes, as: UTF8.self) {
                return text
            } else {
                throw Refusal(reason: "it is not UTF-8")
            }
        }
        throw Refusal(reason: "it holds more than \(sizeLimit) bytes")
    }
}
