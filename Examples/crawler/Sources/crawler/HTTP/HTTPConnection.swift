import Glibc

/// A TCP connection to a web server, kept for many requests and used by one thread.
///
/// The crawler has a small HTTP/1.1 client of its own because it shows what a reload costs: a client that keeps a hundred
/// bytes of every request, as Foundation's on Linux does, would hide that.
final class HTTPConnection {
    /// The server ended the connection, as it may do with a kept one at any time.
    static let closed = CrawlFailure("the server closed the connection")

    private let descriptor: CInt
    private var buffer: [UInt8] = []
    private var space = [UInt8](repeating: 0, count: 32 * 1024)

    /// Connects to the first of the host's addresses that answers (`getaddrinfo`, `connect`).
    init(host: String, port: Int, deadline: ContinuousClock.Instant) throws {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var addresses: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, String(port), &hints, &addresses)
        guard status == 0 else { throw CrawlFailure("\(host): \(unsafe String(cString: gai_strerror(status)))") }
        defer { unsafe freeaddrinfo(addresses) }
        var connected: CInt?
        var failure: any Error = CrawlFailure("\(host) has no address")
        var next = unsafe addresses
        while connected == nil, let address = unsafe next {
            do {
                connected = try unsafe Self.connect(to: address.pointee, deadline: deadline)
            } catch {
                failure = error
            }
            unsafe next = address.pointee.ai_next
        }
        guard let connected else { throw failure }
        descriptor = connected
    }

    deinit {
        close(descriptor)
    }

    func send(_ bytes: [UInt8], deadline: ContinuousClock.Instant) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes {
                unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else {
                try recover(from: errno, POLLOUT, deadline)
            }
        }
    }

    /// The bytes up to the next line end, which is left out.
    func readLine(deadline: ContinuousClock.Instant) throws -> String {
        var searched = 0
        while true {
            if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = buffer[..<end]
                defer { buffer.removeFirst(end + 1) }
                return String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
            }
            searched = buffer.count
            guard searched < 16 * 1024 else { throw CrawlFailure("a line of the answer's header is too long") }
            guard try fill(deadline) else { throw Self.closed }
        }
    }

    func read(_ count: Int, deadline: ContinuousClock.Instant) throws -> [UInt8] {
        while buffer.count < count {
            guard try fill(deadline) else { throw Self.closed }
        }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    /// What comes until the server closes the connection.
    func readToEnd(limit: Int, deadline: ContinuousClock.Instant) throws -> [UInt8] {
        while try fill(deadline) {
            guard buffer.count <= limit else { throw CrawlFailure("the page is too large") }
        }
        defer { buffer = [] }
        return buffer
    }

    /// Reads what is there, at least one byte; false at the end.
    private func fill(_ deadline: ContinuousClock.Instant) throws -> Bool {
        while true {
            let count = unsafe space.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
            if count >= 0 {
                buffer += space[..<count]
                return count > 0
            }
            try recover(from: errno, POLLIN, deadline)
        }
    }

    /// Waits after a call that would have blocked; throws after one that failed.
    private func recover(from error: CInt, _ event: CInt, _ deadline: ContinuousClock.Instant) throws {
        switch error {
        case EINTR: return
        case EAGAIN: try Self.wait(for: event, on: descriptor, deadline)
        case EPIPE, ECONNRESET: throw Self.closed
        default: throw CrawlFailure(systemError: error)
        }
    }

    private static func connect(to address: addrinfo, deadline: ContinuousClock.Instant) throws -> CInt {
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = unsafe socket(address.ai_family, type, address.ai_protocol)
        guard descriptor >= 0 else { throw CrawlFailure(systemError: errno) }
        do {
            if unsafe Glibc.connect(descriptor, address.ai_addr, address.ai_addrlen) != 0 {
                guard errno == EINPROGRESS else { throw CrawlFailure(systemError: errno) }
                try wait(for: POLLOUT, on: descriptor, deadline)
                var error: CInt = 0
                var size = socklen_t(MemoryLayout<CInt>.size)
                _ = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size)
                guard error == 0 else { throw CrawlFailure(systemError: error) }
            }
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    private static func wait(for event: CInt, on descriptor: CInt, _ deadline: ContinuousClock.Instant) throws {
        var polled = pollfd(fd: descriptor, events: Int16(event), revents: 0)
        while true {
            let milliseconds = (ContinuousClock.now.duration(to: deadline) / .milliseconds(1)).rounded(.up)
            guard milliseconds > 0 else { throw CrawlFailure("the server did not answer in time") }
            if unsafe poll(&polled, 1, CInt(milliseconds)) > 0 { return }
        }
    }
}
