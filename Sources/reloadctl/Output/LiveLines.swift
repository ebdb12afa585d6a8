internal import Foundation
internal import Glibc
internal import ReloadFleet
internal import ReloadProtocol

/// What the live lines show at one moment: pure text, so that it can be looked at without a terminal.
struct LiveFrame {
    let answers: Answers
    /// Columns and rows of the terminal.
    let width: Int
    let height: Int
    let isColoured: Bool
    let elapsed: Duration

    /// A line for each instance, as far as the screen is high enough; else those that did not succeed. The last line
    /// counts.
    var lines: [String] {
        let silent = answers.silent.map { instance in
            let state =
                answers.gone.contains(instance)
                ? "waiting, went offline" : answers.applying.contains(instance) ? "applying" : "waiting"
            return (instance, state, "", Colour.yellow)
        }
        let answered = answers.given.map { instance, answer in
            let isGood = answer.state.isSuccess
            let reason = isGood ? "" : Answers.reason(answer)
            return (instance, answer.state.rawValue, reason, isGood ? Colour.green : .red)
        }
        var shown = silent + answered
        if shown.count > height - 2 { shown = answered.filter { $0.3 == .red } }
        shown.sort { $0.0 < $1.0 }
        var hidden = 0
        if shown.count > height - 3 {
            hidden = shown.count - max(0, height - 3)
            shown.removeLast(hidden)
        }
        let names = shown.map(\.0.description.printable.excerpt.count).max() ?? 0
        let states = shown.map(\.1.count).max() ?? 0
        var lines = shown.map { instance, state, reason, colour in
            let name = instance.description.printable.excerpt.padded(to: names)
            let text = fitted(
                "  \(name)  \(state.padded(to: states))  \(reason.printable.excerpt)".withoutTrailingBlanks)
            return colour.paint(text, isColoured, from: 2 + names + 2, count: state.count)
        }
        if hidden > 0 { lines.append(fitted("  … and \(hidden) more")) }
        return lines + [fitted(count)]
    }

    /// `applied 87/100, waiting 12, failed 1 (4s)`
    private var count: String {
        let good = answers.given.values.count { $0.state.isSuccess }
        let bad = answers.given.count - good
        var text = "applied \(good)/\(answers.awaited)"
        if answers.missing > 0 { text += ", waiting \(answers.missing)" }
        if bad > 0 { text += ", failed \(bad)" }
        return text + " (\(elapsed.wholeMilliseconds / 1000)s)"
    }

    /// A line that wraps would be erased only in half.
    private func fitted(_ text: String) -> String {
        text.count < width ? text : text.prefix(max(0, width - 2)) + "…"
    }
}

/// The few colours, and how a terminal is told.
enum Colour: String {
    case red = "31"
    case green = "32"
    case yellow = "33"

    /// Colours some characters of a line.
    func paint(_ text: String, _ isOn: Bool, from start: Int, count: Int) -> String {
        let head = text.prefix(start)
        let body = text.dropFirst(start).prefix(count)
        guard isOn, !body.isEmpty else { return text }
        return "\(head)\u{1B}[\(rawValue)m\(body)\u{1B}[0m\(text.dropFirst(start + count))"
    }
}

/// Draws frames over each other on standard error, if that is a terminal that can; else does nothing. Never waits for it.
final class LiveLines {
    private let isOn: Bool
    private let isColoured: Bool
    private let start = ContinuousClock.now
    private var drawn: [String] = []
    /// What the terminal has not taken yet; nothing more is drawn before it has.
    private var rest: ArraySlice<UInt8> = []

    init() {
        let environment = ProcessInfo.processInfo.environment
        let terminal = environment["TERM"] ?? ""
        isOn = StandardError.isLive && !terminal.isEmpty && terminal != "dumb"
        isColoured = (environment["NO_COLOR"] ?? "").isEmpty
    }

    /// Shows the present state in place of the one before.
    func draw(_ answers: Answers) {
        guard isOn, flush() else { return }
        var size = winsize()
        if unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) != 0 || size.ws_row == 0 || size.ws_col == 0 {
            size.ws_row = 24
            size.ws_col = 80
        }
        let lines = LiveFrame(
            answers: answers, width: Int(size.ws_col), height: Int(size.ws_row), isColoured: isColoured,
            elapsed: start.duration(to: .now)
        ).lines
        guard lines != drawn else { return }
        write(back + lines.map { $0 + "\n" }.joined())
        drawn = lines
    }

    /// Takes the lines away, so that the result stands alone.
    func erase() {
        guard !drawn.isEmpty else { return }
        write(back)
        drawn = []
    }

    private func write(_ text: String) {
        rest += Array(text.utf8)
        _ = flush()
    }

    /// Whether all has been written.
    private func flush() -> Bool {
        rest = StandardError.writeNow(rest)
        return rest.isEmpty
    }

    /// To the first line that was drawn, and clears from there to the end of the screen.
    private var back: String { drawn.isEmpty ? "" : "\u{1B}[\(drawn.count)A\r\u{1B}[J" }
}
