import Foundation
import ReloadAMQP
import Synchronization

/// A TCP proxy between a client and a broker that does what networks do: it stalls, delays, cuts, resets and refuses.
///
/// One thread of its own does all of it. Whatever is switched is in force when the call returns. It knows AMQP's frames, so
/// that a cut falls where a test wants it; other bytes it passes on as they come.
final class Proxy: Sendable {
    /// From the first moment: a process that is started meanwhile would hold what it inherits open.
    private static let ours = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)

    /// Which way bytes go.
    enum Direction: Sendable {
        case toBroker
        case toClient
    }

    /// AMQP's kinds of frames.
    enum Frame: UInt8, Sendable {
        case method = 1
        case header = 2
        case body = 3
        case heartbeat = 8
    }

    /// Where in a frame: how much of it still arrives.
    enum Position: Sendable, CaseIterable {
        /// Three of the seven bytes before the payload.
        case header
        /// The seven bytes and half of the payload.
        case payload
        /// All but the last octet.
        case end
        /// All of it.
        case behind
    }

    /// A place in what goes through.
    struct Place: Sendable {
        var direction: Direction
        var frame: Frame
        /// What the frame's payload must hold, such as a name, or ``Proxy/confirm``.
        var text = ""
        var position: Position
    }

    /// Class and method of `basic.ack`, as they stand in a frame.
    static let confirm = "\0\u{3C}\0\u{50}"

    /// What happens to the connection that comes to a place.
    enum Accident: Sendable {
        /// Both sides are closed.
        case cut
        /// Nothing more goes through, until ``Proxy/forward()``.
        case freeze
    }

    /// What the proxy has seen.
    struct Counts: Sendable {
        /// Connections accepted.
        var accepted = 0
        /// Those that are open.
        var open = 0
        /// Accidents that have happened.
        var accidents = 0
        var bytesToBroker = 0
        var bytesToClient = 0
    }

    let address: String
    let port: Int
    private let state: Mutex<State>
    private let wake: Wake
    private let isOver = DispatchSemaphore(value: 0)

    /// Listens and forwards from now on.
    ///
    /// - Parameters:
    ///   - target: The broker's IPv4 address and port.
    ///   - address: Where to listen, with `port` 0 for a free one.
    init(to target: (host: String, port: Int), at address: String = "127.0.0.1", port: Int = 0) throws {
        // Two steps: only a port that was asked for by its number stays with a listener that is shut down.
        let finder = try Self.bound(to: try Endpoint(address, port))
        defer { close(finder) }
        let found = Endpoint.port(of: finder)
        let listener = try Self.bound(to: try Endpoint(address, found))
        do {
            guard listen(listener, 128) == 0 else { throw TestFailure("cannot listen: error \(errno)") }
            self.address = address
            self.port = found
            state = Mutex(State(listener: listener, target: try Endpoint(target.host, target.port)))
            wake = try Wake()
        } catch {
            close(listener)
            throw error
        }
        let thread = Thread { [self] in run() }
        thread.name = "proxy"
        thread.start()
    }

    /// A way to a broker.
    convenience init(to broker: Broker) throws {
        let url = try BrokerURL(broker.url)
        try self.init(to: (url.host, url.port))
    }

    /// The broker's address by way of this proxy.
    func url(of broker: Broker) throws -> String {
        broker.url.replacing(":\(try BrokerURL(broker.url).port)", with: ":\(port)")
    }

    private static func bound(to place: Endpoint) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Proxy.ours, 0)
        descriptor.set(SO_REUSEADDR, Int32(1))
        guard unsafe place.withPointer({ unsafe bind(descriptor, $0, $1) }) == 0 else {
            defer { close(descriptor) }
            throw TestFailure("cannot bind: error \(errno)")
        }
        return descriptor
    }

    // MARK: Switching

    /// Passes everything on, from now and from everything that was held back. Listens again after ``refuse()``.
    func forward() {
        change { state in
            state.mode = .forward
            state.delay = .zero
            for key in state.links.keys { state.links[key]?.isFrozen = false }
            state.setListening(true)
        }
    }

    /// Keeps all connections, and accepts and holds new ones; nothing goes through.
    func stall() { change { $0.mode = .stall } }

    /// Passes everything on, each byte this much later, each way.
    func delay(_ delay: Duration) {
        change { state in
            state.mode = .forward
            state.delay = delay
        }
    }

    /// Refuses connections and closes those that are open. The port stays this proxy's.
    func refuse() {
        change { state in
            state.setListening(false)
            state.closeAll(reset: false)
        }
    }

    /// Ends every connection with RST, now.
    func reset() { change { $0.closeAll(reset: true) } }

    /// Closes both sides of the connection that brings the byte after this many more.
    func cut(after bytes: Int, _ direction: Direction) {
        change { $0.bytesLeft = (direction, bytes) }
    }

    /// Closes, or freezes, the first connection that comes to a place. It happens once.
    func accident(_ accident: Accident, at place: Place) {
        change { $0.ambush = (place, accident) }
    }

    /// Makes the value of a header of this name one of no kind there is, in all messages to clients from now on.
    func garble(_ header: String) {
        change { $0.garbled = header }
    }

    /// Sends new connections to another broker.
    func retarget(to host: String, port: Int) throws {
        let target = try Endpoint(host, port)
        change { $0.target = target }
    }

    /// Ends the thread and closes every descriptor.
    func stop() {
        guard
            change({ state in
                defer { state.isStopped = true }
                return !state.isStopped
            })
        else { return }
        isOver.wait()
    }

    // MARK: Looking

    /// What has happened so far.
    var counts: Counts { state.withLock { $0.counts } }

    /// Waits until the counts are as wanted.
    func wait(until isWanted: (Counts) -> Bool) async throws {
        while true {
            try Task.checkCancellation()
            let seen = counts
            if isWanted(seen) { return }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let isDone = state.withLock { state in
                        guard !isWanted(state.counts), !Task.isCancelled, !state.isStopped else { return true }
                        state.waiting.append(continuation)
                        return false
                    }
                    if isDone { continuation.resume() }
                }
            } onCancel: {
                notify()
            }
            if state.withLock({ $0.isStopped }), !isWanted(counts) { throw TestFailure("the proxy was stopped") }
        }
    }

    @discardableResult
    private func change<Value: Sendable>(_ body: (inout State) -> Value) -> Value {
        let value = state.withLock { state in
            defer { if !state.hasEnded { wake.signal() } }
            return body(&state)
        }
        notify()
        return value
    }

    private func notify() {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    // MARK: The thread

    private func run() {
        while let (polled, timeout) = state.withLock({ $0.isStopped ? nil : $0.whatToPoll() }) {
            var descriptors = polled.map(\.descriptor) + [pollfd(fd: wake.reader, events: Int16(POLLIN), revents: 0)]
            _ = unsafe poll(&descriptors, nfds_t(descriptors.count), timeout)
            wake.clear()
            let ready = zip(polled, descriptors).filter { $1.revents != 0 }.map(\.0)
            state.withLock { $0.work(ready) }
            notify()
        }
        state.withLock { state in
            state.closeAll(reset: false)
            close(state.listener)
            wake.end()
            state.hasEnded = true
        }
        notify()
        isOver.signal()
    }
}

extension Proxy {
    /// The two sides of one connection.
    private struct Link {
        let client: Int32
        /// -1 until the connection was given a way to the broker.
        var broker: Int32 = -1
        var isConnected = false
        /// An accident: what was let through still arrives, nothing else.
        var isFrozen = false
        var isCut = false
        var toBroker = Flow()
        var toClient = Flow()

        subscript(direction: Direction) -> Flow {
            get { direction == .toBroker ? toBroker : toClient }
            set { if direction == .toBroker { toBroker = newValue } else { toClient = newValue } }
        }

        func source(_ direction: Direction) -> Int32 { direction == .toBroker ? client : broker }
        func sink(_ direction: Direction) -> Int32 { direction == .toBroker ? broker : client }
    }

    /// The bytes of one direction.
    private struct Flow {
        /// Read, and not yet passed on; what was not begun is less than a frame.
        var incoming: [UInt8] = []
        /// As much of it was passed on.
        var parsed = 0
        /// The rest of a frame in which the connection was frozen.
        var held: ArraySlice<UInt8> = []
        /// To be written, each piece not before its time.
        var outgoing: [(due: ContinuousClock.Instant, bytes: ArraySlice<UInt8>)] = []
        var hasEnded = false
        var isShut = false
        var isAMQP = true

        var isFull: Bool { outgoing.reduce(incoming.count) { $0 + $1.bytes.count } > 1 << 20 }

        /// Takes the next piece: a frame, or the header before the first one, or what is no AMQP.
        mutating func piece() -> ArraySlice<UInt8>? {
            let left = incoming[parsed...]
            guard let first = left.first else { return nil }
            var size = left.count
            if isAMQP {
                if Frame(rawValue: first) != nil {
                    size = 8 + left.dropFirst(3).prefix(4).reduce(0) { $0 << 8 | Int($1) }
                    if left.count < 7 { size = .max }
                } else if first == UInt8(ascii: "A") {
                    size = 8
                } else {
                    isAMQP = false
                }
                guard left.count >= size || hasEnded else { return nil }
            }
            let piece = left.prefix(size)
            parsed += piece.count
            return piece
        }
    }

    private enum Mode {
        case forward
        case stall
    }

    /// Everything, under the lock. The thread holds it whenever it moves a byte.
    private struct State {
        struct Polled {
            /// nil for the listener.
            var link: Int?
            var descriptor: pollfd
        }

        let listener: Int32
        var target: Endpoint
        var mode = Mode.forward
        var delay = Duration.zero
        var bytesLeft: (direction: Direction, count: Int)?
        var ambush: (place: Place, accident: Accident)?
        var garbled: String?
        var links: [Int: Link] = [:]
        var isListening = true
        var isStopped = false
        /// The descriptors are closed.
        var hasEnded = false
        var counts = Counts()
        var waiting: [CheckedContinuation<Void, Never>] = []

        init(listener: Int32, target: Endpoint) {
            self.listener = listener
            self.target = target
        }

        /// A listener that is shut down gives up its queue and keeps its port (Linux).
        mutating func setListening(_ isOn: Bool) {
            guard isOn != isListening else { return }
            isListening = isOn
            if isOn { listen(listener, 128) } else { shutdown(listener, Int32(SHUT_RD)) }
        }

        mutating func closeAll(reset: Bool) {
            for key in links.keys { end(key, reset: reset) }
        }

        mutating func end(_ key: Int, reset: Bool) {
            guard let link = links.removeValue(forKey: key) else { return }
            for side in [link.client, link.broker] where side >= 0 {
                if reset { side.set(SO_LINGER, linger(l_onoff: 1, l_linger: 0)) }
                close(side)
            }
            counts.open -= 1
        }

        /// What to wait for, and how long, in milliseconds.
        func whatToPoll() -> ([Polled], Int32) {
            var polled: [Polled] = []
            var next: ContinuousClock.Instant?
            if isListening {
                polled.append(Polled(link: nil, descriptor: pollfd(fd: listener, events: Int16(POLLIN), revents: 0)))
            }
            guard mode == .forward else { return (polled, -1) }
            for (key, link) in links {
                for direction in [Direction.toBroker, .toClient] {
                    let flow = link[direction]
                    let isReading = link.isConnected && !link.isFrozen && !link.isCut && !flow.hasEnded && !flow.isFull
                    if isReading {
                        polled.append(
                            Polled(
                                link: key,
                                descriptor: pollfd(fd: link.source(direction), events: Int16(POLLIN), revents: 0)))
                    }
                    guard let due = flow.outgoing.first?.due, link.isConnected else { continue }
                    if due <= .now {
                        polled.append(
                            Polled(
                                link: key,
                                descriptor: pollfd(fd: link.sink(direction), events: Int16(POLLOUT), revents: 0)))
                    } else {
                        next = min(next ?? due, due)
                    }
                }
                if !link.isConnected {
                    polled.append(
                        Polled(link: key, descriptor: pollfd(fd: link.broker, events: Int16(POLLOUT), revents: 0)))
                }
            }
            guard let next else { return (polled, -1) }
            return (polled, Int32(max(0, ContinuousClock.now.duration(to: next) / .milliseconds(1))) + 1)
        }

        mutating func work(_ ready: [Polled]) {
            if ready.contains(where: { $0.link == nil }), isListening { accept() }
            guard mode == .forward, !isStopped else { return }
            for key in links.keys where links[key]?.broker == -1 { connect(key) }
            for key in Set(ready.compactMap(\.link)) { finishConnecting(key) }
            for key in links.keys where links[key]?.isConnected == true {
                for direction in [Direction.toBroker, .toClient] {
                    if ready.contains(where: { $0.link == key && $0.descriptor.fd == links[key]?.source(direction) }) {
                        read(key, direction)
                    }
                    pass(key, direction)
                    write(key, direction)
                }
                guard let link = links[key] else { continue }
                let isDrained = link.toBroker.outgoing.isEmpty && link.toClient.outgoing.isEmpty
                if isDrained && (link.isCut || link.toBroker.isShut && link.toClient.isShut) { end(key, reset: false) }
            }
        }

        private mutating func accept() {
            while true {
                let client = Glibc.accept(listener, nil, nil)
                guard client >= 0 else { return }
                client.becomeOurs()
                client.set(Int32(TCP_NODELAY), Int32(1), level: Int32(IPPROTO_TCP))
                counts.accepted += 1
                counts.open += 1
                links[counts.accepted] = Link(client: client)
            }
        }

        private mutating func connect(_ key: Int) {
            let broker = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Proxy.ours, 0)
            broker.set(Int32(TCP_NODELAY), Int32(1), level: Int32(IPPROTO_TCP))
            let result = unsafe target.withPointer { unsafe Glibc.connect(broker, $0, $1) }
            links[key]?.broker = broker
            if result != 0 && errno != EINPROGRESS { end(key, reset: true) }
        }

        private mutating func finishConnecting(_ key: Int) {
            guard let link = links[key], !link.isConnected else { return }
            switch link.broker.pendingError {
            case 0: links[key]?.isConnected = true
            default: end(key, reset: true)
            }
        }

        private mutating func read(_ key: Int, _ direction: Direction) {
            guard let link = links[key], !link.isFrozen, !link.isCut else { return }
            var buffer = [UInt8](repeating: 0, count: 65536)
            let count = unsafe recv(link.source(direction), &buffer, buffer.count, 0)
            if count < 0 {
                // A reset is passed on as one.
                if errno != EAGAIN && errno != EINTR { end(key, reset: true) }
                return
            }
            links[key]?[direction].incoming += buffer[..<count]
            links[key]?[direction].hasEnded = count == 0
        }

        /// Hands what was read to the other side.
        private mutating func pass(_ key: Int, _ direction: Direction) {
            guard var link = links[key], !link.isFrozen, !link.isCut else { return }
            var flow = link[direction]
            var passed = Array(flow.held)
            flow.held = []
            while !link.isCut, !link.isFrozen, let piece = flow.piece() {
                let head = through(piece, direction, &link)
                passed += head
                flow.held = piece.dropFirst(head.count)
            }
            flow.incoming.removeFirst(flow.parsed)
            flow.parsed = 0
            if !passed.isEmpty { flow.outgoing.append((.now + delay, passed[...])) }
            link[direction] = flow
            links[key] = link
        }

        /// The part of a piece that goes on.
        private mutating func through(
            _ piece: ArraySlice<UInt8>, _ direction: Direction, _ link: inout Link
        ) -> ArraySlice<UInt8> {
            var piece = piece
            // The kind of a value follows the name.
            if direction == .toClient, piece.first == Frame.header.rawValue, let garbled,
                let name = Data(piece).firstRange(of: Data(garbled.utf8))
            {
                piece[piece.startIndex + name.upperBound] = 0xff
            }
            if let (place, accident) = ambush, place.direction == direction, place.fits(piece) {
                ambush = nil
                counts.accidents += 1
                piece = piece.prefix(place.position.length(of: piece.count))
                if accident == .cut { link.isCut = true } else { link.isFrozen = true }
            }
            if let left = bytesLeft, left.direction == direction {
                if piece.count > left.count {
                    bytesLeft = nil
                    counts.accidents += 1
                    piece = piece.prefix(left.count)
                    link.isCut = true
                } else {
                    bytesLeft = (direction, left.count - piece.count)
                }
            }
            return piece
        }

        private mutating func write(_ key: Int, _ direction: Direction) {
            guard var link = links[key] else { return }
            var flow = link[direction]
            while let (due, bytes) = flow.outgoing.first, due <= .now {
                let count = unsafe bytes.withUnsafeBytes { bytes in
                    unsafe send(link.sink(direction), bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
                }
                if count < 0 {
                    guard errno == EAGAIN || errno == EINTR else { return end(key, reset: true) }
                    break
                }
                if direction == .toBroker { counts.bytesToBroker += count } else { counts.bytesToClient += count }
                flow.outgoing[0].bytes = bytes.dropFirst(count)
                if flow.outgoing[0].bytes.isEmpty { flow.outgoing.removeFirst() }
            }
            if flow.hasEnded, flow.incoming.isEmpty, flow.held.isEmpty, flow.outgoing.isEmpty, !flow.isShut {
                flow.isShut = true
                shutdown(link.sink(direction), Int32(SHUT_WR))
            }
            link[direction] = flow
            links[key] = link
        }
    }
}

extension Proxy.Place {
    fileprivate func fits(_ piece: ArraySlice<UInt8>) -> Bool {
        piece.first == frame.rawValue && (text.isEmpty || Data(piece).firstRange(of: Data(text.utf8)) != nil)
    }
}

extension Proxy.Position {
    fileprivate func length(of frame: Int) -> Int {
        switch self {
        case .header: 3
        case .payload: 7 + (frame - 8) / 2
        case .end: frame - 1
        case .behind: frame
        }
    }
}

/// An IPv4 address and a port.
private struct Endpoint {
    private var value = sockaddr_in()

    init(_ host: String, _ port: Int) throws {
        value.sin_family = sa_family_t(AF_INET)
        value.sin_port = in_port_t(port).bigEndian
        guard unsafe inet_pton(AF_INET, host, &value.sin_addr) == 1 else { throw TestFailure("\(host) is no address") }
    }

    @unsafe func withPointer<Value>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        unsafe withUnsafePointer(to: value) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                unsafe body(pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// The port a socket is bound to.
    static func port(of descriptor: Int32) -> Int {
        var value = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = unsafe withUnsafeMutablePointer(to: &value) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                unsafe getsockname(descriptor, pointer, &size)
            }
        }
        return Int(in_port_t(bigEndian: value.sin_port))
    }
}

/// Gets the thread out of its poll.
private struct Wake: Sendable {
    let reader: Int32
    private let writer: Int32

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { throw TestFailure("no pipe") }
        for end in ends { end.becomeOurs() }
        (reader, writer) = (ends[0], ends[1])
    }

    func signal() { _ = unsafe write(writer, [1], 1) }

    func clear() {
        var bytes = [UInt8](repeating: 0, count: 64)
        while unsafe read(reader, &bytes, bytes.count) > 0 {}
    }

    func end() {
        close(reader)
        close(writer)
    }
}

extension Int32 {
    /// Makes this descriptor one that never blocks and that no process inherits.
    fileprivate func becomeOurs() {
        _ = fcntl(self, F_SETFD, FD_CLOEXEC)
        _ = fcntl(self, F_SETFL, fcntl(self, F_GETFL) | O_NONBLOCK)
    }

    /// Sets an option of this socket.
    fileprivate func set<Value>(_ option: Int32, _ value: Value, level: Int32 = SOL_SOCKET) {
        _ = unsafe withUnsafeBytes(of: value) { bytes in
            unsafe setsockopt(self, level, option, bytes.baseAddress, socklen_t(bytes.count))
        }
    }

    /// Why this socket could not connect; 0 when it could.
    fileprivate var pendingError: Int32 {
        var error: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        _ = unsafe getsockopt(self, SOL_SOCKET, SO_ERROR, &error, &size)
        return error
    }
}
