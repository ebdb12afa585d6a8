package import FoundationEssentials

/// How the protocol writes JSON: keys sorted, slashes as they are, times as RFC 3339 in UTC with milliseconds.
package enum ReloadJSON {
    /// An encoder for bodies and for `--json` output; one line.
    package static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }

    /// `2026-11-21T03:00:00.120Z`
    package static func text(_ date: Date) -> String {
        date.formatted(style)
    }

    /// Made once, as that takes longer than its use.
    private static let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)

    /// A time with or without fractions of a second.
    package static func date(_ text: String) -> Date? {
        // Each throws at what the other reads.
        let first = text.utf8.contains(UInt8(ascii: ".")) ? style : .iso8601
        return (try? Date(text, strategy: first)) ?? (try? Date(text, strategy: first == style ? .iso8601 : style))
    }
}
