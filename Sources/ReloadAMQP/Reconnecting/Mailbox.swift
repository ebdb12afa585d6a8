internal import CReloadAMQP
internal import Glibc
package import ReloadProtocol
internal import Synchronization

/// A descriptor that becomes readable when another thread wants attention (`eventfd`).
package final class WakeDescriptor: Sendable {
    /// For `poll`.
    package let descriptor: Int32

    /// - Throws: ``ReloadCode/brokerResources`` when the process has no descriptor left.
    package init() throws(ReloadError) {
        descriptor = creload_amqp_wake_open()
        guard descriptor >= 0 else {
            throw ReloadError(.brokerResources, "no file descriptor is left", operation: "eventfd")
        }
    }

    deinit { _ = close(descriptor) }

    /// Makes it readable.
    package func signal() { creload_amqp_wake_signal(descriptor) }

    /// Makes it unreadable again.
    func clear() { creload_amqp_wake_clear(descriptor) }

    /// Waits until it is readable; `false` when the time is over.
    package func wait(_ duration: Duration) -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + duration
        while true {
            var descriptors = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let left = end - clock.now
            if unsafe poll(&descriptors, 1, left.milliseconds) > 0 { return true }
            if left <= .zero { return false }
        }
    }
}

/// What other threads want of a connection's thread.
final class Mailbox<Element: Sendable>: Sendable {
    private let elements = Mutex<[Element]>([])
    private let wake: WakeDescriptor

    init(wake: WakeDescriptor) { self.wake = wake }

    /// Appends from any thread. Only the first element wakes the thread: it takes all that is there at once.
    func append(_ element: Element) {
        let isFirst = elements.withLock { elements in
            elements.append(element)
            return elements.count == 1
        }
        if isFirst { wake.signal() }
    }

    /// Takes everything, oldest first.
    func takeAll() -> [Element] {
        elements.withLock { elements in
            let taken = elements
            elements = []
            return taken
        }
    }

    /// Whether there is nothing to take.
    var isEmpty: Bool { elements.withLock { $0.isEmpty } }
}
