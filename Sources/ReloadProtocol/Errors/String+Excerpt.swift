extension String {
    /// What others wrote, for logs and reports: at most 300 scalars of it, so that one field cannot fill them. Not characters:
    /// one of them may have any number of combining marks. A control character stands as `\u{A}`, so that a text cannot pass for
    /// two lines, nor move a cursor; the same for what turns the direction of writing.
    package var excerpt: String {
        // Almost all are like that, and each request has some.
        if utf8.count <= 300, utf8.allSatisfy({ 0x20..<0x7f ~= $0 }) { return self }
        let start = unicodeScalars.prefix(300)
        let shown = String(start).escapingControls
        return start.endIndex == endIndex ? shown : shown + "… (\(utf8.count) bytes)"
    }

    private var escapingControls: String {
        unicodeScalars.reduce(into: "") { text, scalar in
            if scalar.isControl {
                text += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
    }
}

extension Unicode.Scalar {
    fileprivate var isControl: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        default: properties.isBidiControl
        }
    }
}
