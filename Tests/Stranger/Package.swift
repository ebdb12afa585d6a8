// swift-tools-version: 6.2
import PackageDescription

// A package of somebody else, which has the two public products that are for programs beside a service: scripts/test runs it.
let package = Package(
    name: "stranger",
    dependencies: [.package(name: "swift-reload-agent", path: "../..", traits: [])],
    targets: [
        .executableTarget(
            name: "stranger",
            dependencies: [
                .product(name: "ReloadFleet", package: "swift-reload-agent"),
                .product(name: "ReloadProtocol", package: "swift-reload-agent"),
            ]
        )
    ],
    swiftLanguageModes: [.v6]
)

for target in package.targets {
    target.swiftSettings = [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .strictMemorySafety(),
        .treatAllWarnings(as: .error),
    ]
}
