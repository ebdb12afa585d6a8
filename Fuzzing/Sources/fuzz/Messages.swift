internal import Foundation

@testable internal import ReloadCore
@testable internal import ReloadProtocol

extension Fuzz {
    /// A request's body. What the quick reader accepts, `JSONDecoder` reads in the same way; what is accepted can be written
    /// and read again.
    static let request = Target(name: "request") { body in
        let request = try? Request.decode(body)
        if let quick = RequestReader.read(body) {
            must((try? Request.decodeWithCoder(body)) == quick, "JSONDecoder reads another request: \(quick)")
        }
        // The article's message has no form of its own for what it says.
        guard let request, request.operation != .apply || request.modules.allSatisfy({ $0.revision != nil }) else {
            return
        }
        guard var again = try? Request.decode(try request.encode()) else { return must(false, "\(request) is lost") }
        // Times are written in milliseconds.
        must(isNear(again.issuedAt, request.issuedAt) && isNear(again.expiresAt, request.expiresAt), "\(again)")
        (again.issuedAt, again.expiresAt) = (request.issuedAt, request.expiresAt)
        must(again == request, "\(request) is read as \(again)")
    }

    private static func isNear(_ one: Date?, _ other: Date?) -> Bool {
        guard let one, let other else { return one == other }
        return abs(one.timeIntervalSince(other)) < 0.002
    }

    /// The source article's message, from a name and a path.
    static let article = Target(name: "article") { bytes in
        guard bytes.first != UInt8(ascii: "{") else {
            if let request = try? Request.decode(bytes), request.modules.first?.kind == nil {
                must(request.modules.allSatisfy { !$0.name.isEmpty }, "a module without a name")
            }
            return
        }
        let parts = bytes.parts.map { String(decoding: $0, as: UTF8.self) }
        let name = parts[0]
        let path = parts.count > 1 ? parts[1] : ""
        let isFolder = parts.count > 2 && parts[2].isEmpty
        var message: [String: Any] = ["model_path": name]
        if parts.count > 1 { message["physical_path"] = path }
        if parts.count > 2 { message["is_append_path"] = isFolder }
        guard let body = try? JSONSerialization.data(withJSONObject: message) else { return must(false, "\(message)") }
        guard let request = try? Request.decode(Array(body)) else {
            return must(name.isEmpty || name.utf8.count > Request.textLimit, "\(message) is refused")
        }
        let artifact: ArtifactSource = path.isEmpty ? .registeredFile : isFolder ? .folder(path) : .path(path)
        must(request.operation == .apply && request.modules.count == 1, "\(request)")
        must(request.modules[0].name == name && request.modules[0].artifact == artifact, "\(request)")
    }

    /// A report's body, as `reloadctl` reads it. What was read is written and read as the same.
    static let report = Target(name: "report") { body in
        guard let report = try? Report.decode(body) else { return }
        _ = ReloadJSON.date(report.at)
        _ = report.routingKey
        let written = report.encode()
        must((try? Report.decode(written)) == report, "it is written as \(String(decoding: written, as: UTF8.self))")
    }

    /// A destination, a service and an instance: whether it is meant is what the definition of the glob says.
    static let destination = Target(name: "destination") { bytes in
        let parts = bytes.parts.map { String(decoding: $0, as: UTF8.self) }
        guard parts.count == 3 else { return }
        let name = "\(parts[1]):\(parts[2])"
        let isMeant = Destination(parts[0]).matches(service: parts[1], instance: parts[2])
        // The definition takes its time.
        guard parts[0].utf8.count * name.utf8.count < 100_000 else { return }
        let glob = Array(parts[0].unicodeScalars)
        let expected =
            matches(glob, Array(name.unicodeScalars))
            || !parts[0].utf8.contains(UInt8(ascii: ":")) && matches(glob, Array(parts[1].unicodeScalars))
        must(isMeant == expected, "\(parts[0]) means \(name): \(isMeant)")
    }

    /// By a table: whether the first characters of the glob match the first ones of the text.
    private static func matches(_ glob: [Unicode.Scalar], _ text: [Unicode.Scalar]) -> Bool {
        var row = [true] + Array(repeating: false, count: text.count)
        for character in glob {
            let above = row
            row[0] = above[0] && character == "*"
            for index in text.indices {
                row[index + 1] =
                    switch character {
                    case "*": above[index + 1] || row[index]
                    case "?": above[index]
                    default: above[index] && character == text[index]
                    }
            }
        }
        return row[text.count]
    }

    /// The bytes in a request: the limit that is checked before they are decoded is one for what comes out.
    static let inline = Target(name: "inline") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        guard let decoded = Data(base64Encoded: text) else { return }
        must(decoded.count <= text.utf8.count / 4 * 3, "\(decoded.count) bytes of \(text.utf8.count) characters")
        must(Data(base64Encoded: decoded.base64EncodedString()) == decoded, "it is encoded as something else")
    }
}
