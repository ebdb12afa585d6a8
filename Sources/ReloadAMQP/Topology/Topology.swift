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

    /// Declares everything; what exists already with the same properties stays as it is.
    ///
    /// - Throws: ``BrokerError/Code/preconditionFailed`` when something exists with other properties and
    ///   ``BrokerError/Code/accessRefused`` without the permission, with the broker's text. Both close the channel.
    package func declare(on connection: inout Connection) throws(BrokerError) {
        try connection.declareExchange(controlExchange, type: "fanout")
        try connection.declareExchange(statusExchange, type: "topic")
        try connection.declareExchange(deadExchange, type: "fanout")
        try connection.declareQueue(deadExchange)
        try connection.bind(queue: deadExchange, to: deadExchange)
        if streams != .none { try declareStreams(on: &connection) }
    }

    /// What to declare after this error: a broker without streams closes the connection with 541.
    package func afterFailure(_ error: BrokerError) -> Topology {
        guard streams == .optional, error.replyCode == 541, error.operation == "queue.declare" else { return self }
        var topology = self
        topology.streams = .none
        return topology
    }

    private func declareStreams(on connection: inout Connection) throws(BrokerError) {
        try connection.declareQueue(
            journal,
            arguments: ["x-queue-type": "stream", "x-max-length-bytes": 1_073_741_824, "x-max-age": "30D"])
        try connection.bind(queue: journal, to: controlExchange)
        try connection.declareQueue(reports, arguments: ["x-queue-type": "stream", "x-max-age": "7D"])
        try connection.bind(queue: reports, to: statusExchange, routingKey: "#")
    }
}
