internal import Glibc
internal import Synchronization

/// Lets one thread end the blocking call of another on its connection.
///
/// It holds a duplicate of the socket: librabbitmq closes its own descriptor after an error, and the number may by then
/// belong to another file. `shutdown` works on the socket, whichever descriptor names it.
package final class Interrupter: Sendable {
    private struct State {
        var descriptor: Int32?
        var isInterrupted = false
    }

    private let state = Mutex(State())

    /// Makes one that watches nothing yet.
    package init() {}

    deinit { forget() }

    var isInterrupted: Bool { state.withLock { $0.isInterrupted } }

    /// Ends the blocking call that is going on, and every later one, at once.
    package func interrupt() {
        state.withLock { state in
            state.isInterrupted = true
            if let descriptor = state.descriptor { _ = shutdown(descriptor, Int32(SHUT_RDWR)) }
        }
    }

    func watch(_ socket: Int32) {
        state.withLock { state in
            if let old = state.descriptor { _ = close(old) }
            let copy = fcntl(socket, F_DUPFD_CLOEXEC, 0)
            state.descriptor = copy >= 0 ? copy : nil
            if state.isInterrupted { _ = shutdown(socket, Int32(SHUT_RDWR)) }
        }
    }

    func forget() {
        state.withLock { state in
            if let descriptor = state.descriptor { _ = close(descriptor) }
            state.descriptor = nil
        }
    }
}
