internal import Foundation

/// The words this process was started with, as everybody on the machine can read them in `/proc/<pid>/cmdline`.
enum ProcessArguments {
    /// Overwrites the passwords in them, after Swift has taken its copy; returns whether there were any. From the start of
    /// the process to this call they could be read.
    static func hidePasswords() -> Bool {
        guard CommandLine.arguments.contains(where: { password(in: Array($0.utf8)) != nil }) else { return false }
        // arg_start and arg_end of proc(5); Swift's own copy of the words is elsewhere.
        guard let line = try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8),
            let afterName = line.lastIndex(of: ")")
        else { return true }
        let fields = line[line.index(after: afterName)...].split(separator: " ")
        guard fields.count > 46, let start = UInt(fields[45]), let end = UInt(fields[46]), start < end,
            let memory = unsafe UnsafeMutablePointer<UInt8>(bitPattern: start)
        else { return true }
        let words = unsafe UnsafeMutableBufferPointer(start: memory, count: Int(end - start))
        var first = 0
        while first < words.count {
            let last = unsafe words[first...].firstIndex(of: 0) ?? words.count
            for index in password(in: unsafe Array(words[first..<last])) ?? 0..<0 {
                unsafe words[first + index] = UInt8(ascii: "x")
            }
            first = last + 1
        }
        return true
    }

    /// A text that may repeat words of the command line, such as ArgumentParser's complaint about one, without the passwords
    /// in them. Of a word that was cut at a `=` either part counts.
    static func hidingPasswords(in text: String, arguments: [String] = CommandLine.arguments) -> String {
        var text = text
        for argument in arguments {
            let word = Array(argument.utf8)
            guard let range = password(in: word) else { continue }
            let password = String(decoding: word[range], as: UTF8.self)
            let start = word[..<range.lowerBound].lastIndex(of: UInt8(ascii: ":")) ?? range.lowerBound
            text = text.replacing(password, with: "xxxx")
            guard let cut = password.firstIndex(of: "=") else { continue }
            let before = String(decoding: word[start..<range.lowerBound], as: UTF8.self) + password[..<cut]
            text = text.replacing(before, with: ":xxxx")
                .replacing(password[password.index(after: cut)...] + "@", with: "xxxx@")
        }
        return text
    }

    /// Where the password of a URL stands in a word: after the first colon behind `://`, up to the last `@`.
    static func password(in word: [UInt8]) -> Range<Int>? {
        guard let scheme = Data(word).firstRange(of: Data("://".utf8)),
            let at = word.lastIndex(of: UInt8(ascii: "@")), at > scheme.upperBound,
            let colon = word[scheme.upperBound..<at].firstIndex(of: UInt8(ascii: ":")), colon + 1 < at
        else { return nil }
        return colon + 1..<at
    }
}
