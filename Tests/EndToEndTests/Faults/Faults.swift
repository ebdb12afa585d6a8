import Foundation
import Testing

/// Runs a row of the fault matrix in a world of its own.
func row(
    _ name: String, on broker: Broker? = Broker.shared, _ body: (World, FaultRow) async throws -> Void
) async throws {
    try await World.run(on: broker) { world in
        try await FaultRow.run(name, in: world) { try await body(world, $0) }
    }
}

/// Does something while something is broken, which is mended whatever comes of it.
func whileBroken(_ body: () async throws -> Void, mend: () async throws -> Void) async throws {
    do {
        try await body()
    } catch {
        try? await mend()
        throw error
    }
    try await mend()
}

extension EndToEnd {
    /// The fault matrix: each row breaks something, counts what was asked and what was answered, and prints both.
    ///
    /// The rows have a broker of their own, which no row leaves broken.
    @Suite(.withBroker, .timeLimit(.minutes(2))) enum Faults {
        /// Whether the places where a test can end an agent are compiled in; in CI they have to be.
        static var hasFaultPoints: Bool {
            #if FaultPoints
                true
            #else
                ProcessInfo.processInfo.environment["CI"] != nil
            #endif
        }
    }
}
