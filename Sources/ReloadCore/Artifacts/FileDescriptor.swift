internal import Glibc

/// An open descriptor, closed when it goes out of scope.
struct FileDescriptor: ~Copyable {
    let number: Int32

    /// `open(2)` with `O_CLOEXEC`; nil leaves the cause in `errno`.
    init?(_ path: String, _ flags: Int32, mode: mode_t = 0) {
        // Assigned only when it is one: otherwise `deinit` would run, and `close(-1)` would overwrite `errno`.
        let opened = unsafe open(path, flags | O_CLOEXEC, mode)
        guard opened >= 0 else { return nil }
        number = opened
    }

    deinit { close(number) }

    /// Reads up to `buffer.count` bytes; 0 at the end, nil on error with the cause in `errno`.
    func read(into buffer: inout [UInt8]) -> Int? {
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(number, $0.baseAddress, $0.count) }
            if count >= 0 { return count }
            if errno != EINTR { return nil }
        }
    }

    /// Writes all bytes; false on error with the cause in `errno`.
    func write(_ bytes: ArraySlice<UInt8>) -> Bool {
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
    /// Bytes in the file; nil on error with the cause in `errno`.
    var size: Int? {
        var information = stat()
        return unsafe fstat(number, &information) == 0 ? Int(information.st_size) : nil
    }

    /// `fsync(2)`; false on error with the cause in `errno`.
    func flush() -> Bool { fsync(number) == 0 }
}

/// The operating system's words for an error number: `No such file or directory`. `strerror` is thread-safe since glibc
/// 2.32 and in practice before: it only writes to a buffer for numbers it does not know.
func systemText(_ number: Int32 = errno) -> String {
    unsafe String(cString: strerror(number))
}
