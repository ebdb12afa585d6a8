// For pthread_attr_t(), which the compiler finds there first.
internal import Dispatch
internal import Glibc

/// Threads of the agent's own, with a name that `top -H` and a debugger show. Nobody joins them.
package enum DetachedThread {
    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - name: at most 15 bytes.
    ///   - stackSize: in bytes; nil for the system's.
    /// - Returns: 0, or the error of `pthread_create`.
    package static func start(_ name: String, stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void) -> Int32 {
        let body = unsafe Unmanaged.passRetained(Body(name: name, run: body))
        var attributes = pthread_attr_t()
        var thread = pthread_t()
        unsafe pthread_attr_init(&attributes)
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        if let stackSize { unsafe pthread_attr_setstacksize(&attributes, stackSize) }
        let result = unsafe pthread_create(
            &thread, &attributes,
            { argument in
                guard let argument = unsafe argument else { return nil }
                let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                _ = FileDescriptor("/proc/thread-self/comm", O_WRONLY)?.write(Array(body.name.utf8)[...])
                body.run()
                return nil
            }, body.toOpaque())
        unsafe pthread_attr_destroy(&attributes)
        if result != 0 { unsafe body.release() }
        return result
    }

    /// Carries a closure through `pthread_create`.
    private final class Body {
        let name: String
        let run: () -> Void
        init(name: String, run: @escaping () -> Void) { (self.name, self.run) = (name, run) }
    }
}
