import FoundationEssentials
import Glibc

/// A thread for work that blocks (`pthread_create`).
struct WorkerThread {
    private let thread: pthread_t

    /// Starts the work under a name of at most 15 bytes, which `top -H` and debuggers show.
    init(name: String, _ work: @escaping @Sendable () -> Void) throws {
        let body = unsafe Unmanaged.passRetained(
            Body {
                // What pthread_setname_np does, which Swift's C library module lacks.
                try? Data(name.utf8).write(to: URL(filePath: "/proc/thread-self/comm"))
                work()
            })
        var thread = pthread_t()
        let status = unsafe pthread_create(
            &thread, nil,
            { body in
                if let body = unsafe body { unsafe Unmanaged<Body>.fromOpaque(body).takeRetainedValue().run() }
                return nil
            }, body.toOpaque())
        guard status == 0 else {
            unsafe body.release()
            throw CrawlFailure(systemError: status)
        }
        self.thread = thread
    }

    /// Waits for the end of the work; call it once.
    func join() {
        pthread_join(thread, nil)
    }

    /// Carries the work through `pthread_create`.
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}

/// A lock whose holder can wait until another one has changed something (`pthread_mutex_t`, `pthread_cond_t`).
@safe
final class Condition: Sendable {
    // Made for use by any thread; only their pointers' type does not say so.
    nonisolated(unsafe) private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    nonisolated(unsafe) private let change = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(change, nil)
    }

    deinit {
        unsafe pthread_cond_destroy(change)
        unsafe pthread_mutex_destroy(mutex)
        unsafe change.deallocate()
        unsafe mutex.deallocate()
    }

    func lock() {
        unsafe pthread_mutex_lock(mutex)
    }

    func unlock() {
        unsafe pthread_mutex_unlock(mutex)
    }

    /// Lets go of the lock until there is a ``broadcast()``, or for no reason.
    func wait() {
        unsafe pthread_cond_wait(change, mutex)
    }

    func broadcast() {
        unsafe pthread_cond_broadcast(change)
    }
}
