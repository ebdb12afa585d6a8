import ReloadAMQP
import Testing

@Suite struct BrokerURLTests {
    @Test(arguments: [
        ("amqp://", "guest", "guest", "localhost", 5672, "/"),
        ("amqp://localhost", "guest", "guest", "localhost", 5672, "/"),
        ("amqp://guest:guest@127.0.0.1:5672/", "guest", "guest", "127.0.0.1", 5672, "/"),
        ("AMQP://h:1/%2F", "guest", "guest", "h", 1, "/"),
        ("amqp://u@h/fleet", "u", "guest", "h", 5672, "fleet"),
        ("amqp://u:@h/", "u", "", "h", 5672, "/"),
        ("amqp://a%40b:p%3A%2F%25@h:65535/x%2Fy", "a@b", "p:/%", "h", 65535, "x/y"),
        ("amqp://u:p@ss@h", "u", "p@ss", "h", 5672, "/"),
        ("amqp://u:p@[::1]:5673/v", "u", "p", "::1", 5673, "v"),
        ("amqp://[fe80::1]", "guest", "guest", "fe80::1", 5672, "/"),
    ])
    func parses(
        _ text: String, user: String, password: String, host: String, port: Int, virtualHost: String
    ) throws {
        let url = try BrokerURL(text)
        #expect(url.user == user)
        #expect(url.password == password)
        #expect(url.host == host)
        #expect(url.port == port)
        #expect(url.virtualHost == virtualHost)
    }

    @Test(arguments: [
        "", "localhost", "http://h", "amqp:h", "amqps://h", "amqp://h:0", "amqp://h:65536", "amqp://h:+1", "amqp://h:x",
        "amqp://h/a/b", "amqp://h/%", "amqp://h/%4", "amqp://h/%zz", "amqp://h/%ff", "amqp://h?heartbeat=1",
        "amqp://h#x", "amqp://[::1", "amqp://[::1]x", "amqp://:p@h", "amqp://u:%@h", "amqp://u:a%00b@h",
    ])
    func refuses(_ text: String) {
        #expect { try BrokerURL(text) } throws: { ($0 as? BrokerError)?.code == .badURL }
    }

    @Test func saysThatTLSIsMissing() throws {
        let error = #expect(throws: BrokerError.self) { try BrokerURL("amqps://h") }
        #expect(try #require(error).message.contains("amqps"))
    }

    @Test func noDescriptionShowsThePassword() throws {
        let url = try BrokerURL("amqp://ops:se%20cret@[::1]:5673/a%2Fb")
        #expect(url.description == "amqp://ops@[::1]:5673/a%2Fb")
        var dumped = ""
        dump(ConnectionSettings(url: url, name: "n"), to: &dumped)
        for text in ["\(url)", String(reflecting: url), String(reflecting: [url]), dumped] {
            #expect(!text.contains("se cret"))
            #expect(!text.contains("se%20cret"))
        }
        // What cannot be parsed may be a password in the wrong place.
        let error = #expect(throws: BrokerError.self) { try BrokerURL("amqp://ops:secret@h:x1/") }
        #expect(try !#require(error).description.contains("secret"))
    }
}
