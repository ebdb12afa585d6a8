import Glibc
import Synchronization

/// The file of records, one JSON object a line; each line is appended by one `write`, so that a reader, or another
/// crawler that writes to the same file, never sees half of one.
final class RecordFile: Sendable {
    private let descriptor: CInt
    /// Whether the file ends in half a line because the disk was full: the next record then starts a new one.
    private let isTorn = Mutex(false)

    /// Opens or creates the file.
    init(path: String) throws {
        descriptor = unsafe open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw CrawlFailure(systemError: errno) }
    }

    deinit {
        close(descriptor)
    }

    func append(_ record: [UInt8]) throws {
        let newline = UInt8(ascii: "\n")
        try isTorn.withLock { isTorn in
            let line = (isTorn ? [newline] : []) + record + [newline]
            let count = unsafe line.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw CrawlFailure(systemError: errno) }
            isTorn = count < line.count
            guard !isTorn else { throw CrawlFailure("the file took \(count) of \(line.count) bytes") }
        }
    }
}
