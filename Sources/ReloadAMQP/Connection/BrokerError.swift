internal import CReloadAMQP

/// What went wrong between this process and the broker.
public struct BrokerError: Error, Sendable {
    /// A stable name for a kind of failure.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The name as it stands in logs and reports.
        public let rawValue: String
        /// The name as it stands in logs and reports.
        public var description: String { rawValue }

        private init(_ rawValue: String) { self.rawValue = rawValue }

        /// The URL cannot be used.
        public static let badURL = Code("broker.bad_url")
        /// The file of `passfile:` is missing, cannot be read, or can be read by others.
        public static let badPassfile = Code("broker.bad_passfile")
        /// No TCP connection: the name does not resolve, or nobody listens.
        public static let unreachable = Code("broker.unreachable")
        /// The broker refused the login, or the permission for an exchange or queue (AMQP 403, 530).
        public static let accessRefused = Code("broker.access_refused")
        /// The broker did not answer in time, or its heartbeats stopped.
        public static let timeout = Code("broker.timeout")
        /// The connection or channel ended.
        public static let closed = Code("broker.closed")
        /// No such exchange, queue or virtual host (AMQP 404).
        public static let notFound = Code("broker.not_found")
        /// Something exists with other properties, or a message breaks a limit (AMQP 406).
        public static let preconditionFailed = Code("broker.precondition_failed")
        /// A queue is in exclusive use elsewhere (AMQP 405).
        public static let locked = Code("broker.locked")
        /// What arrived is not AMQP, or not in an order that AMQP allows.
        public static let protocolViolation = Code("broker.protocol")
        /// librabbitmq cannot decode the properties of a message that arrived: it was acknowledged unread.
        public static let unreadableMessage = Code("broker.unreadable_message")
        /// The message cannot be sent as it is, for example a property over 255 bytes.
        public static let badMessage = Code("broker.bad_message")
        /// A mandatory message that no queue took (AMQP 312).
        public static let unroutable = Code("broker.unroutable")
        /// Dropped from a full outbox to make room for a newer message.
        public static let outboxFull = Code("broker.outbox_full")
        /// Stopped before the broker had confirmed.
        public static let stopped = Code("broker.stopped")
        /// A CA, certificate or key file is missing, unreadable or no PEM, or the key needs a passphrase.
        public static let tlsFile = Code("broker.tls_file")
        /// The client's key does not belong to its certificate.
        public static let tlsKeyMismatch = Code("broker.tls_key_mismatch")
        /// No CA that is trusted here vouches for the broker.
        public static let tlsUnknownCA = Code("broker.tls_unknown_ca")
        /// The broker's certificate, or its CA's, has expired or is not valid yet.
        public static let tlsExpired = Code("broker.tls_expired")
        /// The broker's certificate is for another name or address.
        public static let tlsHostName = Code("broker.tls_host_name")
        /// TLS was spoken to a port that does not speak it.
        public static let tlsNotSpoken = Code("broker.tls_not_spoken")
        /// TLS was not spoken to a port that speaks nothing else.
        public static let tlsNeeded = Code("broker.tls_needed")
        /// The broker takes no TLS version from 1.2 on.
        public static let tlsVersion = Code("broker.tls_version")
        /// The broker wants a client certificate.
        public static let tlsCertificateRequired = Code("broker.tls_certificate_required")
        /// The broker does not take the client's certificate.
        public static let tlsCertificateRefused = Code("broker.tls_certificate_refused")
        /// Another failure of TLS.
        public static let tlsFailed = Code("broker.tls_failed")
        /// The broker does not let this certificate log in (SASL EXTERNAL), or offers no such login.
        public static let externalRefused = Code("broker.external_refused")
        /// A resource of this process ran out.
        public static let resources = Code("broker.resources")
    }

    /// Which kind of failure.
    public var code: Code
    /// A sentence for people, without any password.
    public var message: String
    /// librabbitmq's `amqp_status_enum`, if the library failed.
    public var libraryCode: Int?
    /// The AMQP reply code, if the broker refused.
    public var replyCode: Int?
    /// The broker's own words, if the broker refused.
    public var replyText: String?
    /// The AMQP method or step, such as `queue.declare`.
    public var operation: String
    /// Whether the broker closed only the channel; ``Connection/reopenChannel()`` then goes on.
    package var isChannelOnly = false
    /// Consumer tag of the message that was acknowledged unread.
    package var consumerTag: String?
    /// Where in the source it was thrown.
    public var file: String
    /// Where in the source it was thrown.
    public var line: Int

    package init(
        _ code: Code, _ message: String, operation: String, file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.operation = operation
        self.file = file
        self.line = line
    }
}

extension BrokerError: CustomStringConvertible {
    /// Code and message, for example `broker.access_refused: connection.open: ACCESS_REFUSED - Login was refused …`.
    public var description: String {
        let text = "\(code): \(operation): \(message)"
        return libraryCode.map { "\(text) (librabbitmq \($0))" } ?? text
    }
}

extension BrokerError {
    /// The last failure of the shim as a Swift value (`creload_last_error`).
    init(_ error: creload_error, file: String = #fileID, line: Int = #line) {
        let text = unsafe String(cString: error.text)
        let operation = unsafe String(cString: error.operation)
        let library = Int(unsafe error.library_code)
        let reply = Int(unsafe error.reply_code)
        switch unsafe error.origin {
        case .CRELOAD_ORIGIN_LIBRARY:
            self.init(
                Self.code(library: library, operation: operation), text, operation: operation, file: file, line: line)
            libraryCode = library
            if unsafe error.unread.bytes != nil {
                code = .unreadableMessage
                message += "; the header of a message cannot be decoded, and it was acknowledged unread"
                let tag = unsafe UnsafeBufferPointer(start: error.unread.bytes, count: error.unread.count)
                consumerTag = unsafe String(decoding: tag, as: UTF8.self)
            }
        case .CRELOAD_ORIGIN_CONNECTION, .CRELOAD_ORIGIN_CHANNEL:
            self.init(Self.code(reply: reply), text, operation: operation, file: file, line: line)
            if reply != 0 {
                replyCode = reply
                replyText = text
            }
            isChannelOnly = unsafe error.origin == .CRELOAD_ORIGIN_CHANNEL
        case .CRELOAD_ORIGIN_PROTOCOL:
            self.init(.protocolViolation, text, operation: operation, file: file, line: line)
        case .CRELOAD_ORIGIN_SHIM:
            self.init(.badMessage, text, operation: operation, file: file, line: line)
        case .CRELOAD_ORIGIN_TLS:
            self.init(Self.code(unsafe error.problem), text, operation: operation, file: file, line: line)
            if library != 0 { libraryCode = library }
        }
    }

    private static func code(_ problem: creload_problem) -> Code {
        switch problem {
        case .CRELOAD_PROBLEM_FILE: .tlsFile
        case .CRELOAD_PROBLEM_KEY: .tlsKeyMismatch
        case .CRELOAD_PROBLEM_AUTHORITY: .tlsUnknownCA
        case .CRELOAD_PROBLEM_EXPIRED: .tlsExpired
        case .CRELOAD_PROBLEM_HOST_NAME: .tlsHostName
        case .CRELOAD_PROBLEM_NOT_TLS: .tlsNotSpoken
        case .CRELOAD_PROBLEM_IS_TLS: .tlsNeeded
        case .CRELOAD_PROBLEM_VERSION: .tlsVersion
        case .CRELOAD_PROBLEM_NO_CERTIFICATE: .tlsCertificateRequired
        case .CRELOAD_PROBLEM_CERTIFICATE_REFUSED: .tlsCertificateRefused
        case .CRELOAD_PROBLEM_OTHER: .tlsFailed
        }
    }

    /// The numbers are `amqp_status_enum`.
    private static func code(library: Int, operation: String) -> Code {
        if operation == "connect" { return .unreachable }
        return switch library {
        case -0x000D, -0x000F: .timeout
        case -0x0001: .resources
        case -0x0002, -0x0003, -0x0004, -0x0006, -0x000C, -0x0010, -0x0013: .protocolViolation
        case -0x000A, -0x000B: .badMessage
        default: .closed
        }
    }

    /// The numbers are AMQP 0-9-1's reply codes.
    private static func code(reply: Int) -> Code {
        switch reply {
        case 403, 530: .accessRefused
        case 404: .notFound
        case 405: .locked
        case 406: .preconditionFailed
        case 501...505, 540: .protocolViolation
        default: .closed
        }
    }
}
