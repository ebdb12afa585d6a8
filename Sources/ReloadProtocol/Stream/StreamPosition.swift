internal import Synchronization

/// How far an instance is in the stream of requests, across connections and restarts.
///
/// The broker keeps no position for a stream's consumers. This asks each time for the newest message before the oldest
/// unsettled one, inclusively, and compares what comes with what it remembers: another message there means that the
/// stream was made anew, and offsets of the old one mean nothing. Offsets arrive in ascending order on each attachment.
package final class StreamPosition: Sendable {
    /// The part of the ledger.
    package struct Saved: Codable, Sendable, Equatable {
        /// Everything up to this offset is settled.
        package var offset: Int64
        /// Identifies the message there.
        package var fingerprint: String
        /// The newest offset that was handed out.
        package var last: Int64
        /// Offsets between the two that are not settled.
        package var unsettled: [Int64]
    }

    /// A message's place in one stream.
    package struct Place: Sendable, Hashable {
        package let offset: Int64
        /// Counts the streams seen in this process.
        let incarnation: UInt64
    }

    /// Where to attach.
    package enum Start: Sendable, Equatable {
        /// At the oldest message there is.
        case first
        /// At this offset, inclusively.
        case offset(Int64)
    }

    /// What to do with a message that arrived.
    package enum Arrival: Sendable, Equatable {
        /// Hand it out, and settle its place afterwards.
        case new(Place)
        /// It is being worked on, or was settled before.
        case known
        /// It is another message than the one that was there: attach again, at the start there is now.
        case streamWasMadeAnew
    }

    private struct Message: Sendable {
        var offset: Int64
        /// Its UTF-8, whose memory the next message takes over.
        var fingerprint: [UInt8]
    }

    private struct Unsettled: Sendable {
        var fingerprint: [UInt8]
        /// The message before it.
        var before: Message?
    }

    private struct State {
        var incarnation: UInt64 = 0
        /// The newest offset that was handed out.
        var last: Int64?
        /// Handed out and not settled.
        var unsettled: [Int64: Unsettled] = [:]
        /// Not settled in an earlier process, and not arrived in this one yet, in ascending order.
        var owed: ArraySlice<Int64> = []
        /// The message that arrived last, which moves back with each attachment.
        var cursor: Message?
        /// Asked for on this attachment, and not arrived yet.
        var expected: Message?
        /// Messages between the one that was asked for and the first that arrived, and not known: the stream no longer has them.
        var missing: Int64 = 0
        /// Offset of a message that cannot be read; what comes after it is asked for.
        var unreadable: Int64?

        /// The newest message up to which everything is settled.
        var base: Message? {
            guard let oldest = unsettled.keys.min() else { return cursor }
            return unsettled[oldest]?.before
        }

        enum Verdict {
            case new, known, anotherStream
        }

        /// A message arrived; the cursor moves to it.
        mutating func take(_ offset: Int64, _ fingerprint: Span<UInt8>) -> Verdict {
            if let expected {
                self.expected = nil
                if offset == expected.offset, !Self.same(expected.fingerprint, fingerprint) { return .anotherStream }
                missing = max(0, offset - 1 - max(expected.offset, last ?? 0)) + Int64(owed.count { $0 < offset })
            }
            moveCursor(to: offset, fingerprint)
            if !unsettled.isEmpty, let known = unsettled[offset] {
                return Self.same(known.fingerprint, fingerprint) ? .known : .anotherStream
            }
            // The broker no longer has those it passed over.
            while let oldest = owed.first, oldest < offset { owed.removeFirst() }
            let isOwed = owed.first == offset
            if isOwed { owed.removeFirst() }
            if let last, offset <= last, !isOwed { return .known }
            last = max(last ?? offset, offset)
            return .new
        }

        private mutating func moveCursor(to offset: Int64, _ fingerprint: Span<UInt8>) {
            if cursor == nil { cursor = Message(offset: offset, fingerprint: []) }
            cursor?.offset = offset
            cursor?.fingerprint.removeAll(keepingCapacity: true)
            unsafe fingerprint.withUnsafeBufferPointer { unsafe cursor?.fingerprint.append(contentsOf: $0) }
        }

        private static func same(_ one: [UInt8], _ other: Span<UInt8>) -> Bool {
            unsafe other.withUnsafeBufferPointer { unsafe one.elementsEqual($0) }
        }
    }

    private let state = Mutex(State())
    /// Whether an earlier process left no place.
    package let isFresh: Bool

    package init(_ saved: Saved? = nil) {
        isFresh = saved == nil
        guard let saved else { return }
        state.withLock { state in
            state.last = saved.last
            state.owed = saved.unsettled.sorted()[...]
            state.cursor = Message(offset: saved.offset, fingerprint: Array(saved.fingerprint.utf8))
        }
    }

    /// What belongs into the ledger now; nil means to begin at the first message.
    package var saved: Saved? {
        state.withLock { state in
            guard let base = state.base, let last = state.last else { return nil }
            return Saved(
                offset: base.offset, fingerprint: String(decoding: base.fingerprint, as: UTF8.self), last: last,
                unsettled: (Array(state.owed) + state.unsettled.keys).sorted())
        }
    }

    /// A new attachment begins.
    package func attach() -> Start {
        state.withLock { state in
            let base = state.base
            state.missing = 0
            if let unreadable = state.unreadable, base.map({ $0.offset <= unreadable }) ?? true {
                state.expected = nil
                return .offset(unreadable + 1)
            }
            state.expected = base
            return base.map { .offset($0.offset) } ?? .first
        }
    }

    /// The message that comes next cannot be read: what comes after it is asked for from now on.
    ///
    /// - Returns: false when nobody knows where it is, since nothing of the stream has been read yet.
    package func nextIsUnreadable() -> Bool {
        state.withLock { state in
            let before = [state.cursor?.offset, state.unreadable].compactMap { $0 }.max()
            state.unreadable = state.expected?.offset ?? before.map { $0 + 1 }
            return state.unreadable != nil
        }
    }

    /// Whether the message that was asked for has not arrived on this attachment, and comes after this offset.
    package func isBeyond(_ offset: Int64) -> Bool {
        state.withLock { state in state.expected.map { $0.offset > offset } ?? false }
    }

    /// How many messages the stream no longer had when it was attached to, of those that nobody here has seen or answered.
    package var missing: Int64 { state.withLock { $0.missing } }

    /// A message arrived.
    package func arrived(_ offset: Int64, fingerprint: String) -> Arrival {
        let fingerprint = Array(fingerprint.utf8)
        return state.withLock { state in
            let before = state.cursor
            switch state.take(offset, fingerprint.span) {
            case .new: break
            case .known: return .known
            case .anotherStream: return .streamWasMadeAnew
            }
            state.unsettled[offset] = Unsettled(fingerprint: fingerprint, before: before)
            return .new(Place(offset: offset, incarnation: state.incarnation))
        }
    }

    /// A message arrived that is not for this instance: it is settled with that.
    ///
    /// - Parameter fingerprint: as UTF-8.
    /// - Returns: false when the stream was made anew: attach again, at the start there is now.
    package func passed(_ offset: Int64, fingerprint: Span<UInt8>) -> Bool {
        state.withLock { $0.take(offset, fingerprint) != .anotherStream }
    }

    /// A message is done with: its outcome is about to be written, in the same ledger as this.
    package func settle(_ place: Place) {
        state.withLock { state in
            guard place.incarnation == state.incarnation else { return }
            state.unsettled[place.offset] = nil
        }
    }

    /// The stream was deleted or made anew, or what was done with its messages is not there any more: everything on it is new.
    package func streamWasMadeAnew() {
        state.withLock { state in
            let incarnation = state.incarnation + 1
            state = State()
            state.incarnation = incarnation
        }
    }
}
