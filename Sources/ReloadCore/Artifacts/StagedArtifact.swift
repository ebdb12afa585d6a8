internal import FoundationEssentials
package import ReloadProtocol
internal import Synchronization

/// A private copy of one version's bytes. The file goes when the last reference does, unless the ledger names it.
package final class StagedArtifact: Sendable {
    private let directory: StateDirectory
    /// Name of the copy in the folder `artifacts`.
    let name: String
    /// `sha256:<hex>` of the copy.
    package let digest: String
    /// Bytes.
    package let size: Int
    /// Where it came from, for people: a path or `inline`.
    package let origin: String
    /// What was hashed, until somebody wants it: a small config need not be read back from the file that was just written.
    private let held: Mutex<[UInt8]?>
    /// The most that is held.
    static let heldBytes = 64 << 10

    init(
        directory: StateDirectory, name: String, digest: String, size: Int, origin: String, holding bytes: [UInt8]?
    ) {
        self.directory = directory
        self.name = name
        self.digest = digest
        self.size = size
        self.origin = origin
        held = Mutex(bytes.flatMap { $0.count <= Self.heldBytes ? $0 : nil })
    }

    /// The copy, mode 0500.
    package var path: String { "\(directory.path)/artifacts/\(name)" }

    deinit { directory.release(name) }

    /// The bytes of the copy.
    package func bytes() throws(ReloadError) -> [UInt8] {
        let bytes = held.withLock { held in
            defer { held = nil }
            return held
        }
        if let bytes { return bytes }
        do {
            return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw ReloadError(.artifactUnreadable, "cannot read the copy \(path): \(error)", underlying: error)
        }
    }
}
