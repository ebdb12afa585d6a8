internal import ArgumentParser
internal import Foundation
internal import ReloadFleet
internal import ReloadProtocol

struct Release: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lifts a module's quarantine, so that what failed is tried again when it is published.",
        discussion: "The output is that of publish: applied where there was one, unchanged where there was none.")

    @Argument(help: "Name of the module.")
    var module: String

    @Option(help: ArgumentHelp("SHA-256 of the version; absent means all of the module.", valueName: "hex"))
    var digest: DigestArgument?

    @OptionGroup var destination: DestinationOption
    @OptionGroup var wait: WaitOption
    @OptionGroup var signing: KeyOption
    @OptionGroup var timeout: TimeoutOption
    @OptionGroup var broker: BrokerOptions

    func validate() throws { try checkModuleName(module) }

    func run() throws {
        let key = try signing.read()
        let request = Request(
            operation: .release, origin: Fleet.requestOrigin, issuedAt: Date(), destination: destination.parsed,
            modules: [
                Request.Module(
                    name: module, kind: nil, revision: nil, version: nil, artifact: .registeredFile,
                    digest: digest?.digest)
            ])
        try Requesting(request, wait: wait.wait.value, key: key, timeout: timeout, broker: broker).perform()
    }
}
