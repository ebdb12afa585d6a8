import Glibc

/// Where the crawler speaks.
enum StandardStream: CInt {
    case output = 1
    case error = 2

    /// Writes the text at once. Nobody reading there any more is no reason to stop crawling.
    func write(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(rawValue, $0.baseAddress, $0.count) }
            guard count >= 0 || errno == EINTR else { return }
            rest = rest.dropFirst(max(count, 0))
        }
    }
}
