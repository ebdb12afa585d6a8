import Foundation
import Reloading
import Testing

/// What a service can do with `import Reloading` and nothing else of ours: catch each public throw, name its error and look into
/// it. That it compiles is most of the proof: members of modules that are not imported are not visible here.
@Suite(.timeLimit(.minutes(5))) final class FaceTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("reload-\(UUID().uuidString)")

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func agent(_ change: (inout ReloadAgent.Settings) -> Void = { _ in }) throws -> ReloadAgent {
        var settings = ReloadAgent.Settings(service: "face")
        settings.broker = "amqp://127.0.0.1:1"
        settings.stateDirectory = folder.appendingPathComponent(UUID().uuidString).path
        change(&settings)
        return try ReloadAgent(settings)
    }

    @Test func aBrokerThatIsNone() throws {
        do {
            _ = try agent { $0.broker = "http://example.com" }
            Issue.record("a broker's URL was taken that is none")
        } catch let error as ReloadError {
            let code: ReloadCode = error.code
            #expect(code == .brokerBadURL && code.area == "broker" && code.rawValue == "broker.bad_url")
            #expect(error.description.hasPrefix("broker.bad_url: ") && !error.message.isEmpty)
            let failure: BrokerFailure? = error.broker
            #expect(failure?.replyCode == nil && failure?.libraryCode == nil && failure?.replyText == nil)
        }
    }

    @Test func keysThatAreNotThere() throws {
        do {
            _ = try agent { $0.trustedKeys = "/nowhere" }
            Issue.record("keys were taken that are not there")
        } catch let error as ReloadError {
            #expect(error.code == .keysUnusable && error.code.area == "keys")
        }
    }

    @Test func aConfigAndAPluginThatAreNotThere() throws {
        let agent = try agent()
        do throws(ReloadError) {
            _ = try agent.config("face.rules", file: "/nowhere.yaml", as: [String: Int].self)
            Issue.record("a config was taken that is not there")
        } catch {
            #expect(error.code == .artifactMissing && error.underlying == nil)
        }
        do throws(ReloadError) {
            _ = try agent.plugin("face.plugin", file: "/nowhere.so")
            Issue.record("a plugin was taken that is not there")
        } catch {
            #expect(error.code == .artifactMissing)
        }
    }

    @Test func aHandlerAndItsArtifact() throws {
        let handle: HandlerHandle = try agent().handler("face.handler", file: "/nowhere") {
            (artifact: HandlerArtifact) in
            _ = (artifact.path, artifact.digest, artifact.revision, artifact.version)
            return {}
        }
        let status: ModuleStatus = handle.status
        #expect(status.revision == 0 && status.digest == nil && status.version == nil)
    }

    /// The errors of calls cannot be had without a plugin: what a service does with one.
    private func call(_ parser: PluginHandle) -> Int32? {
        do throws(ReloadError) {
            var output: [UInt8] = []
            _ = try parser.call([1])
            try parser.call([1].span, into: &output)
            _ = try parser.pinned.call([1])
            return nil
        } catch {
            let failure: PluginCallFailure? = error.pluginCall
            return error.code == .pluginCallFailed ? failure?.status : nil
        }
    }

    private func start(_ agent: ReloadAgent) -> ReloadCode? {
        do throws(ReloadError) {
            try agent.start()
            return nil
        } catch {
            return error.code
        }
    }

    @Test func startingIsTyped() throws {
        let agent = try agent()
        defer { agent.stop() }
        #expect(start(agent) == nil)
    }
}
