internal import ReloadProtocol

/// Columns of text, each as wide as its widest cell, which is cut: every other row is padded to it.
struct Table {
    var header: [String]
    var rows: [[String]] = []

    /// One line for each row, the header first; no blanks at the end of a line.
    var lines: [String] {
        let all = [header] + rows.map { $0.map(\.printable.excerpt) }
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            zip(row, widths).map { cell, width in cell.padded(to: width) }.joined(separator: "  ").withoutTrailingBlanks
        }
    }
}

extension String {
    func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }

    var withoutTrailingBlanks: String { String(reversed().drop { $0 == " " }.reversed()) }
}
