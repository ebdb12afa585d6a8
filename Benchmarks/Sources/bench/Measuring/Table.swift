/// What came of all rows, in Markdown.
struct Table {
    private static let columns = ["What", "Agent", "Against", "There", "Compared (least to most)", "Goal", "Goal met"]

    private var rows: [[String]] = [columns]
    /// Whether every row could be measured.
    private(set) var isComplete = true

    mutating func add(_ lines: [Line]) {
        rows += lines.map(\.cells)
    }

    /// A row that could not be measured says so.
    mutating func add(failed name: String, _ error: any Error) {
        isComplete = false
        rows.append([name, "", "", "", "", "", "**not measured:** \("\(error)".prefix(100).replacing("|", with: "/"))"])
    }

    var text: String {
        let widths = Self.columns.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        let lines = rows.map { row in
            "| " + zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: " | ")
                + " |"
        }
        let rule = "|" + widths.map { String(repeating: "-", count: $0 + 2) + "|" }.joined()
        return ([lines[0], rule] + lines.dropFirst()).joined(separator: "\n")
    }
}
