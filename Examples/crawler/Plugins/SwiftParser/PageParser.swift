public import ReloadPlugin

/// What a version of the parser does with a page's title.
public enum TitleStyle: Sendable {
    /// The title as it stands in the file, line breaks included.
    case asWritten
    /// White space collapsed; the record also counts the page's headings.
    case trimmed
    /// The title gets lost, which the self test notices.
    case lost
}

/// The crawler's HTML parser in Swift; each version of the plugin is a type that says only what is different about it.
public protocol PageParser: Plugin {
    /// What this version does with titles.
    static var titleStyle: TitleStyle { get }
}

extension PageParser {
    /// The name in the plugin's table.
    public static var name: String { "crawler.parser in Swift" }

    /// Operation 1 makes a page's record.
    ///
    /// The input is the length of the URL as 4 bytes, little endian, the URL, then the HTML up to the end.
    public func call(_ operation: UInt32, _ input: Span<UInt8>) throws -> [UInt8] {
        guard operation == 1 else { throw PluginFailure.unknownOperation(operation) }
        guard input.count >= 4 else { throw PluginFailure("the input is shorter than its header") }
        let urlCount = (0..<4).reduce(0) { $0 | Int(input[$1]) << (8 * $1) }
        guard urlCount <= input.count - 4 else { throw PluginFailure("the URL is longer than the input") }
        let url = unsafe input.extracting(4..<4 + urlCount).withUnsafeBufferPointer { unsafe Array($0) }
        let html = unsafe input.extracting((4 + urlCount)...).withUnsafeBufferPointer { unsafe Array($0) }
        return record(of: Page(html, at: url), at: url)
    }

    /// Parses a page whose record is known.
    public func selfTest() throws {
        let url = "http://test/a/b/"
        let html = """
            <!DOCTYPE html><title>Tea &amp;
             Milk</title><h1>Tea</h1><p>See <a href='../c?d=1'>there<p><a href=/e>
            """
        let (title, headings) =
            Self.titleStyle == .asWritten ? (#"Tea &\u000a Milk"#, "") : ("Tea & Milk", #","headings":1"#)
        let expected = """
            {"url":"\(url)","title":"\(title)","links":["http://test/a/c?d=1","http://test/e"]\(headings),\
            "parser_version":"\(Self.version)"}
            """
        let input = [UInt8(url.utf8.count), 0, 0, 0] + Array(url.utf8) + Array(html.utf8)
        let record = String(decoding: try call(1, input.span), as: UTF8.self)
        guard record == expected else { throw PluginFailure("the record of the test page is wrong: \(record)") }
    }

    private func record(of page: Page, at url: [UInt8]) -> [UInt8] {
        var record: [UInt8] = []
        record += #"{"url":"#.utf8
        record.appendJSON(url)
        record += #","title":"#.utf8
        switch Self.titleStyle {
        case .asWritten: record.appendJSON(page.title)
        case .trimmed: record.appendJSON(Array(page.title.split(whereSeparator: \.isSpace).joined(separator: " ".utf8)))
        case .lost: record.appendJSON([])
        }
        record += #","links":["#.utf8
        for (index, link) in page.links.enumerated() {
            if index > 0 { record.append(UInt8(ascii: ",")) }
            record.appendJSON(link)
        }
        record.append(UInt8(ascii: "]"))
        if Self.titleStyle != .asWritten { record += #","headings":\#(page.headings)"#.utf8 }
        record += #","parser_version":"#.utf8
        record.appendJSON(Array(Self.version.utf8))
        record.append(UInt8(ascii: "}"))
        return record
    }
}

/// What is read from one page.
private struct Page {
    var title: [UInt8] = []
    var links: [[UInt8]] = []
    var headings = 0

    init(_ html: [UInt8], at url: [UInt8]) {
        var tokenizer = HTMLTokenizer(html)
        var base = URLReference(url)
        var hasBase = false
        var hasTitle = false
        var isInTitle = false
        while let token = tokenizer.next() {
            switch token {
            case .text(let range):
                if isInTitle { title += decodingEntities(html[range]) }
            case .endTag(let name):
                if name == "title" { isInTitle = false }
            case .startTag("title", _):
                isInTitle = !hasTitle
                hasTitle = true
            case .startTag("base", let attributes) where !hasBase:
                guard let href = tokenizer.value(of: "href", in: attributes) else { continue }
                base = URLReference(href).resolved(against: base)
                hasBase = true
            case .startTag("a", let attributes):
                guard let href = tokenizer.value(of: "href", in: attributes) else { continue }
                links.append(URLReference(href).resolved(against: base).bytes)
            case .startTag(let name, _):
                if ["h1", "h2", "h3", "h4", "h5", "h6"].contains(name) { headings += 1 }
            }
        }
    }
}

extension [UInt8] {
    /// Appends a JSON string; what is not UTF-8 becomes U+FFFD, so the record can always be read.
    fileprivate mutating func appendJSON(_ text: [UInt8]) {
        let hexadecimal = Array("0123456789abcdef".utf8)
        append(UInt8(ascii: "\""))
        for byte in String(decoding: text, as: UTF8.self).utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                self += [UInt8(ascii: "\\"), byte]
            case 0..<0x20:
                self += Array(#"\u00"#.utf8) + [hexadecimal[Int(byte >> 4)], hexadecimal[Int(byte & 15)]]
            default:
                append(byte)
            }
        }
        append(UInt8(ascii: "\""))
    }
}
