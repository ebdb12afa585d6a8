import Foundation
import ReloadCore
import ReloadProtocol
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
    /// Each suite has a broker of its own, which no row leaves broken.
    @Suite(.timeLimit(.minutes(2))) enum Faults {
        /// Whether the places where a test can end an agent are compiled in; where nothing may be missing they have to be.
        static var hasFaultPoints: Bool {
            #if FaultPoints
                true
            #else
                Repository.mustBeReady
            #endif
        }
    }
}

/// What the rows count by.
@Suite struct TallyTests {
    private func report(_ request: String, _ state: ReportState, superseded: [String]? = nil) -> Report {
        var report = Report(
            request: request, service: "crawler", instance: "one", sequence: 1, state: state, at: Date())
        report.superseded = superseded
        return report
    }

    @Test func aReportThatIsSentAgainCountsOnce() {
        var tally = Outcomes.Tally()
        for _ in 0..<2 { tally.add(report("r3", .applied, superseded: ["r1", "r2"]), id: "a") }
        #expect(tally.count == 3)
        #expect(tally.answered(["r1", "r2", "r3"], by: ["one"]) == 3)
        #expect(tally.answered(["r1", "r2", "r3", "r4"], by: ["one"]) == 3)
        #expect(tally.answered(["r1"], by: ["one", "two"]) == 0)
        #expect(tally.answeredTwice.isEmpty && tally.appliedTwice.isEmpty)
    }

    @Test func anotherReportOfTheSameRequestIsSeen() {
        var tally = Outcomes.Tally()
        tally.add(report("r1", .applied), id: "a")
        tally.add(report("r1", .applying), id: "b")
        #expect(tally.answeredTwice.isEmpty)
        tally.add(report("r1", .unchanged), id: "c")
        #expect(tally.answeredTwice == ["r1"] && tally.appliedTwice.isEmpty)
        tally.add(report("r1", .applied), id: "d")
        #expect(tally.appliedTwice == ["r1"])
        #expect(tally.count == 1)
    }
}
