internal import FoundationEssentials

extension DecodingError {
    /// Where it is, and what it says. A missing key is part of the path.
    package var context: Context? {
        switch self {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context): context
        case .keyNotFound(let key, let context):
            Context(codingPath: context.codingPath + [key], debugDescription: "missing")
        @unknown default: nil
        }
    }

    /// `modules[0].revision: Expected to decode Int64 but found a string instead.`
    package var pathAndReason: String {
        guard let context else { return "\(self)" }
        let path = context.codingPath.reduce(into: "") { text, key in
            if let index = key.intValue {
                text += "[\(index)]"
            } else {
                text += text.isEmpty ? key.stringValue : ".\(key.stringValue)"
            }
        }
        let cause =
            context.underlyingError.map { error in
                " (\(unsafe (error as? CocoaError)?.userInfo["NSDebugDescription"] ?? error))"
            } ?? ""
        return (path.isEmpty ? "" : "\(path.excerpt): ") + context.debugDescription.excerpt + cause.excerpt
    }
}

/// A key of a mapping, by its text.
package struct Word: CodingKey {
    package let stringValue: String
    package var intValue: Int? { nil }

    package init(_ text: String) { stringValue = text }
    package init(stringValue: String) { self.stringValue = stringValue }
    package init?(intValue: Int) { nil }
}
