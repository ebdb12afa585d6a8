#if ServiceLifecycle
    import Logging
    import ReloadCore
    import ReloadProtocol
    import Reloading
    import ServiceLifecycle
    import Testing

    extension EndToEnd.OneBroker {
        /// An agent as one of several services of a process, with the package trait `ServiceLifecycle`.
        @Suite struct ServiceGroupTests {
            @Test func aServiceGroupRunsAndStopsTheAgent() async throws {
                try await World.run { world in
                    var settings = ReloadAgent.Settings(service: world.service)
                    settings.instance = "one"
                    settings.broker = world.broker.url
                    settings.stateDirectory = world.folder + "/state"
                    let logger = Logger(label: "group") { _ in SwiftLogNoOpLogHandler() }
                    let agent = try ReloadAgent(settings, logger: logger)
                    _ = try agent.config("rules", file: try world.write("depth: 1", to: "rules.yaml"), as: Rules.self)
                    let service = world.service
                    let group = ServiceGroup(services: [agent], logger: logger)
                    let running = Task { try await group.run() }
                    _ = try await Wire(broker: world.broker).report {
                        $0.service == service && $0.state == .offline ? true : nil
                    } after: {
                        while try await world.publish("rules", "--revision", "1").objects.last?["applied"]?.array?.count
                            != 1
                        {}
                        await group.triggerGracefulShutdown()
                    }
                    try await running.value
                }
            }
        }
    }

    private struct Rules: Decodable {
        var depth: Int
    }
#endif
