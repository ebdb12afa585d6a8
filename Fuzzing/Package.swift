// swift-tools-version: 6.2
import PackageDescription

// Built by scripts/fuzz, which adds the sanitizers: without them it does not link. See README.md.
let package = Package(
    name: "fuzzing",
    dependencies: [.package(name: "swift-reload-agent", path: "..", traits: [])],
    targets: [
        .target(name: "CLibFuzzer"),
        .executableTarget(
            name: "fuzz",
            dependencies: ["CLibFuzzer", .product(name: "Reloading", package: "swift-reload-agent")]
        ),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu11
)

for target in package.targets where target.name == "fuzz" {
    target.swiftSettings = [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .strictMemorySafety(),
        .treatAllWarnings(as: .error),
    ]
}
