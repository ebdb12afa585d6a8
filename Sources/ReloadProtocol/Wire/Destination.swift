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
        matches(Addressee(service: service, instance: instance))
    }

    package func matches(_ addressee: Addressee) -> Bool {
        addressee.isMeant(by: Array(pattern.utf8).span)
    }
}

/// An instance as destinations name it. Every message of the fleet is held against it, most of them for others: so it compares
/// bytes where they lie.
package struct Addressee: Sendable {
    private let service: [UInt8]
    /// `service:instance`
    private let name: [UInt8]

    package init(service: String, instance: String) {
        self.service = Array(service.utf8)
        name = Array("\(service):\(instance)".utf8)
    }

    /// Whether a ``Destination`` means it, given as the UTF-8 of its pattern.
    package func isMeant(by glob: Span<UInt8>) -> Bool {
        if Glob.matches(glob, name.span) { return true }
        for index in glob.indices where glob[index] == UInt8(ascii: ":") { return false }
        return Glob.matches(glob, service.span)
    }
}

/// A pattern: `*` stands for any run of characters, `?` for one.
package enum Glob {
    package static func matches(_ glob: String, _ text: String) -> Bool {
        matches(Array(glob.utf8).span, Array(text.utf8).span)
    }

    /// Greedy with one remembered star: linear in practice, at worst `glob.count * text.count` steps.
    static func matches(_ glob: Span<UInt8>, _ text: Span<UInt8>) -> Bool {
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
        while g < glob.count, glob[g] == UInt8(ascii: "*") { g += 1 }
        return g == glob.count
    }

    /// The index behind the UTF-8 character that starts at `index`.
    private static func afterCharacter(_ text: Span<UInt8>, _ index: Int) -> Int {
        var next = index + 1
        while next < text.count, text[next] & 0b1100_0000 == 0b1000_0000 { next += 1 }
        return next
    }
}
