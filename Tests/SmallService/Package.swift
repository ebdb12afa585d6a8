// swift-tools-version: 6.2
import PackageDescription

// What a service weighs that has the agent and nothing else: see scripts/check-weight.
let package = Package(
    name: "small-service",
    dependencies: [.package(name: "swift-reload-agent", path: "../..", traits: [])],
    targets: [
        .executableTarget(
            name: "small-service",
            dependencies: [.product(name: "Reloading", package: "swift-reload-agent")],
            swiftSettings: [
                .enableUpcomingFeature("ExistentialAny"),
                .enableUpcomingFeature("InternalImportsByDefault"),
                .enableUpcomingFeature("MemberImportVisibility"),
                .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
                .strictMemorySafety(),
                .treatAllWarnings(as: .error),
            ]
        )
    ],
    swiftLanguageModes: [.v6]
)
