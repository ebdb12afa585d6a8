#if FaultPoints
    internal import FoundationEssentials
    internal import Glibc
    internal import Synchronization
#endif

/// Places where a test can end or freeze the process, in the order of an attempt. Without the package trait `FaultPoints`,
/// which only the tests enable, nothing of this is compiled in.
package enum FaultPoint: String {
    case staged, tried, marked, opened, switched, proven, saved, reported, acknowledged

    /// With `RELOAD_FAULT=<name>:kill` or `:stop` in the environment (and `:2` for the second time), says so in a line of JSON and
    /// sends the process that signal.
    @inline(__always)
    package static func reached(_ point: FaultPoint) {
        #if FaultPoints
            Self.arrive(at: point)
        #endif
    }

    #if FaultPoints
        private static let wanted = ProcessInfo.processInfo.environment["RELOAD_FAULT"]?.split(separator: ":") ?? []
        private static let left = Atomic(wanted.count > 2 ? Int(wanted[2]) ?? 1 : 1)

        private static func arrive(at point: FaultPoint) {
            guard wanted.count >= 2, wanted[0] == point.rawValue else { return }
            guard left.subtract(1, ordering: .relaxed).newValue == 0 else { return }
            let line = Array("{\"event\":\"fault\",\"point\":\"\(point.rawValue)\"}\n".utf8)
            _ = unsafe write(STDOUT_FILENO, line, line.count)
            raise(wanted[1] == "kill" ? SIGKILL : SIGSTOP)
        }
    #endif
}
