internal import Foundation

/// When the requests that a module has taken were issued: what a signed request that comes again is told by, however long ago
/// its message id was forgotten.
///
/// A revision protects against old versions, but nothing in a rollback, or in the release of a quarantine, says that it is an
/// old one; and after a rollback the version that it took back is a newer one again. Milliseconds since 1970, as far as
/// `issued_at` is written.
package struct IssueTimes: Codable, Sendable, Equatable {
    /// Of the newest request.
    package var newest: Int64?
    /// Of the newest rollback.
    package var rollback: Int64?

    enum CodingKeys: String, CodingKey {
        case newest = "newest_ms"
        case rollback = "rollback_ms"
    }

    /// Notes a request that changes something.
    mutating func take(_ operation: Operation, _ issued: Date) {
        guard operation != .validate, operation != .inventory else { return }
        let time = Self.milliseconds(issued)
        newest = max(newest ?? time, time)
        if operation == .rollback { rollback = max(rollback ?? time, time) }
    }

    /// Throws `message.replayed` for a request that would undo a later one.
    func check(_ operation: Operation, _ issued: Date) throws(ReloadError) {
        let limit: Int64? =
            switch operation {
            case .apply: rollback
            case .rollback, .release: newest
            case .validate, .inventory: nil
            }
        guard let limit, Self.milliseconds(issued) <= limit else { return }
        throw ReloadError(
            .messageReplayed,
            "it was issued at \(ReloadJSON.text(issued)), not after \(operation == .apply ? "the rollback" : "the request") of \(ReloadJSON.text(Date(timeIntervalSince1970: Double(limit) / 1000))) that was taken before"
        )
    }

    private static func milliseconds(_ date: Date) -> Int64 {
        // No clock is beyond the year 9999, and what is fits in no integer.
        Int64((min(max(date.timeIntervalSince1970, -1e12), 1e12) * 1000).rounded())
    }

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if let newest { writer.member("newest_ms", newest) }
            if let rollback { writer.member("rollback_ms", rollback) }
        }
    }
}
