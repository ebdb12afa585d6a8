internal import ArgumentParser
internal import Foundation
internal import ReloadCore

struct Rollback: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes a module back to a version that was good, and waits for the answers.",
        discussion: "The output is that of publish.")

    @Argument(help: "Name of the module.")
    var module: String

    @Option(help: ArgumentHelp("The revision; absent means the previous good one of each instance.", valueName: "n"))
    var to: Int64?

    @OptionGroup var destination: DestinationOption
    @OptionGroup var wait: WaitOption
    @OptionGroup var signing: KeyOption
    @OptionGroup var timeout: TimeoutOption
    @OptionGroup var broker: BrokerOptions

    func validate() throws {
        try checkModuleName(module)
        guard to ?? 0 >= 0 else { throw ValidationError("--to is not negative") }
    }

    func run() throws {
        let key = try signing.read()
        let request = Request(
            operation: .rollback, origin: Link.origin, issuedAt: Date(), destination: destination.parsed,
            modules: [
                Request.Module(name: module, kind: nil, revision: to, version: nil, artifact: .registeredFile)
            ])
        var run = RequestRun(
            request, on: try Link(broker, timeout: timeout.timeout.duration), wait: wait.wait, key: key)
        try run.perform(json: broker.json)
    }
}
