package import Glibc

/// An open descriptor, closed when it goes out of scope.
package struct FileDescriptor: ~Copyable {
    package let number: Int32

    /// `open(2)` with `O_CLOEXEC`; nil leaves the cause in `errno`.
    package init?(_ path: String, _ flags: Int32, mode: mode_t = 0) {
        // Assigned only when it is one: otherwise `deinit` would run, and `close(-1)` would overwrite `errno`.
        let opened = unsafe open(path, flags | O_CLOEXEC, mode)
        guard opened >= 0 else { return nil }
        number = opened
    }

    /// Takes over what a function of C returned; nil for -1.
    package init?(taking opened: Int32) {
        guard opened >= 0 else { return nil }
        number = opened
    }

    deinit { close(number) }

    /// Reads up to `buffer.count` bytes; 0 at the end, nil on error with the cause in `errno`.
    package func read(into buffer: inout [UInt8]) -> Int? { Self.read(number, into: &buffer) }

    /// The same for a descriptor that somebody else closes.
    package static func read(_ number: Int32, into buffer: inout [UInt8]) -> Int? {
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(number, $0.baseAddress, $0.count) }
            if count >= 0 { return count }
            if errno != EINTR { return nil }
        }
    }

    /// Writes all bytes; false on error with the cause in `errno`.
    package func write(_ bytes: ArraySlice<UInt8>) -> Bool {
        unsafe bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = unsafe Glibc.write(number, bytes.baseAddress.map { unsafe $0 + done }, bytes.count - done)
                if count > 0 {
                    done += count
                } else if errno != EINTR {
                    return false
                }
            }
            return true
        }
    }
}

extension FileDescriptor {
    /// What kind of file it is, whose, and how large; nil on error with the cause in `errno`.
    package var information: stat? {
        var information = stat()
        return unsafe fstat(number, &information) == 0 ? information : nil
    }

    /// Bytes in the file; nil on error with the cause in `errno`.
    package var size: Int? { information.map { Int($0.st_size) } }

    /// Where a symbolic link leads that was found and not followed, or the path of an open file through `/proc`; nil when it
    /// is none.
    package static func target(_ name: String, of folder: Int32) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe readlinkat(folder, name, &buffer, buffer.count)
        return count < 0 ? nil : String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The path it was found at; nil without `/proc`.
    package var path: String? { Self.target("/proc/self/fd/\(number)", of: AT_FDCWD) }

    /// `fsync(2)`; false on error with the cause in `errno`.
    package func flush() -> Bool { fsync(number) == 0 }
}

/// Where relative paths begin. Whoever keeps one for later resolves it at once: a library may change the directory of the whole
/// process.
package struct WorkingDirectory: Sendable {
    private let path: String

    /// The directory now; `/` if it was deleted.
    package init() {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let isThere = unsafe getcwd(&buffer, buffer.count) != nil
        path = isThere ? String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) : "/"
    }

    /// An absolute path as it is, another one below the directory.
    package func absolute(_ file: String) -> String {
        guard !file.isEmpty, !file.hasPrefix("/") else { return file }
        return path == "/" ? "/\(file)" : "\(path)/\(file)"
    }
}

/// The operating system's words for an error number: `No such file or directory`. `strerror` is thread-safe since glibc
/// 2.32 and in practice before: it only writes to a buffer for numbers it does not know.
package func systemText(_ number: Int32 = errno) -> String {
    unsafe String(cString: strerror(number))
}
