internal import Foundation

/// A message as `reloadctl` would publish it, or as the peers understand it.
struct Request {
    let id = UUID().uuidString
    /// Also in the header `x-reload-destination`; nil for a peer.
    var destination: String?
    var body: [UInt8]

    private init(destination: String?, _ json: String) {
        self.destination = destination
        body = Array(json.utf8)
    }

    /// A config of ordinary size, with its revision in it.
    static func config(_ module: String, revision: Int, for destination: String) -> Request {
        let inline = Data(Self.rules(revision).utf8).base64EncodedString()
        return apply(module, kind: "config", revision, artifact: #""inline":"\#(inline)""#, for: destination)
    }

    /// - Parameter operation: `validate` does everything but the swap.
    static func plugin(
        _ module: String, path: String, revision: Int, for destination: String, operation: String = "apply"
    ) -> Request {
        apply(
            module, kind: "plugin", revision, artifact: #""path":"\#(path)""#, for: destination, operation: operation)
    }

    /// About 120 bytes for somebody else.
    static func other() -> Request {
        Request(
            destination: "other:*",
            #"{"protocol":"reload.request.v1","operation":"apply","destination":"other:*","#
                + #""modules":[{"name":"m","kind":"config","revision":1}]}"#)
    }

    /// The source article's message: the module in this folder is to be reloaded.
    static func article(_ module: String, folder: String) -> Request {
        Request(
            destination: nil, #"{"model_path":"\#(module)","is_append_path":true,"physical_path":"\#(folder)"}"#)
    }

    private static func apply(
        _ module: String, kind: String, _ revision: Int, artifact: String, for destination: String,
        operation: String = "apply"
    ) -> Request {
        Request(
            destination: destination,
            #"{"protocol":"reload.request.v1","operation":"\#(operation)","origin":"bench","#
                + #""destination":"\#(destination)","#
                + #""modules":[{"name":"\#(module)","kind":"\#(kind)","revision":\#(revision),\#(artifact)}]}"#)
    }

    /// What a config file holds.
    static func rules(_ revision: Int) -> String {
        """
        revision: \(revision)
        depth: 7
        agent: crawler/1.0 (+https://example.org/bot)
        hosts: [a.example, b.example, c.example, d.example]

        """
    }
}
