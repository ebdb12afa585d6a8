// swift-tools-version: 6.2
import PackageDescription

// Loaded by the agents while they run, never linked.
let plugins = ["EmptyPluginA", "EmptyPluginB", "SwiftPlugin"]

let package = Package(
    name: "benchmarks",
    products: plugins.map { .library(name: $0, type: .dynamic, targets: [$0]) },
    dependencies: [
        .package(name: "swift-reload-agent", path: "..", traits: []),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CLibrabbitmq",
            pkgConfig: "librabbitmq",
            providers: [.apt(["librabbitmq-dev"]), .yum(["librabbitmq-devel"])]
        ),
        .target(
            name: "CBench",
            dependencies: ["CLibrabbitmq", .product(name: "CReloadPlugin", package: "swift-reload-agent")]
        ),
        .executableTarget(
            name: "bench",
            dependencies: ["CBench", .product(name: "ArgumentParser", package: "swift-argument-parser")]
        ),
        .executableTarget(
            name: "bench-agent",
            dependencies: [
                "CBench",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Reloading", package: "swift-reload-agent"),
            ]
        ),
        .executableTarget(
            name: "hot-path",
            dependencies: [
                "CBench",
                .product(name: "CReloadPlugin", package: "swift-reload-agent"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Reloading", package: "swift-reload-agent"),
            ]
        ),
        .emptyPlugin("EmptyPluginA"),
        .emptyPlugin("EmptyPluginB"),
        .target(
            name: "SwiftPlugin",
            dependencies: [
                .product(name: "CReloadPlugin", package: "swift-reload-agent"),
                .product(name: "ReloadPlugin", package: "swift-reload-agent"),
            ],
            path: "Plugins/SwiftPlugin"
        ),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu11
)

extension Target {
    static func emptyPlugin(_ name: String) -> Target {
        .target(
            name: name,
            dependencies: [.product(name: "CReloadPlugin", package: "swift-reload-agent")],
            path: "Plugins/\(name)",
            publicHeadersPath: "."
        )
    }
}

let cTargets: Set = ["CBench", "EmptyPluginA", "EmptyPluginB"]
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
