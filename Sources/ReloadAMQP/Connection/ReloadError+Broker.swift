internal import CReloadAMQP
package import ReloadProtocol

extension ReloadError {
    /// A failure between this process and the broker.
    ///
    /// - Parameters:
    ///   - message: A sentence for people, without any password.
    ///   - operation: The AMQP method or step, such as `queue.declare`.
    package init(
        _ code: ReloadCode, _ message: String, operation: String, file: String = #fileID, line: Int = #line
    ) {
        self.init(
            code, "\(operation): \(message)", underlying: BrokerFailure(operation: operation), file: file, line: line)
    }

    /// The same error with words between the operation and the reason.
    package func saying(_ words: String) -> ReloadError {
        var error = self
        let start = operation.map { "\($0): " } ?? ""
        error.message = "\(start)\(words): \(message.dropFirst(message.hasPrefix(start) ? start.count : 0))"
        return error
    }

    /// The AMQP method or step; nil for an error that does not come from there.
    package var operation: String? { broker?.operation }

    /// Whether the connection goes on.
    package var isChannelOnly: Bool { broker?.isChannelOnly ?? false }
}

extension ReloadError {
    /// The last failure of the shim as a Swift value (`creload_amqp_last_error`).
    init(_ error: creload_amqp_error, file: String = #fileID, line: Int = #line) {
        let text = unsafe String(cString: error.text)
        let operation = unsafe String(cString: error.operation)
        let library = Int(unsafe error.library_code)
        let reply = Int(unsafe error.reply_code)
        switch unsafe error.origin {
        case .CRELOAD_AMQP_ORIGIN_LIBRARY:
            self.init(
                Self.code(library: library, operation: operation), text, operation: operation, file: file, line: line)
            broker?.libraryCode = library
            if unsafe error.unread.bytes != nil {
                code = .brokerUnreadableMessage
                message += "; the header of a message cannot be decoded, and it was acknowledged unread"
                let tag = unsafe UnsafeBufferPointer(start: error.unread.bytes, count: error.unread.count)
                broker?.consumerTag = unsafe String(decoding: tag, as: UTF8.self)
            }
        case .CRELOAD_AMQP_ORIGIN_CONNECTION, .CRELOAD_AMQP_ORIGIN_CHANNEL:
            self.init(Self.code(reply: reply), text, operation: operation, file: file, line: line)
            if reply != 0 {
                broker?.replyCode = reply
                broker?.replyText = text
            }
            broker?.isChannelOnly = unsafe error.origin == .CRELOAD_AMQP_ORIGIN_CHANNEL
        case .CRELOAD_AMQP_ORIGIN_PROTOCOL:
            self.init(.brokerProtocolViolation, text, operation: operation, file: file, line: line)
        case .CRELOAD_AMQP_ORIGIN_SHIM:
            self.init(.brokerBadMessage, text, operation: operation, file: file, line: line)
        case .CRELOAD_AMQP_ORIGIN_TLS:
            self.init(Self.code(unsafe error.problem), text, operation: operation, file: file, line: line)
            if library != 0 { broker?.libraryCode = library }
        }
    }

    private static func code(_ problem: creload_amqp_problem) -> ReloadCode {
        switch problem {
        case .CRELOAD_AMQP_PROBLEM_FILE: .brokerTLSFile
        case .CRELOAD_AMQP_PROBLEM_KEY: .brokerTLSKeyMismatch
        case .CRELOAD_AMQP_PROBLEM_AUTHORITY: .brokerTLSUnknownCA
        case .CRELOAD_AMQP_PROBLEM_EXPIRED: .brokerTLSExpired
        case .CRELOAD_AMQP_PROBLEM_HOST_NAME: .brokerTLSHostName
        case .CRELOAD_AMQP_PROBLEM_NOT_TLS: .brokerTLSNotSpoken
        case .CRELOAD_AMQP_PROBLEM_IS_TLS: .brokerTLSNeeded
        case .CRELOAD_AMQP_PROBLEM_VERSION: .brokerTLSVersion
        case .CRELOAD_AMQP_PROBLEM_NO_CERTIFICATE: .brokerTLSCertificateRequired
        case .CRELOAD_AMQP_PROBLEM_CERTIFICATE_REFUSED: .brokerTLSCertificateRefused
        case .CRELOAD_AMQP_PROBLEM_OTHER: .brokerTLSFailed
        }
    }

    /// The numbers are `amqp_status_enum`.
    private static func code(library: Int, operation: String) -> ReloadCode {
        if operation == "connect" { return .brokerUnreachable }
        return switch library {
        case -0x000D, -0x000F: .brokerTimeout
        case -0x0001: .brokerResources
        case -0x0002, -0x0003, -0x0004, -0x0006, -0x000C, -0x0010, -0x0013: .brokerProtocolViolation
        case -0x000A, -0x000B: .brokerBadMessage
        default: .brokerClosed
        }
    }

    /// The numbers are AMQP 0-9-1's reply codes.
    private static func code(reply: Int) -> ReloadCode {
        switch reply {
        case 403, 530: .brokerAccessRefused
        case 404: .brokerNotFound
        case 405: .brokerLocked
        case 406: .brokerPreconditionFailed
        case 501...505, 540: .brokerProtocolViolation
        default: .brokerClosed
        }
    }
}
