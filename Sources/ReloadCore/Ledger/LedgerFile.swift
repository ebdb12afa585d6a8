internal import FoundationEssentials
internal import Glibc
internal import ReloadProtocol

/// The ledger on disk: two files, each with one line of format and checksum and then a record as JSON. The one with the higher
/// number is the ledger, the other one the ledger before it.
///
/// A write goes over the older one, in place, and is flushed: no name changes and mostly no size, so the disk has one thing to
/// wait for. Whatever happens in the middle of it, the newer one is whole.
struct LedgerFile: Sendable {
    /// The number at the top of the file; another one is not read.
    static let format = 1
    private static let word = "reload-journal"
    /// The files are this large, or a multiple of it; the record ends in blanks.
    private static let block = 4096

    let path: String
    var previous: String { path + ".previous" }
    private var slots: [String] { [path, previous] }
    /// Which of the two is the ledger, and its number.
    private var newest: (slot: Int, number: UInt64)?

    init(path: String) {
        self.path = path
    }

    /// Whether there is any.
    var exists: Bool { slots.contains { unsafe access($0, F_OK) == 0 } }

    /// What ``read()`` found.
    struct Reading {
        var record: LedgerRecord?
        /// The ledger before it.
        var before: LedgerRecord?
        /// What was wrong with the files that were passed over, for people.
        var problems: [String] = []
    }

    /// The records that are whole. A file that is not is moved to `<name>.unreadable`.
    mutating func read() -> Reading {
        var reading = Reading()
        newest = nil
        for (slot, file) in slots.enumerated() {
            guard unsafe access(file, F_OK) == 0 else { continue }
            let bytes: [UInt8]
            do {
                bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
            } catch {
                reading.problems.append("cannot read \(file): \(error)")
                continue
            }
            do throws(ReloadError) {
                var record = try Self.decode(bytes, of: file)
                let number = record.number ?? 0
                record.number = nil
                if let newest, newest.number >= number {
                    reading.before = record
                } else {
                    reading.before = reading.record
                    reading.record = record
                    newest = (slot, number)
                }
            } catch {
                let aside = file + ".unreadable"
                let isAside = unsafe rename(file, aside) == 0
                reading.problems.append(error.message + (isAside ? "; it is kept as \(aside)" : ""))
            }
        }
        return reading
    }

    private static func decode(_ bytes: [UInt8], of file: String) throws(ReloadError) -> LedgerRecord {
        func unreadable(_ why: String, _ cause: (any Error)? = nil) -> ReloadError {
            ReloadError(.stateUnusable, "cannot read \(file): \(why)", underlying: cause)
        }
        let line = bytes.prefix { $0 != UInt8(ascii: "\n") }
        let words = String(decoding: line, as: UTF8.self).split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[0] == word, line.count < bytes.count else {
            throw unreadable("it does not begin as a ledger does")
        }
        guard words[1] == "\(format)" else { throw unreadable("its format is \(words[1]), this agent reads \(format)") }
        let body = Array(bytes[(line.count + 1)...])
        guard Digest.of(body) == words[2] else { throw unreadable("its checksum is another one") }
        let record: LedgerRecord
        do {
            record = try JSONDecoder().decode(LedgerRecord.self, from: Data(body))
        } catch {
            throw unreadable("\(error)", error)
        }
        guard record.number ?? 0 < .max / 2 else { throw unreadable("its number was never counted to") }
        return record
    }

    /// Puts a record in the place of the last but one.
    ///
    /// - Throws: `state.not_saved` with the system's text; the last record is still there then.
    mutating func write(_ record: LedgerRecord) throws(ReloadError) {
        if newest == nil { _ = read() }
        let slot = newest.map { 1 - $0.slot } ?? 0
        var record = record
        record.number = (newest?.number ?? 0) + 1
        if unsafe access(slots[slot], F_OK) == 0 {
            try overwrite(slots[slot], record)
        } else {
            try create(slots[slot], record)
        }
        newest = (slot, record.number ?? 0)
    }

    private static func text(_ record: LedgerRecord, in present: Int) -> [UInt8] {
        var body = record.json
        let header = "\(word) \(format) \(Digest.prefix)\n".utf8.count + 64
        let needed = (header + body.count + block - 1) / block * block
        // The file keeps its size while that fits.
        let size = present % block == 0 && (needed...4 * needed).contains(present) ? present : needed
        body += repeatElement(UInt8(ascii: " "), count: size - header - body.count)
        return Array("\(word) \(format) \(Digest.of(body))\n".utf8) + body
    }

    private func failed(_ what: String, _ file: String) -> ReloadError {
        ReloadError(.stateNotSaved, "cannot \(what) \(file): \(systemText())")
    }

    private func overwrite(_ path: String, _ record: LedgerRecord) throws(ReloadError) {
        guard let file = FileDescriptor(path, O_WRONLY), let present = file.size else { throw failed("open", path) }
        let text = Self.text(record, in: present)
        guard file.write(text[...]), text.count >= present || ftruncate(file.number, off_t(text.count)) == 0 else {
            throw failed("write", path)
        }
        guard fdatasync(file.number) == 0 else { throw failed("flush", path) }
    }

    /// By a rename, so that there is never half a ledger under the name.
    private func create(_ path: String, _ record: LedgerRecord) throws(ReloadError) {
        let temporary = self.path + ".new"
        unsafe unlink(temporary)
        guard let file = FileDescriptor(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600) else {
            throw failed("make", temporary)
        }
        do throws(ReloadError) {
            guard file.write(Self.text(record, in: 0)[...]) else { throw failed("write", temporary) }
            guard file.flush() else { throw failed("flush", temporary) }
            guard unsafe rename(temporary, path) == 0 else { throw failed("rename", temporary) }
        } catch {
            unsafe unlink(temporary)
            throw error
        }
        guard let folder = FileDescriptor(URL(fileURLWithPath: path).deletingLastPathComponent().path, O_RDONLY),
            folder.flush()
        else { throw failed("flush the folder of", path) }
    }
}
