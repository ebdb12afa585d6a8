// swift-tools-version: 6.2
import PackageDescription

// The parsers are plugins: each is a dynamic library that the crawler loads while it runs and never links.
let plugins = [
    "CParserV1", "CParserV2", "CParserBroken", "NotAPlugin", "SwiftParserV1", "SwiftParserV2", "SwiftParserBroken",
]

let package = Package(
    name: "crawler",
    products: [.executable(name: "crawler", targets: ["crawler"])]
        + plugins.map { .library(name: $0, type: .dynamic, targets: [$0]) },
    dependencies: [
        // Without the traits that are on by default: the crawler is no Service of swift-service-lifecycle.
        .package(name: "swift-reload-agent", path: "../..", traits: []),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: [
        .executableTarget(
            name: "crawler",
            dependencies: [
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Reloading", package: "swift-reload-agent"),
            ]
        ),
        .systemLibrary(
            name: "CLibXML2",
            path: "Plugins/CLibXML2",
            pkgConfig: "libxml-2.0",
            providers: [.apt(["libxml2-dev"]), .yum(["libxml2-devel"])]
        ),
        .cParser("CParserV1"),
        .cParser("CParserV2"),
        .cParser("CParserBroken"),
        .target(name: "NotAPlugin", path: "Plugins/NotAPlugin", publicHeadersPath: "."),
        .target(
            name: "SwiftParser",
            dependencies: [.product(name: "ReloadPlugin", package: "swift-reload-agent")],
            path: "Plugins/SwiftParser"
        ),
        .swiftParser("SwiftParserV1"),
        .swiftParser("SwiftParserV2"),
        .swiftParser("SwiftParserBroken"),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu11
)

extension Target {
    static func cParser(_ name: String) -> Target {
        .target(
            name: name,
            dependencies: ["CLibXML2", .product(name: "CReloadPlugin", package: "swift-reload-agent")],
            path: "Plugins/\(name)",
            publicHeadersPath: "."
        )
    }

    static func swiftParser(_ name: String) -> Target {
        .target(
            name: name,
            dependencies: [
                "SwiftParser",
                .product(name: "CReloadPlugin", package: "swift-reload-agent"),
                .product(name: "ReloadPlugin", package: "swift-reload-agent"),
            ],
            path: "Plugins/\(name)"
        )
    }
}

let cTargets: Set = ["CParserV1", "CParserV2", "CParserBroken", "NotAPlugin"]
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
