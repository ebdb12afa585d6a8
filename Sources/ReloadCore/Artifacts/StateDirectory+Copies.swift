internal import FoundationEssentials
internal import Glibc
package import ReloadProtocol
internal import Synchronization

extension StateDirectory {
    // MARK: Staging

    /// Copies a file of the service's own, wherever it is; see ``OpenArtifact``.
    package func stage(fileAt source: String, module: String) throws(ReloadError) -> StagedArtifact {
        try stage(OpenArtifact(registered: source), module: module)
    }

    /// Copies a file, read through one descriptor, and computes the digest of what was written.
    package func stage(_ source: borrowing OpenArtifact, module: String) throws(ReloadError) -> StagedArtifact {
        let (input, path) = (source.file.number, source.path)
        guard source.size <= artifactLimit else { throw tooLarge(path) }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        return try write(module: module, from: path) { () throws(ReloadError) -> ArraySlice<UInt8>? in
            guard let count = FileDescriptor.read(input, into: &buffer) else {
                throw ReloadError(.artifactUnreadable, "cannot read \(path): \(systemText())")
            }
            return count == 0 ? nil : buffer[..<count]
        }
    }

    private func tooLarge(_ origin: String) -> ReloadError {
        ReloadError(.artifactTooLarge, "\(origin.excerpt) has more than \(artifactLimit) bytes")
    }

    /// Writes bytes that came in a request.
    package func stage(bytes: [UInt8], module: String) throws(ReloadError) -> StagedArtifact {
        try write(bytes, module: module, from: "inline")
    }

    private func write(_ bytes: [UInt8], module: String, from origin: String) throws(ReloadError) -> StagedArtifact {
        var rest: ArraySlice<UInt8>? = bytes[...]
        return try write(module: module, from: origin) { () throws(ReloadError) -> ArraySlice<UInt8>? in
            defer { rest = nil }
            return rest
        }
    }

    private func write(
        module: String, from origin: String, next: () throws(ReloadError) -> ArraySlice<UInt8>?
    ) throws(ReloadError) -> StagedArtifact {
        let number = state.withLock { state in
            // It comes from a file's name, which may hold the largest.
            state.last &+= 1
            return state.last
        }
        let stem = "\(module.fileName)-\(number)"
        let temporary = "\(path)/artifacts/\(stem)"
        var held: [UInt8]? = []
        guard let output = FileDescriptor(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o500) else {
            throw ReloadError(.artifactNotStaged, "cannot make \(temporary): \(systemText())")
        }
        do throws(ReloadError) {
            var digest = DigestAccumulator()
            var size = 0
            while let chunk = try next() {
                size += chunk.count
                guard size <= artifactLimit else { throw tooLarge(origin) }
                digest.update(chunk)
                held = size > StagedArtifact.heldBytes ? nil : held.map { $0.isEmpty ? Array(chunk) : $0 + chunk }
                guard output.write(chunk) else {
                    throw ReloadError(.artifactNotStaged, "cannot write \(temporary): \(systemText())")
                }
            }
            let text = digest.finish()
            let name = "\(stem)-\(text.dropFirst(Digest.prefix.count).prefix(16)).so"
            guard unsafe rename(temporary, "\(path)/artifacts/\(name)") == 0 else {
                throw ReloadError(.artifactNotStaged, "cannot rename \(temporary): \(systemText())")
            }
            return use(name, digest: text, size: size, origin: origin, holding: held)
        } catch {
            unsafe unlink(temporary)
            throw error
        }
    }

    private func use(
        _ name: String, digest: String, size: Int, origin: String, holding bytes: [UInt8]?
    ) -> StagedArtifact {
        state.withLock { _ = $0.inUse.insert(name) }
        return StagedArtifact(
            directory: self, name: name, digest: digest, size: size, origin: origin, holding: bytes)
    }

    // MARK: Keeping

    /// Takes up a copy that an earlier process made; throws when it is gone or has changed.
    func adoptCopy(_ name: String, digest: String, origin: String, module: String) throws(ReloadError) -> StagedArtifact
    {
        let isHere = unsafe insteadOf == nil || access("\(path)/artifacts/\(name)", F_OK) == 0
        let source = "\(isHere ? path : insteadOf ?? path)/artifacts/\(name)"
        let bytes: [UInt8]
        do {
            bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: source)))
        } catch {
            throw ReloadError(.artifactMissing, "cannot read the copy \(source): \(error)", underlying: error)
        }
        let found = Digest.of(bytes)
        guard found == digest else {
            throw ReloadError(.artifactDigestMismatch, "the copy \(source) has \(found), the ledger names \(digest)")
        }
        guard !isHere else {
            return use(name, digest: digest, size: bytes.count, origin: origin, holding: bytes)
        }
        return try write(bytes, module: module, from: origin)
    }

    /// Makes copies durable that the ledger is about to name.
    func flush(_ names: Set<String>) {
        for name in names.subtracting(state.withLock { $0.kept }) {
            _ = FileDescriptor("\(path)/artifacts/\(name)", O_RDONLY)?.flush()
        }
    }

    /// Keeps the copies that the ledger names when nobody in this process uses them, and removes those that it no longer names.
    func keep(_ names: Set<String>) {
        let dropped = state.withLock { state -> Set<String> in
            guard state.lock != nil else { return [] }
            defer { state.kept = names }
            return state.kept.subtracting(names).subtracting(state.inUse)
        }
        for name in dropped { remove(name) }
    }

    /// Removes the copies that neither the ledger nor anybody in this process refers to: an earlier process left them.
    func removeOthers() {
        let known = state.withLock { $0.kept.union($0.inUse) }
        for name in Self.names(in: path + "/artifacts") where !known.contains(name) { remove(name) }
    }

    func release(_ name: String) {
        let isKept = state.withLock { state in
            state.inUse.remove(name)
            return state.kept.contains(name) || state.lock == nil
        }
        if !isKept { remove(name) }
    }

    private func remove(_ name: String) {
        unsafe unlink("\(path)/artifacts/\(name)")
    }
}

extension String {
    /// As part of a file's name: ASCII letters, digits and dots, at most 80 of them.
    var fileName: String {
        guard utf8.allSatisfy({ $0 < 0x80 }) else {
            return String(prefix(80).map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".") ? $0 : "_" })
        }
        let isKept = { (byte: UInt8) in
            let small = byte | 0x20
            return UInt8(ascii: "a")...UInt8(ascii: "z") ~= small || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                || byte == UInt8(ascii: ".")
        }
        return String(decoding: utf8.prefix(80).map { isKept($0) ? $0 : UInt8(ascii: "_") }, as: UTF8.self)
    }
}
