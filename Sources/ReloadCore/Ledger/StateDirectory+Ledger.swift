internal import ReloadProtocol

extension StateDirectory {
    /// The ledger to write, and the one to read.
    var ledgerFiles: (write: LedgerFile, read: LedgerFile) {
        let file = LedgerFile(path: path + "/journal")
        guard let insteadOf, !file.exists else { return (file, file) }
        return (file, LedgerFile(path: insteadOf + "/journal"))
    }

    /// Takes up the copy of a version that an earlier process made; throws when it is gone or has changed.
    func adopt(_ version: LedgerRecord.Version, module: String) throws(ReloadError) -> StagedArtifact {
        guard let name = version.artifact, let digest = version.digest, !name.contains("/") else {
            throw ReloadError(.artifactMissing, "no copy of revision \(version.revision) was kept")
        }
        return try adoptCopy(name, digest: digest, origin: version.origin ?? "inline", module: module)
    }
}
