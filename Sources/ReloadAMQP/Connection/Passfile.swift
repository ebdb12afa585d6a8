internal import Glibc
package import ReloadProtocol

extension BrokerURL {
    /// Reads what an operator gives: a URL, or `passfile:PATH`, a file whose only line is one.
    ///
    /// The file must be a regular one, of this process's user or of root, that group and others can neither read nor write.
    /// Line breaks at its end do not count.
    ///
    /// - Throws: ``ReloadError`` with ``ReloadCode/brokerBadURL`` or ``ReloadCode/brokerBadPassfile``; never with what the
    ///   file holds.
    package init(source: String) throws(ReloadError) {
        guard source.hasPrefix(Self.passfile) else {
            try self.init(source)
            return
        }
        try self.init(Self.read(String(source.dropFirst(Self.passfile.count))))
    }

    private static let passfile = "passfile:"

    /// What counts where nothing is given: `$AMQP_URL`, else the guest of a broker on this machine. An empty variable is none.
    package static var defaultSource: String {
        let variable = unsafe getenv("AMQP_URL").map { unsafe String(cString: $0) } ?? ""
        return variable.isEmpty ? "amqp://guest:guest@127.0.0.1:5672/" : variable
    }

    private static func read(_ path: String) throws(ReloadError) -> String {
        func refuse(_ reason: String) -> ReloadError {
            ReloadError(.brokerBadPassfile, "\(path): \(reason)", operation: "passfile")
        }

        let text: String
        do throws(ProtectedFile.Refusal) {
            text = try ProtectedFile.read(path, isSecret: true)
        } catch {
            throw refuse(error.reason)
        }
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        guard let line = lines.first, !line.isEmpty, lines.dropFirst().allSatisfy(\.isEmpty) else {
            throw refuse("it does not hold one line of text, the broker's URL")
        }
        return String(line)
    }
}
