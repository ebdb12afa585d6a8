import Glibc
import Reloading

struct Rules: Decodable {
    var depth: Int
}

/// A service with one config, `small-service RULES`: says its value for each line of standard input, and ends with it.
@main
enum SmallService {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count == 2 else { fail(2, "usage: small-service RULES") }
        do {
            let agent = try ReloadAgent(service: "small-service")
            let rules = try agent.config("rules", file: arguments[1], as: Rules.self)
            try agent.start()
            while readLine() != nil {
                print("depth \(rules.current.depth)")
                fflush(nil)
            }
            agent.stop()
        } catch {
            fail(1, "small-service: \(error)")
        }
    }

    private static func fail(_ status: CInt, _ reason: String) -> Never {
        var line = reason + "\n"
        line.withUTF8 { unsafe _ = write(2, $0.baseAddress, $0.count) }
        exit(status)
    }
}
