internal import Foundation
internal import Glibc

/// The journal on disk: one line with format, checksum and size, then the record as JSON. The copy before the last one is kept beside it.
///
/// A write goes to a file of its own, is flushed, and takes the place of the old one by `rename`, so that there is a whole
/// journal under the name at every moment; then the folder is flushed.
struct JournalFile: Sendable {
    /// The number at the top of the file; another one is not read.
    static let format = 1
    private static let word = "reload-journal"

    let path: String
    var previous: String { path + ".previous" }
    private var temporary: String { path + ".new" }

    /// What ``read()`` found.
    struct Reading {
        var record: JournalRecord?
        /// What was wrong with the files that were passed over, for people.
        var problems: [String] = []
    }

    /// The newest record that is whole. A file that is not is moved to `<name>.unreadable`.
    func read() -> Reading {
        var reading = Reading()
        for file in [path, previous] {
            guard unsafe access(file, F_OK) == 0 else { continue }
            let bytes: [UInt8]
            do {
                bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
            } catch {
                reading.problems.append("cannot read \(file): \(error)")
                continue
            }
            do throws(ReloadError) {
                reading.record = try Self.decode(bytes, of: file)
                return reading
            } catch {
                let aside = file + ".unreadable"
                let isAside = unsafe rename(file, aside) == 0
                reading.problems.append(error.message + (isAside ? "; it is kept as \(aside)" : ""))
            }
        }
        return reading
    }

    private static func decode(_ bytes: [UInt8], of file: String) throws(ReloadError) -> JournalRecord {
        func unreadable(_ why: String, _ cause: (any Error)? = nil) -> ReloadError {
            ReloadError(.stateUnusable, "cannot read \(file): \(why)", underlying: cause)
        }
        let line = bytes.prefix { $0 != UInt8(ascii: "\n") }
        let words = String(decoding: line, as: UTF8.self).split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[0] == word, line.count < bytes.count else {
            throw unreadable("it does not begin as a journal does")
        }
        guard words[1] == "\(format)" else { throw unreadable("its format is \(words[1]), this agent reads \(format)") }
        let body = Array(bytes[(line.count + 1)...])
        guard Digest.of(body) == words[2] else { throw unreadable("its checksum is another one") }
        do {
            return try JSONDecoder().decode(JournalRecord.self, from: Data(body))
        } catch {
            throw unreadable("\(error)", error)
        }
    }

    /// Puts a record in the place of the last one.
    ///
    /// - Throws: `state.not_saved` with the system's text; the record before is still there then.
    func write(_ record: JournalRecord) throws(ReloadError) {
        let body = record.json
        func failed(_ what: String) -> ReloadError {
            let reason = systemText()
            unsafe unlink(temporary)
            return ReloadError(.stateNotSaved, "cannot \(what) \(temporary): \(reason)")
        }
        let header = "\(Self.word) \(Self.format) \(Digest.of(body))\n"
        // A new file each time: writing over an old one could fail in the middle of it.
        unsafe unlink(temporary)
        guard let file = FileDescriptor(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600) else {
            throw failed("make")
        }
        guard file.write(Array(header.utf8)[...]), file.write(body[...]) else { throw failed("write") }
        guard file.flush() else { throw failed("flush") }
        // By a link and a rename, so that neither name is ever without a file.
        let second = previous + ".new"
        unsafe unlink(second)
        if unsafe link(path, second) == 0 { unsafe rename(second, previous) }
        guard unsafe rename(temporary, path) == 0 else { throw failed("rename") }
        guard let folder = FileDescriptor(URL(fileURLWithPath: path).deletingLastPathComponent().path, O_RDONLY),
            folder.flush()
        else { throw failed("flush the folder of") }
    }
}
