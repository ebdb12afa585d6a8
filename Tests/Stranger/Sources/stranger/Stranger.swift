import Glibc
import ReloadFleet
import ReloadProtocol

/// Publishes a config to a fleet, waits for every answer, and looks at who runs what and at the history:
///
///     stranger BROKER DESTINATION MODULE TEXT
///
/// Exit status 0: every present instance applied it, runs it, and the history knows its answer.
@main
struct Stranger {
    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count == 4 else { throw Complaint(text: "usage: stranger BROKER DESTINATION MODULE TEXT") }
        let (broker, destination, module, text) = (arguments[1], arguments[2], arguments[3], arguments[4])
        do throws(ReloadError) {
            try run(broker, Destination(destination), module, Array(text.utf8))
        } catch {
            print("\(error.code): \(error.message)")
            exit(1)
        }
    }

    private static func run(
        _ broker: String, _ destination: Destination, _ module: String, _ bytes: [UInt8]
    ) throws(ReloadError) {
        let fleet = try Fleet(broker: broker, limit: Limit(timeout: .seconds(30)))
        let request = Request(
            operation: .apply, origin: "stranger", destination: destination,
            modules: [
                Request.Module(
                    name: module, kind: .config, revision: 1_000_000, version: "of a stranger",
                    artifact: .inline(bytes: bytes), digest: Digest.of(bytes))
            ])
        var run = RequestRun(request, on: fleet)
        try run.run(
            begun: { run in print("published \(run.id), waiting for \(run.answers.awaited)") },
            changed: { run, instance in
                guard let instance, let answer = run.answers.given[instance] else { return }
                print("\(instance): \(answer.state.rawValue) \(answer.code)")
            })
        guard run.published == .yes, run.answers.isComplete, run.answers.awaited > 0 else {
            throw ReloadError(.moduleUnknown, "not answered: \(run.answers.silent)")
        }
        for (instance, entry) in try fleet.view().present(matching: destination) {
            guard entry.modules[module]?.running?.digest == Digest.of(bytes) else {
                throw ReloadError(.moduleUnknown, "\(instance) does not run it")
            }
        }
        let history = try fleet.history(since: .seconds(3600))
        guard let entry = history.entries.last(where: { $0.id == run.id }),
            entry.answers.values.allSatisfy({ $0.state == .applied }), entry.answers.count == run.answers.awaited
        else { throw ReloadError(.moduleUnknown, "the history does not know the answers") }
        print("\(entry.answers.count) applied, history has \(history.entries.count) requests")
    }

    struct Complaint: Error {
        let text: String
    }
}
