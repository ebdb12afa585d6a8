internal import Foundation
internal import ReloadAMQP
internal import ReloadProtocol

/// Reads the stream of reports to its present end, and knows it for certain: what is published now comes after everything
/// that is there, so once a report of our own comes back, all before it has been read. Who publishes a request needs that
/// certainty, or an instance would be missing among those it waits for.
///
/// - Parameter take: Gets each message before the end, in order.
/// - Throws: `broker.timeout` when the end did not come in time.
func readToMarker(
    _ reader: inout StreamReader, _ publisher: inout ConfirmingPublisher, _ fleet: Fleet, take: (Delivery) -> Void
) throws(ReloadError) {
    let id = UUID().uuidString.lowercased()
    let marker = Envelope.marker(id: id)
    _ = try publisher.send(marker.envelope, exchange: fleet.topology.statusExchange, routingKey: marker.routingKey)
    while true {
        while let delivery = try reader.next() {
            if delivery.envelope.messageID == id { return }
            take(delivery)
            if fleet.limit.isOver { break }
        }
        try publisher.pump()
        try publisher.checkTime()
        reader.wait()
    }
}

extension Envelope {
    /// A report of `reloadctl` itself, which those who read reports pass over.
    fileprivate static func marker(id: String) -> (envelope: Envelope, routingKey: String) {
        let report = Report(
            request: nil, service: Report.reservedService, instance: Fleet.instanceName, sequence: 1, state: .offline,
            at: Date())
        let envelope = Envelope(
            body: report.encode(), type: Report.protocolName, id: id, correlationID: id,
            appID: Report.reservedService)
        return (envelope, report.routingKey)
    }
}
