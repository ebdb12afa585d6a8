internal import ArgumentParser
internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

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
        guard to ?? 0 >= 0 else { throw ValidationError("--to must be 0 or more") }
    }

    func run() throws {
        let key = try signing.read()
        let request = Request(
            operation: .rollback, origin: Fleet.requestOrigin, issuedAt: Date(), destination: destination.parsed,
            modules: [
                Request.Module(name: module, kind: nil, revision: to, version: nil, artifact: .registeredFile)
            ])
        try Requesting(request, wait: wait.wait.value, key: key, timeout: timeout, broker: broker).perform()
    }
}
