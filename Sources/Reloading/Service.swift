#if ServiceLifecycle
    internal import Dispatch
    public import ServiceLifecycle

    /// With the package trait `ServiceLifecycle`, which is on unless the service's manifest says otherwise.
    extension ReloadAgent: Service {
        /// Runs until the service group shuts down; see `ServiceLifecycle`.
        public func run() async throws {
            try start()
            // Also returns when the task is cancelled: then it stops just the same.
            try? await gracefulShutdown()
            await withCheckedContinuation { continuation in
                // It waits, which a thread of the concurrency runtime must not.
                DispatchQueue(label: "reload-agent.stop").async {
                    self.stop()
                    continuation.resume()
                }
            }
        }
    }
#endif
