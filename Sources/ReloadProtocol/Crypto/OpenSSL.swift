internal import CReloadCrypto

/// The library behind digests and signatures.
enum OpenSSL {
    /// What to say and do where the last call on this thread found that something is not there.
    static func lacks(_ algorithm: String) -> String {
        let (version, reason) = unsafe (
            String(cString: creload_crypto_version()), String(cString: creload_crypto_reason())
        )
        return "\(version) has no \(algorithm) for this process (\(reason)): its FIPS mode or its configuration, "
            + "openssl.cnf or the file that $OPENSSL_CONF names, leaves it out; activate the default provider there"
    }
}
