internal import CReloadYAML

/// The tree of a YAML text. Nodes are numbers; the root is 0.
@safe final class YAMLTree {
    /// Where something stands, from 1; the line is 0 for what is nowhere in particular.
    struct Place: CustomStringConvertible {
        var line, column: Int
        var description: String { column > 0 ? "line \(line), column \(column)" : "line \(line)" }
    }

    /// What is wrong with a text that makes no tree. It quotes nothing of the text.
    struct Problem: Error, CustomStringConvertible {
        var text: String
        var place: Place
        var description: String { place.line > 0 ? "\(text) (\(place))" : text }
    }

    private let document: UnsafeMutablePointer<creload_yaml_document>

    /// Reads a text; see `creload_yaml_read()` for what is not taken.
    init(_ bytes: [UInt8]) throws(Problem) {
        guard let document = unsafe creload_yaml_read(bytes, bytes.count) else {
            throw Problem(text: "there is no memory to read it", place: Place(line: 0, column: 0))
        }
        unsafe self.document = unsafe document
        if let problem = unsafe document.pointee.problem {
            let place = unsafe Place(line: document.pointee.line, column: document.pointee.column)
            let text = unsafe String(cString: problem)
            throw unsafe Problem(text: document.pointee.is_syntax ? "it is not YAML: \(text)" : text, place: place)
        }
    }

    deinit { unsafe creload_yaml_free(document) }

    /// How many nodes there are.
    var count: Int { unsafe document.pointee.count }

    subscript(node: Int) -> creload_yaml_node {
        precondition(node < count)
        return unsafe document.pointee.nodes[node]
    }

    /// The bytes of a scalar.
    private func bytes(_ node: creload_yaml_node) -> UnsafeBufferPointer<UInt8> {
        unsafe UnsafeBufferPointer(start: document.pointee.text + Int(node.text), count: Int(node.length))
    }

    /// What a scalar says.
    func text(_ node: Int) -> String { unsafe String(decoding: bytes(self[node]), as: UTF8.self) }

    /// Whether a scalar says this.
    func says(_ text: String.UTF8View, _ node: Int) -> Bool {
        let scalar = self[node]
        return text.count == scalar.length && (unsafe text.elementsEqual(bytes(scalar)))
    }

    /// What an alias stands for, else the node itself.
    func meant(_ node: Int) -> Int {
        let it = self[node]
        return it.kind == creload_yaml_alias ? Int(it.end) : node
    }

    /// The children of a sequence, or of a mapping keys and values in turn.
    func children(_ node: Int) -> [Int] {
        let end = Int(self[node].end)
        var children: [Int] = []
        var child = node + 1
        while child < end {
            children.append(child)
            child = behind(child)
        }
        return children
    }

    /// The node behind this one and all that is in it.
    private func behind(_ node: Int) -> Int {
        let it = self[node]
        return it.kind == creload_yaml_sequence || it.kind == creload_yaml_mapping ? Int(it.end) : node + 1
    }

    func place(_ node: Int) -> Place { Place(line: Int(self[node].line), column: Int(self[node].column)) }

    /// Nothing: `~`, `null`, or no text at all.
    func isNull(_ node: Int) -> Bool {
        let it = self[node]
        guard it.kind == creload_yaml_scalar, it.is_plain, it.tag != creload_yaml_tag_text else { return false }
        return switch it.length {
        case 0: true
        case 1: says("~".utf8, node)
        case 4: says("null".utf8, node) || says("Null".utf8, node) || says("NULL".utf8, node)
        default: false
        }
    }
}
