internal import Dispatch
internal import FoundationEssentials
internal import Glibc
internal import Logging
internal import Reloading

/// The service of the fault tests: an agent with the modules it is told, which says in lines of JSON what happens to it.
@main
enum TestAgent {
    static func main() {
        do {
            try serve(try Arguments(CommandLine.arguments.dropFirst()))
        } catch let error as Arguments.Mistake {
            end(2, "usage: \(error.text)")
        } catch {
            end(1, "\(error)")
        }
    }

    private static func end(_ status: Int32, _ reason: String) -> Never {
        StandardStream.error.write("test-agent: \(reason)")
        exit(status)
    }

    private static func serve(_ arguments: Arguments) throws {
        // Before the first thread, so that every thread blocks them and they wait for this one.
        let signals = [SIGUSR1, SIGTERM]
        var wanted = sigset_t()
        unsafe sigemptyset(&wanted)
        for signal in signals { unsafe sigaddset(&wanted, signal) }
        unsafe pthread_sigmask(SIG_BLOCK, &wanted, nil)
        endWithTheReader()

        let logger = Logger(label: "agent") { _ in EventLog(logLevel: arguments.logLevel) }
        let agent = try ReloadAgent(arguments.settings, logger: logger)
        let modules = try Modules(arguments, agent)
        try agent.start()
        Event(event: "started", modules: modules.present).say()
        while true {
            var signal: Int32 = 0
            unsafe sigwait(&wanted, &signal)
            guard signal == SIGUSR1 else { break }
            var event = Event(event: "status", modules: modules.present)
            event.residentKilobytes = residentKilobytes
            trim()
            event.trimmedKilobytes = residentKilobytes
            event.allocatedKilobytes = allocatedKilobytes
            event.descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
            event.say()
        }
        agent.stop()
    }

    /// Nobody may be left to end this process when a test runner was killed: its pipe says so.
    private static func endWithTheReader() {
        DispatchQueue(label: "reader").async {
            var output = pollfd(fd: 1, events: 0, revents: 0)
            while unsafe poll(&output, 1, -1) < 1 || output.revents & Int16(POLLERR) == 0 {}
            _exit(3)
        }
    }

    /// Has the allocator give back what it keeps for later (`malloc_trim`, which Swift's C library module does not have): what is
    /// resident then is in use.
    private static func trim() {
        guard let function = unsafe dlsym(nil, "malloc_trim") else { return }
        typealias Trim = @convention(c) (Int) -> Int32
        _ = unsafe unsafeBitCast(function, to: Trim.self)(0)
    }

    /// What was allocated and not freed, by the account of the allocator, the address sanitizer's or glibc's.
    private static var allocatedKilobytes: Int {
        if let function = unsafe dlsym(nil, "__sanitizer_get_current_allocated_bytes") {
            typealias Bytes = @convention(c) () -> Int
            return unsafe unsafeBitCast(function, to: Bytes.self)() / 1024
        }
        guard let function = unsafe dlsym(nil, "malloc_info") else { return 0 }
        typealias Info = @convention(c) (Int32, UnsafeMutablePointer<FILE>) -> Int32
        var bytes: UnsafeMutablePointer<CChar>?
        var count = 0
        guard let stream = unsafe open_memstream(&bytes, &count) else { return 0 }
        _ = unsafe unsafeBitCast(function, to: Info.self)(0, stream)
        unsafe fclose(stream)
        defer { unsafe free(bytes) }
        // The sums of all arenas come last: <total type="rest" count="1" size="130400"/>
        let text = unsafe bytes.map { unsafe String(cString: $0) } ?? ""
        var sizes: [Substring: Int] = [:]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: "\"")
            guard words.count >= 4, let size = words.dropLast().last.flatMap({ Int($0) }) else { continue }
            sizes[line.prefix(7) + words[1]] = size
        }
        let system = sizes["<system" + "current"] ?? 0
        let mapped = sizes["<total " + "mmap"] ?? 0
        return (system + mapped - (sizes["<total " + "fast"] ?? 0) - (sizes["<total " + "rest"] ?? 0)) / 1024
    }

    private static var residentKilobytes: Int {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return line.flatMap { Int($0.filter(\.isNumber)) } ?? 0
    }
}

/// The value of every config.
struct Value: Decodable, Sendable {
    var depth: Int
}

/// What is registered.
struct Modules {
    private var status: [String: @Sendable () -> ModuleStatus] = [:]

    init(_ arguments: Arguments, _ agent: ReloadAgent) throws {
        struct Negative: Error {}
        for (name, file) in arguments.configs {
            let config = try agent.config(name, file: file, as: Value.self) { value in
                guard value.depth >= 0 else { throw Negative() }
            }
            config.onChange { _, _ in
                let status = config.status
                Event(event: "changed", module: name, revision: status.revision, generation: status.generation).say()
            }
            status[name] = { config.status }
        }
        for (name, file) in arguments.plugins {
            let plugin = try agent.plugin(name, file: file)
            status[name] = { plugin.status }
        }
    }

    /// What runs now.
    var present: [String: Event.Module] {
        status.mapValues { status in
            let status = status()
            return Event.Module(revision: status.revision, digest: status.digest, generation: status.generation)
        }
    }
}
