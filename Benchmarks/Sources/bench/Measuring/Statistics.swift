extension Collection<Double> {
    var median: Double { quantile(0.5) }

    /// Of values that lie between, the mean of the two neighbours by distance.
    func quantile(_ part: Double) -> Double {
        let sorted = sorted()
        guard let last = sorted.last else { return .nan }
        let place = part * Double(sorted.count - 1)
        let index = Int(place)
        guard index + 1 < sorted.count else { return last }
        return sorted[index] + (sorted[index + 1] - sorted[index]) * (place - Double(index))
    }
}

/// What a number counts, and how it is written.
enum Unit {
    /// Nanoseconds.
    case time
    case bytes
    case perSecond
    case count

    static let megabyte = 1_048_576.0

    func text(_ value: Double) -> String {
        switch self {
        case .time: Self.scaled(value, [("ns", 1), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)])
        case .bytes: Self.scaled(value, [("B", 1), ("KB", 1024), ("MB", Self.megabyte)])
        case .perSecond: Self.scaled(value, [("/s", 1)])
        case .count: Self.scaled(value, [("", 1)])
        }
    }

    private static func scaled(_ value: Double, _ units: [(name: String, size: Double)]) -> String {
        let unit = units.last { abs(value) >= $0.size } ?? units[0]
        return unit.name.isEmpty ? number(value) : "\(number(value / unit.size)) \(unit.name)"
    }

    /// Three digits that count.
    static func number(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "–" : "∞" }
        let size = abs(value)
        guard size < 1000 else { return grouped(Int(value.rounded())) }
        let scale = size < 10 ? 100.0 : size < 100 ? 10 : 1
        let rounded = (value * scale).rounded() / scale
        return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    }

    private static func grouped(_ value: Int) -> String {
        var digits = "\(abs(value))"
        var groups: [String] = []
        while digits.count > 3 {
            groups.insert(String(digits.suffix(3)), at: 0)
            digits.removeLast(3)
        }
        return (value < 0 ? "-" : "") + ([digits] + groups).joined(separator: ",")
    }
}
