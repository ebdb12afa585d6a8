import Glibc

/// Why something did not work, for people.
struct CrawlFailure: Error, Equatable, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }

    /// A failure with the text of `strerror`.
    init(systemError: CInt) {
        description = unsafe String(cString: strerror(systemError))
    }
}
