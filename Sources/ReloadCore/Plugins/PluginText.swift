extension String {
    /// What a plugin said, fit for a terminal and for one line of a log: control characters, line ends and the characters that
    /// turn the direction of a text come as `\n` and `\u{1B}`, bytes that are no UTF-8 as U+FFFD.
    ///
    /// - Parameter bytes: May begin in the middle of a character, which is left out then.
    init(fromPlugin bytes: some Sequence<UInt8>) {
        let isContinuation = { (byte: UInt8) in byte & 0xc0 == 0x80 }
        let text = String(decoding: Array(bytes.drop(while: isContinuation)), as: UTF8.self)
        self = text.unicodeScalars.reduce(into: "") { result, scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: result += scalar.escaped(asASCII: true)
            default: result.unicodeScalars.append(scalar)
            }
        }
    }
}
