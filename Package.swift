// swift-tools-version: 6.2
import PackageDescription

let serviceLifecycle = Target.Dependency.product(
    name: "ServiceLifecycle", package: "swift-service-lifecycle", condition: .when(traits: ["ServiceLifecycle"]))

let package = Package(
    name: "swift-reload-agent",
    products: [
        .library(name: "Reloading", targets: ["Reloading"]),
        .library(name: "ReloadProtocol", targets: ["ReloadProtocol"]),
        .library(name: "ReloadFleet", targets: ["ReloadFleet"]),
        .library(name: "ReloadPlugin", targets: ["ReloadPlugin"]),
        .library(name: "CReloadPlugin", targets: ["CReloadPlugin"]),
        .executable(name: "reloadctl", targets: ["reloadctl"]),
    ],
    traits: [
        .default(enabledTraits: ["ServiceLifecycle"]),
        .trait(name: "FaultPoints", description: "Places where the tests can end the process; nothing for a service."),
        .trait(name: "ServiceLifecycle", description: "An agent is a Service of swift-service-lifecycle."),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.5.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.6.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CRabbitMQ",
            pkgConfig: "librabbitmq",
            providers: [.apt(["librabbitmq-dev"]), .yum(["librabbitmq-devel"])]
        ),
        // OpenSSL is librabbitmq's own, and loaded with it in any case: for TLS, digests and signatures.
        .target(
            name: "CReloadAMQP", dependencies: ["CRabbitMQ"],
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]
        ),
        .target(name: "CReloadCrypto", linkerSettings: [.linkedLibrary("crypto")]),
        .target(name: "CReloadGuard"),
        .target(name: "CReloadPlugin"),
        .target(name: "CReloadTrial", dependencies: ["CReloadPlugin"]),
        .systemLibrary(
            name: "CLibYAML",
            pkgConfig: "yaml-0.1",
            providers: [.apt(["libyaml-dev"]), .yum(["libyaml-devel"])]
        ),
        .target(name: "CReloadYAML", dependencies: ["CLibYAML"]),
        .target(name: "ReloadPlugin", dependencies: ["CReloadPlugin"]),
        .target(name: "ReloadProtocol", dependencies: ["CReloadCrypto"]),
        .target(
            name: "ReloadCore",
            dependencies: [
                "CReloadGuard", "CReloadTrial", "CReloadPlugin", "CReloadYAML", "ReloadProtocol",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
            ]
        ),
        .target(
            name: "ReloadAMQP",
            dependencies: [
                "CReloadAMQP", "ReloadProtocol",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
            ]
        ),
        .target(
            name: "Reloading",
            dependencies: [
                "ReloadAMQP", "ReloadCore", "ReloadProtocol",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                serviceLifecycle,
            ]
        ),
        .target(
            name: "ReloadFleet",
            dependencies: ["ReloadAMQP", "ReloadProtocol"]
        ),
        .executableTarget(
            name: "reloadctl",
            dependencies: [
                "ReloadAMQP", "ReloadFleet", "ReloadProtocol",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]
        ),
        .testTarget(
            name: "ReloadCoreTests",
            dependencies: [
                "CReloadGuard", "ReloadCore", "ReloadProtocol", "crypto-exit", "guard-litmus",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
            ],
            exclude: ["Fixtures"]
        ),
        .testTarget(name: "FaceTests", dependencies: ["Reloading"]),
        .testTarget(
            name: "ReloadAMQPTests",
            dependencies: [
                "ReloadAMQP", "ReloadProtocol",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
            ]
        ),
        .testTarget(
            name: "reloadctlTests",
            dependencies: [
                "reloadctl", "ReloadFleet", "ReloadProtocol",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]
        ),
        .executableTarget(
            name: "crypto-exit", dependencies: ["CReloadCrypto"], path: "Tests/CryptoExit",
            linkerSettings: [.linkedLibrary("ssl")]
        ),
        .executableTarget(name: "guard-litmus", dependencies: ["CReloadGuard"], path: "Tests/GuardLitmus"),
        .executableTarget(
            name: "test-agent",
            dependencies: ["Reloading", .product(name: "Logging", package: "swift-log")],
            path: "Tests/TestAgent"
        ),
        .testTarget(
            name: "EndToEndTests",
            dependencies: [
                "ReloadAMQP", "ReloadCore", "ReloadFleet", "ReloadProtocol", "Reloading", "test-agent",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                serviceLifecycle,
            ],
            exclude: ["Foreign"]
        ),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu11
)

let cTargets: Set = [
    "CReloadAMQP", "CReloadCrypto", "CReloadGuard", "CReloadPlugin", "CReloadTrial", "CReloadYAML", "crypto-exit",
    "guard-litmus",
]
for target in package.targets where target.type != .system && !cTargets.contains(target.name) {
    target.swiftSettings = [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .strictMemorySafety(),
        .treatAllWarnings(as: .error),
    ]
}
