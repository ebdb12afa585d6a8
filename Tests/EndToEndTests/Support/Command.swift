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
final class Command: Sendable {
    private let process: Process
    private let state = Mutex(State())

    private struct State {
        var lines: [String] = []
        var errors = ""
        var isAtEnd = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    /// Starts `path` with its output in pipes.
    init(_ path: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        self.process = process
        try process.run()
        let ends = DispatchSemaphore(value: 0)
        read(output.fileHandleForReading, ends) { state, text in
            state.lines.append(text)
        }
        read(errors.fileHandleForReading, ends) { state, text in
            state.errors += text + "\n"
        }
        Thread { [self] in
            ends.wait()
            ends.wait()
            process.waitUntilExit()
            notify { $0.isAtEnd = true }
        }.start()
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
    var processIdentifier: Int32 { process.processIdentifier }

    /// Waits for a line, from line number `start` on, that `pick` makes something of.
    func line<Value>(from start: Int = 0, _ pick: (String) -> Value?) async throws -> Value {
        var next = start
        while true {
            let (lines, isAtEnd) = state.withLock { ($0.lines, $0.isAtEnd) }
            while next < lines.count {
                if let value = pick(lines[next]) { return value }
                next += 1
            }
            guard !isAtEnd else { throw TestFailure("\(process.arguments ?? []) ended early: \(errors)") }
            await change { $0.lines.count > next || $0.isAtEnd }
        }
    }

    /// Waits for the end.
    func outcome() async -> Outcome {
        while true {
            let (state, isAtEnd) = self.state.withLock { (($0.lines, $0.errors), $0.isAtEnd) }
            if isAtEnd {
                return Outcome(
                    status: process.terminationStatus, output: state.0.map { $0 + "\n" }.joined(), errors: state.1)
            }
            await change { $0.isAtEnd }
        }
    }

    private func change(_ isThere: (State) -> Bool) async {
        await withCheckedContinuation { continuation in
            let isThereAlready = state.withLock { state in
                guard !isThere(state) else { return true }
                state.waiting.append(continuation)
                return false
            }
            if isThereAlready { continuation.resume() }
        }
    }

    func signal(_ number: Int32) {
        kill(process.processIdentifier, number)
    }

    /// Ends the process and waits for it.
    func stop() async {
        process.terminate()
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
