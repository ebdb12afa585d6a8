internal import FoundationEssentials

extension Request {
    /// The value of `protocol`, and the AMQP `type`.
    public static let protocolName = "reload.request.v1"
    /// The AMQP header that repeats the destination, so that others need not decode the body.
    package static let destinationHeader = "x-reload-destination"

    /// Decodes a body.
    ///
    /// - Throws: `message.empty`, `message.not_json`, `message.invalid` with the coding path, `message.unknown_protocol`,
    ///   `message.unknown_operation`, `message.unknown_kind`.
    public static func decode(_ body: [UInt8]) throws(ReloadError) -> Request {
        guard !body.isEmpty else { throw ReloadError(.messageEmpty, "the message has no body") }
        let quick = RequestReader.read(body)
        let request = if let quick { quick } else { try decodeWithCoder(body) }
        try request.checkTexts()
        return request
    }

    /// The same by `JSONDecoder`, which has words for everything that can be wrong.
    static func decodeWithCoder(_ body: [UInt8]) throws(ReloadError) -> Request {
        try JSONScreen.check(body)
        do {
            return try JSONDecoder().decode(RequestBody.self, from: Data(body)).request
        } catch let error as ReloadError {
            throw error
        } catch let error as DecodingError {
            let isJSON = (try? JSONDecoder().decode(AnyJSON.self, from: Data(body))) != nil
            throw ReloadError(isJSON ? .messageInvalid : .messageNotJSON, error.pathAndReason, underlying: error)
        } catch {
            throw ReloadError(.messageInvalid, "\(error)", underlying: error)
        }
    }

    /// Modules in one request.
    static let moduleLimit = 1000
    /// Bytes of a text that is kept or shown: it goes into ledgers, into reports and onto operators' screens again and again.
    static let textLimit = 255
    /// Bytes of a destination, which every instance of the fleet compares with its name.
    static let destinationLimit = 1024

    private func checkTexts() throws(ReloadError) {
        func check(_ text: String?, _ name: String, limit: Int = Self.textLimit) throws(ReloadError) {
            guard let text, text.utf8.count > limit else { return }
            throw ReloadError(.messageInvalid, "\(name): \(text.utf8.count) bytes, more than \(limit)")
        }
        try check(origin, "origin")
        try check(destination?.pattern, "destination", limit: Self.destinationLimit)
        for (index, module) in modules.enumerated() {
            try check(module.name, "modules[\(index)].name")
            try check(module.version, "modules[\(index)].version")
        }
    }

    /// Encodes a request for publishing, keys sorted.
    public func encode() throws(ReloadError) -> [UInt8] {
        do {
            return [UInt8](try ReloadJSON.encoder().encode(RequestBody(request: self)))
        } catch {
            throw ReloadError(.messageInvalid, "\(error)", underlying: error)
        }
    }
}

/// The JSON form of both messages; which one it is, the keys say.
private struct RequestBody: Codable {
    var request: Request

    init(request: Request) {
        self.request = request
    }

    enum Key: String, CodingKey {
        case proto = "protocol"
        case operation, origin, destination, modules
        case issuedAt = "issued_at"
        case expiresAt = "expires_at"
    }

    enum ModuleKey: String, CodingKey {
        case name, kind, revision, version, path, sha256, inline
    }

    enum ArticleKey: String, CodingKey {
        case modelPath = "model_path"
        case isAppendPath = "is_append_path"
        case physicalPath = "physical_path"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        if !container.contains(.proto), (try decoder.container(keyedBy: ArticleKey.self)).contains(.modelPath) {
            request = try Self.articleMessage(decoder)
            return
        }
        let name = try container.decode(String.self, forKey: .proto)
        guard name == Request.protocolName else {
            throw ReloadError(
                .messageUnknownProtocol, "protocol \"\(name.excerpt)\" is not \(Request.protocolName)")
        }
        let operationName = try container.decode(String.self, forKey: .operation)
        guard let operation = Request.Operation(rawValue: operationName) else {
            throw ReloadError(.messageUnknownOperation, "operation \"\(operationName.excerpt)\" is not known here")
        }
        var modules: [Request.Module] = []
        let hasModules = try container.contains(.modules) && !container.decodeNil(forKey: .modules)
        if hasModules || operation != .inventory {
            var list = try container.nestedUnkeyedContainer(forKey: .modules)
            while !list.isAtEnd {
                guard modules.count < Request.moduleLimit else {
                    throw ReloadError(.messageInvalid, "more than \(Request.moduleLimit) modules")
                }
                let module = try Self.module(try list.nestedContainer(keyedBy: ModuleKey.self), of: operation)
                guard !modules.contains(where: { $0.name == module.name }) else {
                    throw ReloadError(.messageInvalid, "module \"\(module.name.excerpt)\" is named twice")
                }
                modules.append(module)
            }
        }
        if modules.isEmpty && operation != .inventory {
            throw ReloadError(.messageInvalid, "modules is empty")
        }
        request = Request(
            operation: operation,
            origin: try container.decodeIfPresent(String.self, forKey: .origin),
            issuedAt: try Self.date(container, .issuedAt),
            expiresAt: try Self.date(container, .expiresAt),
            destination: try container.decodeIfPresent(String.self, forKey: .destination).map(Destination.init),
            modules: modules
        )
    }

    private static func module(
        _ container: KeyedDecodingContainer<ModuleKey>, of operation: Request.Operation
    ) throws -> Request.Module {
        let name = try container.decode(String.self, forKey: .name)
        guard !name.isEmpty else {
            throw DecodingError.dataCorruptedError(forKey: .name, in: container, debugDescription: "empty name")
        }
        var kind: ModuleKind?
        if let kindName = try container.decodeIfPresent(String.self, forKey: .kind) {
            kind = ModuleKind(rawValue: kindName)
            guard kind != nil else {
                throw ReloadError(.messageUnknownKind, "kind \"\(kindName.excerpt)\" is not known here")
            }
        }
        let needsRevision = operation == .apply || operation == .validate
        let revision =
            needsRevision
            ? try container.decode(Int64.self, forKey: .revision)
            : try container.decodeIfPresent(Int64.self, forKey: .revision)
        if let revision, revision < 0 {
            throw DecodingError.dataCorruptedError(
                forKey: .revision, in: container, debugDescription: "a revision is not negative")
        }
        let path = try container.decodeIfPresent(String.self, forKey: .path)
        let inline = try container.decodeIfPresent(String.self, forKey: .inline)
        guard path == nil || inline == nil else {
            throw DecodingError.dataCorruptedError(
                forKey: .inline, in: container, debugDescription: "path and inline exclude each other")
        }
        var digest = try container.decodeIfPresent(String.self, forKey: .sha256)?.lowercased()
        if let hex = digest {
            let bare = hex.hasPrefix(Digest.prefix) ? String(hex.dropFirst(Digest.prefix.count)) : hex
            guard bare.utf8.count == 64, bare.utf8.allSatisfy({ Digest.hexDigits.contains($0) }) else {
                throw DecodingError.dataCorruptedError(
                    forKey: .sha256, in: container, debugDescription: "not 64 hexadecimal digits")
            }
            digest = Digest.prefix + bare
        }
        return Request.Module(
            name: name, kind: kind, revision: revision,
            version: try container.decodeIfPresent(String.self, forKey: .version),
            artifact: inline.map(ArtifactSource.inline) ?? path.map(ArtifactSource.path) ?? .registeredFile,
            digest: digest
        )
    }

    private static func articleMessage(_ decoder: any Decoder) throws -> Request {
        let container = try decoder.container(keyedBy: ArticleKey.self)
        let name = try container.decode(String.self, forKey: .modelPath)
        guard !name.isEmpty else {
            throw DecodingError.dataCorruptedError(forKey: .modelPath, in: container, debugDescription: "empty name")
        }
        let path = try container.decodeIfPresent(String.self, forKey: .physicalPath) ?? ""
        let isFolder = try container.decodeIfPresent(Bool.self, forKey: .isAppendPath) ?? false
        let artifact: ArtifactSource = path.isEmpty ? .registeredFile : isFolder ? .folder(path) : .path(path)
        return Request(
            operation: .apply,
            modules: [Request.Module(name: name, kind: nil, revision: nil, version: nil, artifact: artifact)])
    }

    private static func date(_ container: KeyedDecodingContainer<Key>, _ key: Key) throws -> Date? {
        guard let text = try container.decodeIfPresent(String.self, forKey: key) else { return nil }
        guard let date = ReloadJSON.date(text) else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: container, debugDescription: "\"\(text.excerpt)\" is not an RFC 3339 time")
        }
        return date
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(Request.protocolName, forKey: .proto)
        try container.encode(request.operation, forKey: .operation)
        try container.encodeIfPresent(request.origin, forKey: .origin)
        try container.encodeIfPresent(request.issuedAt.map(ReloadJSON.text), forKey: .issuedAt)
        try container.encodeIfPresent(request.expiresAt.map(ReloadJSON.text), forKey: .expiresAt)
        try container.encodeIfPresent(request.destination?.pattern, forKey: .destination)
        var list = container.nestedUnkeyedContainer(forKey: .modules)
        for module in request.modules {
            var entry = list.nestedContainer(keyedBy: ModuleKey.self)
            try entry.encode(module.name, forKey: .name)
            try entry.encodeIfPresent(module.kind, forKey: .kind)
            try entry.encodeIfPresent(module.revision, forKey: .revision)
            try entry.encodeIfPresent(module.version, forKey: .version)
            try entry.encodeIfPresent(module.digest.map { String($0.dropFirst(Digest.prefix.count)) }, forKey: .sha256)
            switch module.artifact {
            case .path(let path), .folder(let path): try entry.encode(path, forKey: .path)
            case .inline(let base64): try entry.encode(base64, forKey: .inline)
            case .registeredFile: break
            }
        }
    }
}

/// Any JSON. Every value in it is decoded, or a number that is none would pass.
private struct AnyJSON: Decodable {
    init(from decoder: any Decoder) throws {
        if let container = try? decoder.container(keyedBy: Word.self) {
            for key in container.allKeys { _ = try container.decode(AnyJSON.self, forKey: key) }
        } else if var container = try? decoder.unkeyedContainer() {
            while !container.isAtEnd { _ = try container.decode(AnyJSON.self) }
        } else {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() || (try? container.decode(Bool.self)) != nil { return }
            if (try? container.decode(String.self)) == nil { _ = try container.decode(Double.self) }
        }
    }
}
