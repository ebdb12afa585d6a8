public import CReloadPlugin
import ReloadPlugin

/// A small plugin in Swift: what a generation of it costs in memory is mostly what any of them costs.
private struct WordCount: Plugin {
    static let name = "word-count"
    static let version = "1.0.0"

    func call(_ operation: UInt32, _ input: Span<UInt8>) throws -> [UInt8] {
        let text = String(copying: try UTF8Span(validating: input))
        var counts: [Substring: Int] = [:]
        for word in text.split(separator: " ") { counts[word, default: 0] += 1 }
        return Array(counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)\n" }.joined().utf8)
    }

    func selfTest() throws {
        let text: [UInt8] = Array("to be or not to be".utf8)
        guard try call(1, text.span) == Array("be 2\nnot 1\nor 1\nto 2\n".utf8) else {
            throw PluginFailure("counts wrongly")
        }
    }
}

// swift-format-ignore: AlwaysUseLowerCamelCase
/// What the service looks up in this library; the compiler compares it with the C header.
@implementation @c
public func reload_plugin_entry(_ host: UInt32) -> UnsafePointer<reload_plugin>? {
    unsafe exportPlugin(WordCount.self, host: host)
}
