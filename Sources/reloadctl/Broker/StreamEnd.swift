internal import Foundation
internal import ReloadAMQP
internal import ReloadCore

/// Reads the stream of reports to its present end: everything that was there when this began.
///
/// - Parameter take: Gets each message before the end, in order.
/// - Throws: ``BrokerError``, ``Interrupted``; `broker.timeout` when the end did not come in time.
func readToEnd(
    _ reader: inout StreamReader, _ publisher: inout ConfirmingPublisher, _ link: Link, take: (Delivery) -> Void
) throws {
    let id = UUID().uuidString.lowercased()
    let marker = try Envelope.marker(id: id)
    _ = try publisher.send(marker.envelope, exchange: link.topology.statusExchange, routingKey: marker.routingKey)
    while true {
        while let delivery = try reader.next() {
            if delivery.envelope.messageID == id { return }
            take(delivery)
            if link.interruption.isOver { break }
        }
        try publisher.pump()
        try publisher.checkTime()
        reader.wait()
    }
}
