/// A line of the table: two things measured in the same run, one value of each for every round.
struct Line {
    /// What is asked of it.
    enum Goal {
        /// So many times the other, or fewer.
        case times(Double)
        /// So many times the other, or more.
        case timesAtLeast(Double)
        /// So much more than the other, or less; nil only says how much.
        case more(Double?)
        /// So much, or less.
        case value(Double)
        /// Nothing: it is only said.
        case stated
    }

    var name: String
    var against: String
    var unit: Unit
    var ours: [Double] = []
    /// Empty when there is nothing to compare with.
    var theirs: [Double] = []
    var goal: Goal

    private var ratios: [Double] { zip(ours, theirs).map { $0 / $1 } }
    private var differences: [Double] { zip(ours, theirs).map { $0 - $1 } }

    /// What stands in ``Table/columns``.
    var cells: [String] {
        [
            name, unit.text(ours.median), against, theirs.isEmpty ? "" : unit.text(theirs.median), comparison, wanted,
            verdict,
        ]
    }

    /// Median, and from least to most.
    private var comparison: String {
        func range(_ values: [Double], _ text: (Double) -> String) -> String {
            "\(text(values.median)) (\(text(values.min() ?? .nan)) to \(text(values.max() ?? .nan)))"
        }
        if theirs.isEmpty { return range(ours, unit.text) }
        if case .more = goal { return "+ " + range(differences, unit.text) }
        return range(ratios, Self.times)
    }

    private var wanted: String {
        switch goal {
        case .times(let times): "≤ \(Self.times(times))"
        case .timesAtLeast(let times): "≥ \(Self.times(times))"
        case .more(let more): more.map { "≤ + \(unit.text($0))" } ?? ""
        case .value(let most): "≤ \(unit.text(most))"
        case .stated: ""
        }
    }

    private var verdict: String {
        if !theirs.isEmpty, !ratios.median.isFinite { return "nothing to compare" }
        return switch goal {
        case .times(let times): Self.verdict(ratios.median <= times, Self.times(ratios.median))
        case .timesAtLeast(let times): Self.verdict(ratios.median >= times, Self.times(ratios.median))
        case .more(let more):
            more.map { Self.verdict(differences.median <= $0, "+ " + unit.text(differences.median)) } ?? "stated"
        case .value(let most): Self.verdict(ours.median <= most, unit.text(ours.median))
        case .stated: "stated"
        }
    }

    private static func verdict(_ isMet: Bool, _ value: String) -> String { isMet ? "met" : "missed: \(value)" }
    private static func times(_ value: Double) -> String { Unit.number(value) + " ×" }
}
