/// The version of this project.
enum Version {
    /// By Semantic Versioning; CHANGELOG.md has the same.
    static let current = "0.1.0"
}
