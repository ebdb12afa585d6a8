import Foundation
import ReloadAMQP
import ReloadProtocol
import Testing

@Suite(.timeLimit(.minutes(5))) struct BrokerURLTests {
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

    /// They are read at each connect, and the directory may be another one by then.
    @Test func filesHaveAbsolutePaths() throws {
        let url = try BrokerURL("amqps://h/?cacertfile=ca.pem&certfile=a/c.pem&keyfile=/k.pem")
        let here = FileManager.default.currentDirectoryPath
        #expect(url.tls?.caFile == here + "/ca.pem")
        #expect(url.tls?.certificateFile == here + "/a/c.pem")
        #expect(url.tls?.keyFile == "/k.pem")
    }

    @Test(arguments: [
        "", "localhost", "http://h", "amqp:h", "amqpss://h", "amqp://h:0", "amqp://h:65536", "amqp://h:+1",
        "amqp://h:x",
        "amqp://h/a/b", "amqp://h/%", "amqp://h/%4", "amqp://h/%zz", "amqp://h/%ff", "amqp://h?heartbeat=1",
        "amqp://h#x", "amqp://[::1", "amqp://[::1]x", "amqp://:p@h", "amqp://u:%@h", "amqp://u:a%00b@h",
    ])
    func refuses(_ text: String) {
        #expect { try BrokerURL(text) } throws: { ($0 as? ReloadError)?.code == .brokerBadURL }
    }

    @Test func parsesTLS() throws {
        let url = try BrokerURL("amqps://h")
        #expect(url.port == 5671)
        #expect(url.tls == BrokerURL.TLS())
        #expect(try #require(url.tls).isVerified)
        #expect(try BrokerURL("amqp://h").tls == nil)

        let full = try BrokerURL(
            "amqps://u@h:1/v?cacertfile=/a%20b&certfile=/c@d&keyfile=/k&verify=verify_none"
                + "&server_name_indication=n&auth_mechanism=external")
        var tls = BrokerURL.TLS()
        tls.caFile = "/a b"
        tls.certificateFile = "/c@d"
        tls.keyFile = "/k"
        tls.serverName = "n"
        tls.isVerified = false
        #expect(full.tls == tls)
        #expect(full.isExternal)
        #expect(full.user == "u" && full.knownUser == "u")
        #expect(full.description == "amqps://u@h:1/v")
        let nameless = try BrokerURL("amqps://h?certfile=/c&auth_mechanism=external")
        #expect(nameless.knownUser == nil)
        #expect(nameless.description == "amqps://h:5671/%2F")
    }

    @Test(arguments: [
        "cacertfile", "cacertfile=", "verify=no", "auth_mechanism=anonymous", "keyfile=/k", "auth_mechanism=external",
        "certfile=/c&certfile=/d", "certfile=%", "certfile=a%00", "heartbeat=1", "cacertFile=/a",
    ])
    func refusesAQuery(_ query: String) {
        #expect { try BrokerURL("amqps://h/?" + query) } throws: { error in
            guard let error = error as? ReloadError, error.code == .brokerBadURL else { return false }
            return query.hasPrefix("heartbeat") == error.message.contains("heartbeat is not supported")
        }
    }

    /// A `?` in a password ends it: what follows looks like a query.
    @Test(arguments: [
        "amqps://u:se?cret@h/", "amqps://u:1?secret=cret@h/", "amqps://u?secret@h", "amqp://u:1?secret@h",
    ])
    func aMisplacedMarkDoesNotShowThePassword(_ text: String) throws {
        let error = #expect(throws: ReloadError.self) { try BrokerURL(text) }
        #expect(try !#require(error).description.contains("cret"))
    }

    /// Found by `scripts/fuzz`: the host was shown as it was decoded, which is another one.
    @Test(arguments: ["amqp://a%2Fb", "amqp://a%3A%5D", "amqp://%2500", "amqp://[a%25]"])
    func descriptionNamesTheSameHost(text: String) throws {
        let url = try BrokerURL(text)
        #expect(try BrokerURL(url.description) == url)
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
        let error = #expect(throws: ReloadError.self) { try BrokerURL("amqp://ops:secret@h:x1/") }
        #expect(try !#require(error).description.contains("secret"))
    }
}
