/// Whom a request is for: a glob over `service:instance`. `*` stands for any run of characters, `?` for one.
///
/// A pattern without a colon may also match the service's name alone, so `crawler` reaches every crawler.
public struct Destination: Sendable, Equatable, CustomStringConvertible {
    /// The glob as it was written.
    public let pattern: String

    /// A destination from its glob.
    public init(_ pattern: String) {
        self.pattern = pattern
    }

    /// The glob as it was written.
    public var description: String { pattern }

    /// Whether this instance is meant.
    public func matches(service: String, instance: String) -> Bool {
        let glob = Array(pattern.utf8)
        if Self.matches(glob, Array("\(service):\(instance)".utf8)) { return true }
        return !pattern.contains(":") && Self.matches(glob, Array(service.utf8))
    }

    /// Greedy with one remembered star: linear in practice, at worst `glob.count * text.count` steps.
    private static func matches(_ glob: [UInt8], _ text: [UInt8]) -> Bool {
        var g = 0
        var t = 0
        var star: (glob: Int, text: Int)?
        while t < text.count {
            if g < glob.count, glob[g] == UInt8(ascii: "*") {
                star = (g, t)
                g += 1
            } else if g < glob.count, glob[g] == UInt8(ascii: "?") {
                g += 1
                t = Self.afterCharacter(text, t)
            } else if g < glob.count, glob[g] == text[t] {
                g += 1
                t += 1
            } else if let last = star {
                g = last.glob + 1
                t = last.text + 1
                star = (last.glob, t)
            } else {
                return false
            }
        }
        return glob[g...].allSatisfy { $0 == UInt8(ascii: "*") }
    }

    /// The index behind the UTF-8 character that starts at `index`.
    private static func afterCharacter(_ text: [UInt8], _ index: Int) -> Int {
        var next = index + 1
        while next < text.count, text[next] & 0b1100_0000 == 0b1000_0000 { next += 1 }
        return next
    }
}
