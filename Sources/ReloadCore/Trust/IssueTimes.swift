internal import FoundationEssentials
internal import ReloadProtocol

/// When the requests that a module has taken were issued: what a signed request that comes again is told by, however long ago
/// its message id was forgotten.
///
/// A revision protects against old versions, but nothing in a rollback, or in the release of a quarantine, says that it is an
/// old one; and after a rollback the version that it took back is a newer one again.
package struct IssueTimes: Codable, Sendable, Equatable {
    /// A request that changes something.
    struct Issue: Codable, Sendable, Equatable {
        /// Milliseconds since 1970, as far as `issued_at` is written.
        var time: Int64
        /// `message_id`: the same request is no other one.
        var id: String?

        init(_ issued: Date, _ id: String?) {
            // No clock is beyond the year 9999, and what is fits in no integer.
            time = Int64((min(max(issued.timeIntervalSince1970, -1e12), 1e12) * 1000).rounded())
            self.id = id
        }

        var date: Date { Date(timeIntervalSince1970: Double(time) / 1000) }
    }

    /// The newest request.
    private(set) var newest: Issue?
    /// The newest rollback.
    private(set) var rollback: Issue?

    /// Notes a request, if it changes anything.
    mutating func note(_ request: Request, _ id: String?) {
        guard request.operation != .validate, request.operation != .inventory, let issued = request.issuedAt else {
            return
        }
        let issue = Issue(issued, id)
        if newest.map({ issue.time > $0.time }) ?? true { newest = issue }
        if request.operation == .rollback, rollback.map({ issue.time > $0.time }) ?? true { rollback = issue }
    }

    /// Throws `message.replayed` for a request that would undo a later one.
    func check(_ request: Request, _ id: String?) throws(ReloadError) {
        let limit: Issue? =
            switch request.operation {
            case .apply: rollback
            case .rollback, .release: newest
            case .validate, .inventory: nil
            }
        guard let limit, let issued = request.issuedAt else { return }
        let issue = Issue(issued, id)
        guard issue.time <= limit.time, issue != limit else { return }
        let what = request.operation == .apply ? "rollback" : "request"
        throw ReloadError(
            .messageReplayed,
            "it was issued at \(ReloadJSON.text(issued)), not after the \(what) of \(ReloadJSON.text(limit.date)) that was taken before"
        )
    }

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if let newest { writer.member("newest") { newest.write(to: &$0) } }
            if let rollback { writer.member("rollback") { rollback.write(to: &$0) } }
        }
    }
}

extension IssueTimes.Issue {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("id", ifPresent: id)
            writer.member("time", time)
        }
    }
}
