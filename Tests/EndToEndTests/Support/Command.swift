import Foundation
import Synchronization

/// What a finished command left.
struct Outcome: Sendable {
    var status: Int32
    var output: String
    var errors: String

    /// The JSON objects on standard output, one a line.
    var objects: [[String: JSON]] {
        output.split(separator: "\n").compactMap { JSON($0)?.object }
    }
}

/// A process of a test: its lines can be awaited, and it ends with the test.
///
/// Foundation's `Process` is not used: it takes a process for running as long as any of its descendants holds a descriptor
/// it hands down, and `scripts/broker start` leaves a node behind.
final class Command: Sendable {
    let processIdentifier: Int32
    private let name: String
    private let state = Mutex(State())

    private struct State {
        var lines: [String] = []
        var errors = ""
        var status: Int32?
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    /// Starts `path` with its output in pipes.
    init(_ path: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        name = ([path] + arguments).joined(separator: " ")
        let (process, output, errors) = try Self.spawning.withLock { _ in
            try Self.spawn(path, arguments, ProcessInfo.processInfo.environment.merging(environment) { $1 })
        }
        processIdentifier = process
        let ends = DispatchSemaphore(value: 0)
        read(output, ends) { $0.lines.append($1) }
        read(errors, ends) { $0.errors += $1 + "\n" }
        Thread { [self] in
            ends.wait()
            ends.wait()
            var status: Int32 = 0
            while unsafe waitpid(processIdentifier, &status, 0) < 0, errno == EINTR {}
            // As a shell counts: 128 and the signal's number.
            notify { [status] in $0.status = status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f }
        }.start()
    }

    /// One at a time: a process started between the making of another's pipes and their marking as close-on-exec would
    /// inherit them, and keep them from ever ending.
    private static let spawning = Mutex(())

    private static func spawn(
        _ path: String, _ arguments: [String], _ environment: [String: String]
    ) throws -> (process: Int32, output: FileHandle, errors: FileHandle) {
        var ends: [Int32] = [-1, -1, -1, -1]
        let made = unsafe ends.withUnsafeMutableBufferPointer { ends in
            guard let first = ends.baseAddress else { return false }
            return unsafe pipe(first) == 0 && pipe(first + 2) == 0
        }
        guard made else { throw TestFailure("no pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer {
            close(ends[1])
            close(ends[3])
        }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[3], 2)
        // Dispatch's threads block every signal, and a process inherits that.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var words = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
        var variables = unsafe environment.map { unsafe strdup("\($0.key)=\($0.value)") } + [nil]
        defer {
            for index in unsafe words.indices { unsafe free(words[index]) }
            for index in unsafe variables.indices { unsafe free(variables[index]) }
        }
        var process: Int32 = 0
        let result = unsafe posix_spawn(&process, path, &actions, &attributes, &words, &variables)
        guard result == 0 else {
            throw TestFailure("cannot start \(path): \(unsafe String(cString: strerror(result)))")
        }
        return (
            process, FileHandle(fileDescriptor: ends[0], closeOnDealloc: true),
            FileHandle(fileDescriptor: ends[2], closeOnDealloc: true)
        )
    }

    private func read(
        _ handle: FileHandle, _ end: DispatchSemaphore, _ add: @escaping @Sendable (inout State, String) -> Void
    ) {
        Thread { [self] in
            var rest = Data()
            while true {
                let chunk = handle.availableData
                if chunk.isEmpty { break }
                rest += chunk
                while let newline = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[..<newline], as: UTF8.self)
                    rest = Data(rest[(newline + 1)...])
                    notify { add(&$0, line) }
                }
            }
            if !rest.isEmpty { notify { add(&$0, String(decoding: rest, as: UTF8.self)) } }
            end.signal()
        }.start()
    }

    private func notify(_ change: (inout State) -> Void) {
        let waiting = state.withLock { state in
            change(&state)
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Standard output so far.
    var lines: [String] { state.withLock { $0.lines } }
    /// Standard error so far.
    var errors: String { state.withLock { $0.errors } }

    /// Waits for a line, from line number `start` on, that `pick` makes something of.
    func line<Value>(from start: Int = 0, _ pick: (String) -> Value?) async throws -> Value {
        var next = start
        while true {
            let (lines, status) = state.withLock { ($0.lines, $0.status) }
            while next < lines.count {
                if let value = pick(lines[next]) { return value }
                next += 1
            }
            if let status { throw TestFailure("\(name) ended with status \(status): \(errors)") }
            let seen = next
            try await change { $0.lines.count > seen || $0.status != nil }
        }
    }

    /// Waits for the end.
    func outcome() async -> Outcome {
        while true {
            let outcome = state.withLock { state in
                state.status.map {
                    Outcome(status: $0, output: state.lines.map { $0 + "\n" }.joined(), errors: state.errors)
                }
            }
            if let outcome { return outcome }
            do {
                try await change { $0.status != nil }
            } catch {
                // The test is out of time: whoever hangs is ended.
                signal(SIGKILL)
                await withCheckedContinuation { continuation in
                    let hasEnded = state.withLock { state in
                        if state.status == nil { state.waiting.append(continuation) }
                        return state.status != nil
                    }
                    if hasEnded { continuation.resume() }
                }
            }
        }
    }

    /// Waits for the next change unless what is waited for is there already. A test that ran out of time does not wait on.
    private func change(_ isThere: (State) -> Bool) async throws {
        try Task.checkCancellation()
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDone = state.withLock { state in
                    guard !isThere(state), !Task.isCancelled else { return true }
                    state.waiting.append(continuation)
                    return false
                }
                if isDone { continuation.resume() }
            }
        } onCancel: {
            notify { _ in }
        }
    }

    func signal(_ number: Int32) {
        if state.withLock({ $0.status == nil }) { kill(processIdentifier, number) }
    }

    /// Ends the process and waits for it.
    func stop() async {
        signal(SIGTERM)
        signal(SIGCONT)
        _ = await outcome()
    }
}

/// A test cannot go on.
struct TestFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }
}

/// A JSON value, as far as tests look into one.
struct JSON: Sendable, Decodable {
    var object: [String: JSON]?
    var array: [JSON]?
    var text: String?
    var number: Double?

    init?(_ line: some StringProtocol) {
        guard let value = try? JSONDecoder().decode(JSON.self, from: Data(line.utf8)) else { return nil }
        self = value
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        object = try? container.decode([String: JSON].self)
        array = try? container.decode([JSON].self)
        text = try? container.decode(String.self)
        number = try? container.decode(Double.self)
    }

    subscript(key: String) -> JSON? { object?[key] }
}
