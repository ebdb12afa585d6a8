internal import CBench
internal import Foundation

/// A process that is measured. It says what it did in lines of words; reading them is up to the row.
final class Program {
    let name: String
    /// Just before it was started.
    let startedAt: Int64
    let identifier: pid_t
    private let output: Int32
    private var unread: [UInt8] = []
    private var isOver = false

    init(_ path: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        name = URL(fileURLWithPath: path).lastPathComponent
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw Failure("no pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        var words = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
        var settings = unsafe variables.map { unsafe strdup("\($0.key)=\($0.value)") } + [nil]
        defer {
            for index in unsafe words.indices { unsafe free(words[index]) }
            for index in unsafe settings.indices { unsafe free(settings[index]) }
            unsafe posix_spawn_file_actions_destroy(&actions)
            close(ends[1])
        }
        var process: pid_t = 0
        startedAt = cbench_now()
        let result = unsafe posix_spawnp(&process, path, &actions, nil, &words, &settings)
        identifier = process
        output = ends[0]
        guard result == 0 else { throw Failure("cannot start \(path): \(unsafe String(cString: strerror(result)))") }
    }

    // MARK: Lines

    /// The next line's words; nil when none comes in time.
    func line(within seconds: Double) throws -> [Substring]? {
        let deadline = cbench_now() + Int64(seconds * 1e9)
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                let text = String(decoding: unread[..<end], as: UTF8.self)
                unread.removeSubrange(...end)
                return text.split(separator: " ")
            }
            var state = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            let left = max(0, deadline - cbench_now())
            guard unsafe poll(&state, 1, Int32((left + 999_999) / 1_000_000)) > 0 else {
                if left == 0 { return nil }
                continue
            }
            var bytes = [UInt8](repeating: 0, count: 65536)
            let count = unsafe read(output, &bytes, bytes.count)
            guard count > 0 else { throw Failure("\(name) ended") }
            unread += bytes[..<count]
        }
    }

    /// Waits for a line whose first word this is; returns the words after it. Lines before it are dropped.
    func expect(_ word: String, within seconds: Double = 60) throws -> [Substring] {
        let deadline = cbench_now() + Int64(seconds * 1e9)
        while let line = try line(within: Double(deadline - cbench_now()) / 1e9) {
            if line.first == word[...] { return Array(line.dropFirst()) }
        }
        throw Failure("\(name) did not say \"\(word)\" within \(Int(seconds)) s")
    }

    /// The time at the end of a line with this first word.
    func time(of word: String, within seconds: Double = 60) throws -> Int64 {
        guard let time = try expect(word, within: seconds).last.flatMap({ Int64($0) }) else {
            throw Failure("\(name) said \"\(word)\" without a time")
        }
        return time
    }

    /// Drops what it said, so that its pipe does not fill.
    func skipLines() throws {
        while try line(within: 0) != nil {}
    }

    // MARK: Life

    func signal(_ number: Int32) {
        if !isOver { kill(identifier, number) }
    }

    /// Ends it in order, or after ten seconds in any case.
    func stop() {
        guard !isOver else { return }
        signal(SIGTERM)
        signal(SIGCONT)
        var status: Int32 = 0
        let deadline = cbench_now() + 10_000_000_000
        while unsafe waitpid(identifier, &status, WNOHANG) == 0 {
            // Its last words might not fit the pipe.
            _ = try? skipLines()
            if cbench_now() > deadline { signal(SIGKILL) }
            usleep(2000)
        }
        isOver = true
        close(output)
    }

    // MARK: What it uses

    /// Nanoseconds on a processor, all threads together.
    var cpu: Double {
        perThread("schedstat") { Double($0.split(separator: " ").first ?? "") ?? 0 }
    }

    /// How often its threads gave up the processor or lost it.
    var switches: Double {
        perThread("status") { text in Self.sum(of: "ctxt_switches:", in: text) }
    }

    /// Bytes in memory.
    var resident: Double { memory("VmRSS:") }
    /// Bytes in memory that no file backs.
    var anonymous: Double { memory("RssAnon:") }

    private func perThread(_ file: String, _ value: (String) -> Double) -> Double {
        let folder = "/proc/\(identifier)/task"
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return threads.reduce(0) { sum, thread in
            sum + ((try? String(contentsOfFile: "\(folder)/\(thread)/\(file)", encoding: .utf8)).map(value) ?? 0)
        }
    }

    private func memory(_ key: String) -> Double {
        let status = (try? String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)) ?? ""
        return Self.sum(of: key, in: status) * 1024
    }

    /// Of the numbers in lines whose first word ends so.
    private static func sum(of key: String, in text: String) -> Double {
        text.split(separator: "\n").reduce(0) { sum, line in
            let words = line.split(whereSeparator: \.isWhitespace)
            guard words.count > 1, words[0].hasSuffix(key) else { return sum }
            return sum + (Double(words[1]) ?? 0)
        }
    }
}

/// Why a row could not be measured.
struct Failure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }
}
