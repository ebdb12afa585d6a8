package import ReloadProtocol

/// The exchanges, streams and queues that agents and operators share.
package struct Topology: Sendable, Equatable {
    /// What to do about a broker without streams.
    package enum Streams: Sendable {
        case required
        /// Declared, if the broker can.
        case optional
        case none
    }

    /// Fanout exchange for requests; `python.ppmoney.hotupdate` and other names can take its place.
    package var controlExchange: String
    /// Topic exchange for reports, routing key `<service>.<instance>.<state>`.
    package var statusExchange: String
    /// Fanout exchange and queue for requests nobody could read.
    package var deadExchange: String
    /// Stream with the requests of the last days, bound to the control exchange.
    package var journal: String
    /// Stream with the reports of the last days, bound to the status exchange.
    package var reports: String
    /// Whether the streams are needed.
    package var streams = Streams.required
    /// Whether somebody else makes all this, since this user may not.
    private var isOthers = false

    /// The fixed names; the exchanges' can be replaced.
    package init(
        controlExchange: String = "reload.control", statusExchange: String = "reload.status",
        deadExchange: String = "reload.dead", journal: String = "reload.journal", reports: String = "reload.reports"
    ) {
        self.controlExchange = controlExchange
        self.statusExchange = statusExchange
        self.deadExchange = deadExchange
        self.journal = journal
        self.reports = reports
    }

    /// Declares everything; what exists already with the same properties stays as it is. Who may not declare finds out whether
    /// everything is there.
    ///
    /// - Returns: What to declare next time; it spares who may not another refusal.
    /// - Throws: ``ReloadCode/brokerPreconditionFailed`` when something exists with other properties, and
    ///   ``ReloadCode/brokerNotFound`` when something is missing that this user may not make, with the broker's text. Both
    ///   close the channel.
    @discardableResult
    package func declare(on connection: inout Connection) throws(ReloadError) -> Topology {
        var topology = self
        if !isOthers {
            do throws(ReloadError) {
                try create(on: &connection)
                return self
            } catch {
                // Even to declare what exists takes the permission to configure it.
                guard error.code == .brokerAccessRefused, error.isChannelOnly else { throw error }
                topology.isOthers = true
            }
            try connection.reopenChannel()
        }
        do throws(ReloadError) {
            try topology.lookFor(on: &connection)
        } catch {
            guard error.code == .brokerNotFound else { throw error }
            var error = error
            error.message +=
                "; this user may not make it: whoever may configure does, with any command of reloadctl that talks to the broker"
            throw error
        }
        return topology
    }

    private func create(on connection: inout Connection) throws(ReloadError) {
        try connection.together { (connection) throws(ReloadError) in
            try connection.declareExchange(controlExchange, type: "fanout")
            try connection.declareExchange(statusExchange, type: "topic")
            try connection.declareExchange(deadExchange, type: "fanout")
            try connection.ensureQueue(deadExchange)
            try connection.bind(queue: deadExchange, to: deadExchange)
            guard streams != .none else { return }
            try connection.ensureQueue(
                journal,
                arguments: ["x-queue-type": "stream", "x-max-length-bytes": 1_073_741_824, "x-max-age": "30D"])
            try connection.bind(queue: journal, to: controlExchange)
            try connection.ensureQueue(reports, arguments: ["x-queue-type": "stream", "x-max-age": "7D"])
            try connection.bind(queue: reports, to: statusExchange, routingKey: "#")
        }
    }

    /// Asks for everything that is needed, which takes no permission.
    private func lookFor(on connection: inout Connection) throws(ReloadError) {
        try connection.together { (connection) throws(ReloadError) in
            for (exchange, type) in [(controlExchange, "fanout"), (statusExchange, "topic"), (deadExchange, "fanout")] {
                try connection.declareExchange(exchange, type: type, passive: true)
            }
            guard streams == .required else { return }
            for stream in [journal, reports] { try connection.ensureQueue(stream, passive: true) }
        }
    }

    /// What to declare after this error: a broker without streams closes the connection with 541.
    package func afterFailure(_ error: ReloadError) -> Topology {
        if isOthers, error.code == .brokerNotFound {
            // Perhaps this user may make it by now.
            var topology = self
            topology.isOthers = false
            return topology
        }
        guard streams == .optional, error.broker?.replyCode == 541, error.operation == "queue.declare" else {
            return self
        }
        var topology = self
        topology.streams = .none
        return topology
    }
}
