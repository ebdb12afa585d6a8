/// A URL or a relative reference, taken apart as in RFC 3986, section 3.
struct URLReference {
    var scheme: ArraySlice<UInt8>?
    var authority: ArraySlice<UInt8>?
    var path: ArraySlice<UInt8>
    var query: ArraySlice<UInt8>?
    var fragment: ArraySlice<UInt8>?

    /// Takes any text; what a URL may not contain, such as a space, gets escaped.
    init(_ text: [UInt8]) {
        var rest = Self.escaping(text)[...]
        if let hash = rest.firstIndex(of: UInt8(ascii: "#")) {
            fragment = rest[(hash + 1)...]
            rest = rest[..<hash]
        }
        if let mark = rest.firstIndex(of: UInt8(ascii: "?")) {
            query = rest[(mark + 1)...]
            rest = rest[..<mark]
        }
        if let colon = rest.firstIndex(of: UInt8(ascii: ":")), rest.first?.isLetter == true,
            rest[..<colon].allSatisfy({ $0.isLetter || $0.isDigit || "+-.".utf8.contains($0) })
        {
            scheme = rest[..<colon]
            rest = rest[(colon + 1)...]
        }
        if rest.starts(with: "//".utf8) {
            let host = rest.dropFirst(2)
            let end = host.firstIndex(of: UInt8(ascii: "/")) ?? host.endIndex
            authority = host[..<end]
            rest = host[end...]
        }
        path = rest
    }

    /// The URL that this reference means on a page at `base` (RFC 3986, section 5.2).
    func resolved(against base: URLReference) -> URLReference {
        var url = self
        if scheme == nil {
            url.scheme = base.scheme
            if authority == nil {
                url.authority = base.authority
                if path.isEmpty {
                    url.path = base.path
                    url.query = query ?? base.query
                } else if path.first != UInt8(ascii: "/") {
                    url.path = base.folder + path
                }
            }
        }
        url.path = Self.removingDotSegments(url.path)
        return url
    }

    /// The parts put together again.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        if let scheme { bytes += scheme + [UInt8(ascii: ":")] }
        if let authority { bytes += Array("//".utf8) + authority }
        bytes += path
        if let query { bytes += [UInt8(ascii: "?")] + query }
        if let fragment { bytes += [UInt8(ascii: "#")] + fragment }
        return bytes
    }

    /// The path up to its last "/".
    private var folder: ArraySlice<UInt8> {
        guard let slash = path.lastIndex(of: UInt8(ascii: "/")) else { return [UInt8(ascii: "/")] }
        return path[...slash]
    }

    private static func removingDotSegments(_ path: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let slash = UInt8(ascii: "/")
        guard path.first == slash else { return path }
        var kept: [ArraySlice<UInt8>] = []
        for segment in path.dropFirst().split(separator: slash, omittingEmptySubsequences: false) {
            let isLast = segment.endIndex == path.endIndex
            switch segment {
            case _ where segment.elementsEqual(".".utf8):
                if isLast { kept.append([]) }
            case _ where segment.elementsEqual("..".utf8):
                _ = kept.popLast()
                if isLast { kept.append([]) }
            default:
                kept.append(segment)
            }
        }
        return [slash] + kept.joined(separator: [slash])
    }

    private static func escaping(_ text: [UInt8]) -> [UInt8] {
        let hexadecimal = Array("0123456789ABCDEF".utf8)
        let end = text.lastIndex { !$0.isSpace }.map { $0 + 1 } ?? 0
        var escaped: [UInt8] = []
        for byte in text[..<end].drop(while: \.isSpace) {
            if byte.isLetter || byte.isDigit || "%:/?#@!$&'()*+,;=-._~".utf8.contains(byte) {
                escaped.append(byte)
            } else {
                escaped += [UInt8(ascii: "%"), hexadecimal[Int(byte >> 4)], hexadecimal[Int(byte & 15)]]
            }
        }
        return escaped
    }
}
