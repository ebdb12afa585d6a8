public import CReloadPlugin
import ReloadPlugin
import SwiftParser

/// The first version.
private struct SiteParser: PageParser {
    static let version = "3.0.0"
    static let titleStyle = TitleStyle.asWritten
}

// swift-format-ignore: AlwaysUseLowerCamelCase
/// What the service looks up in this library; the compiler compares it with the C header.
@implementation @c
public func reload_plugin_entry(_ host: UInt32) -> UnsafePointer<reload_plugin>? {
    unsafe exportPlugin(SiteParser.self, host: host)
}
