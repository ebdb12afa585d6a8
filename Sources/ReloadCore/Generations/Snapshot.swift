internal import CReloadGuard

/// One generation of each module of an agent, held together. The calls of a task that is inside one use its generations.
package final class Snapshot: Sendable {
    /// The innermost snapshot that this task, or this thread outside of tasks, is inside.
    @TaskLocal package static var current: Snapshot?

    private let pins: [Pin]
    /// The one around it, of another agent.
    private let outer: Snapshot?
    private let owner: any AnyObject & Sendable

    /// - Parameter owner: What the modules belong to.
    init(of owner: any AnyObject & Sendable, pins: [Pin], inside outer: Snapshot?) {
        creload_guard_use_snapshots()
        self.owner = owner
        self.pins = pins
        self.outer = outer
    }

    /// The innermost one of this owner, here or around it.
    func innermost(of owner: AnyObject) -> Snapshot? {
        self.owner === owner ? self : outer?.innermost(of: owner)
    }

    /// What is held of a slot; nil when it is no module of these agents.
    func pin<Value>(of slot: Slot<Value>) -> Pin? {
        pins.first { unsafe $0.live == slot.live } ?? outer?.pin(of: slot)
    }
}
