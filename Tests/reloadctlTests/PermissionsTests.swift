import Foundation
internal import ReloadAMQP
internal import ReloadProtocol
internal import Testing

@testable internal import ReloadFleet
@testable internal import reloadctl

struct PermissionsTests {
    private func rights(_ service: String, _ instance: String?, _ delivery: Permissions.Delivery = .stream) -> Rights {
        Rights(agentOf: service, instance: instance, delivery: delivery, topology: Topology())
    }

    private func matches(_ expression: String, _ text: String) throws -> Bool {
        try text.firstMatch(of: Regex(expression)) != nil
    }

    @Test func anAgentReadsTheJournalAndWritesReports() {
        let rights = rights("crawler", "web-3")
        #expect(rights.configure == "^$")
        #expect(rights.write == #"^(reload\.status|reload\.dead)$"#)
        #expect(rights.read == #"^(reload\.journal)$"#)
        #expect(rights.statusKeys == #"^crawler\.web-3\.[a-z_]+$"#)
    }

    @Test(
        arguments: [
            ("crawler", "web-3", "crawler", "web-3", true), ("crawler", "web-3", "crawler", "web-33", false),
            ("crawler", "web-3", "crawler", "xweb-3", false), ("crawler", "web-3", "crawlers", "web-3", false),
            ("a.b", "c.d/1", "a.b", "c.d/1", true), ("a.b", "c.d/1", "axb", "c.d/1", false),
            ("a", "h/*", "a", "h/4711", true), ("a", "h/*", "a", "h2/4711", false), ("a", nil, "a", "h/1", true),
            ("a", nil, "b", "h/1", false), ("a+", "(x|y)", "a+", "(x|y)", true), ("a+", "(x|y)", "aa", "x", false),
            ("dienst", "größe", "dienst", "größe", true),
        ] as [(String, String?, String, String, Bool)])
    func onlyItsOwnKeysMatch(service: String, instance: String?, sender: String, name: String, isOwn: Bool) throws {
        for state in ReportState.allCases {
            let report = Report(
                request: nil, service: sender, instance: name, sequence: 1, state: state, at: Date())
            #expect(try matches(rights(service, instance).statusKeys, report.routingKey) == isOwn)
        }
    }

    @Test func aQueueIsNamedAfterTheHost() throws {
        let rights = rights("crawler", "web-3/*", .queue)
        #expect(try matches(rights.configure, "reload.agent.crawler.web-3"))
        #expect(try !matches(rights.configure, "reload.agent.crawler.web-33"))
        #expect(try matches(rights.read, "reload.control"))
        #expect(try !matches(rights.write, "reload.control"))
    }

    /// The names of services and instances both hold dots, and the queue's name puts another between them.
    @Test func theQueuesOfAServiceWithALongerNameAreNotItsOwn() throws {
        let other = "reload.agent.crawler.eu.web-3"
        for (instance, own) in [(nil, "web-3"), ("*", "web-3"), ("*.example.com/*", "web-3.example.com")] {
            let expression = rights("crawler", instance, .queue).configure
            #expect(try matches(expression, "reload.agent.crawler.\(own)"))
            #expect(try !matches(expression, other) && !matches(expression, other + ".example.com"))
        }
    }

    @Test func wordsAreQuoted() {
        let lines = Rights(publisherOn: Topology()).lines(user: "o'ps", vhost: "a b")
        #expect(lines.map(\.command.first) == ["rabbitmqctl", "rabbitmqctl"])
        #expect(
            lines[0].text
                == #"rabbitmqctl set_permissions -p 'a b' 'o'\''ps' '^$' '^(reload\.control|reload\.status)$' "#
                + #"'^(reload\.journal|reload\.reports)$'"#)
    }

    @Test(
        arguments: [
            ("amqp://u:pass@h", "pass"), ("--broker=amqps://u:p@ss:w@h/?x=y", "p@ss:w"), ("amqp://u@h:1", nil),
            ("amqp://h:5672", nil), ("amqp://u:@h", nil), ("walt:p@h", nil), ("", nil),
        ] as [(String, String?)])
    func findsThePassword(word: String, password: String?) {
        let bytes = Array(word.utf8)
        let found = ProcessArguments.password(in: bytes).map { String(decoding: bytes[$0], as: UTF8.self) }
        #expect(found == password)
    }
}
