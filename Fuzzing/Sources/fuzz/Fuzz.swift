internal import CLibFuzzer

/// One of the things that are fuzzed.
struct Target {
    /// Its name on the command line, and of its folders.
    let name: String
    /// Tries one input. A trap, what the address sanitizer finds, and an input that takes longer than `-timeout` count.
    let run: @Sendable ([UInt8]) -> Void
}

/// libFuzzer with every target in one executable: `fuzz --target=NAME [LIBFUZZER ARGUMENTS...]`.
@main enum Fuzz {
    static let targets = [
        request, article, report, destination, inline, signature, keys, journal, elf, config, url,
    ]

    /// The one that was asked for; libFuzzer passes over arguments with two dashes, and hands them to the processes it starts.
    private static let chosen: Target? = {
        let option = "--target="
        let name = CommandLine.arguments.last { $0.hasPrefix(option) }?.dropFirst(option.count)
        return targets.first { $0.name == name ?? "" }
    }()

    static func main() {
        guard chosen != nil else { return print(targets.map(\.name).joined(separator: "\n")) }
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv
        _ = unsafe LLVMFuzzerRunDriver(&count, &arguments) { bytes, count in
            Fuzz.chosen?.run(unsafe Array(UnsafeBufferPointer(start: bytes, count: count)))
            return 0
        }
    }
}

/// Ends the process as a crash when what must be so is not.
func must(_ condition: Bool, _ what: @autoclosure () -> String) {
    if !condition { fatalError(what()) }
}

extension [UInt8] {
    /// The parts between bytes that no UTF-8 text has.
    var parts: [ArraySlice<UInt8>] { split(separator: 0xff, omittingEmptySubsequences: false) }
}
