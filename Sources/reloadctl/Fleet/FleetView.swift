internal import Foundation
internal import ReloadCore

/// One instance of one service.
struct Instance: Hashable, Comparable, CustomStringConvertible {
    let service: String
    let name: String

    /// `service:instance`, what a destination is matched against.
    var description: String { "\(service):\(name)" }

    static func < (left: Instance, right: Instance) -> Bool {
        (left.service, left.name) < (right.service, right.name)
    }
}

extension Report {
    /// Who it is from; nil for those of `reloadctl` itself, which only mark a place in the stream.
    var sender: Instance? {
        service == Report.reservedService ? nil : Instance(service: service, name: instance)
    }

    /// The service's name that no service may bear.
    static let reservedService = "reloadctl"
}

/// Who is there and what they run, folded from the reports of the last three intervals in the order of the stream.
struct FleetView {
    /// Three report intervals. Only this much of the stream is read, so the broker's clock decides who is present, and an
    /// instance whose own clock is wrong still counts.
    static let window = Duration.seconds(90)

    /// What is known of one instance.
    struct Entry {
        /// State of the newest report.
        var state: ReportState
        /// When the newest report was made, by the instance's clock.
        var at: Date?
        /// The login that the newest report came from, as the broker checked it.
        var user: String?
        /// What it runs, by name.
        var modules: [String: ModuleReport]
    }

    private var entries: [Instance: Entry] = [:]

    /// Takes the next report. `online` and `offline` carry a whole inventory, an answer only the modules it is about.
    mutating func fold(_ report: Report) {
        guard let sender = report.sender else { return }
        var modules = entries[sender]?.modules ?? [:]
        if report.state == .online || report.state == .offline { modules = [:] }
        // What is not running there is no module of the instance, only a name in a request.
        for module in report.modules where module.running != nil { modules[module.name] = module }
        entries[sender] = Entry(
            state: report.state, at: ReloadJSON.date(report.at), user: report.user, modules: modules)
    }

    /// The instances that are there and that the destination matches.
    func present(matching destination: Destination?) -> [Instance: Entry] {
        entries.filter { instance, entry in
            entry.state != .offline
                && destination?.matches(service: instance.service, instance: instance.name) ?? true
        }
    }
}
