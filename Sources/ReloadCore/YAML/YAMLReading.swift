internal import CReloadYAML
internal import ReloadProtocol

/// One decoding of a tree: it finds what a type asks for, and remembers what it did not ask for.
final class YAMLReading {
    /// The entries of a mapping, those that `<<` brings included.
    struct Entries {
        /// The child that is the key, and the value.
        fileprivate(set) var all: [(key: Int, value: Int)] = []
        /// Places in ``all`` by the text of the key, once there are many.
        fileprivate var places: [String: Int] = [:]
    }

    let tree: YAMLTree
    /// For each key of a mapping that a type has looked into: whether it has asked for it. nil for all other nodes.
    private var isAsked: [Bool?]

    init(_ tree: YAMLTree) {
        self.tree = tree
        isAsked = Array(repeating: nil, count: tree.count)
    }

    // MARK: Values

    /// The value of a node that is no alias.
    func value<Value: Decodable>(
        _: Value.Type, at node: Int, path: @autoclosure () -> [any CodingKey]
    ) throws -> Value {
        if let type = Value.self as? any YAMLScalar.Type, let value = try scalar(type, at: node, path()) as? Value {
            return value
        }
        return try Value(from: YAMLNodeDecoder(reading: self, node: node, codingPath: path()))
    }

    private func scalar<Value: YAMLScalar>(
        _: Value.Type, at node: Int, _ path: @autoclosure () -> [any CodingKey]
    ) throws -> Value {
        let it = tree[node]
        if it.kind == creload_yaml_scalar, Value.takesText || (it.is_plain && it.tag != creload_yaml_tag_text),
            let value = Value(yaml: tree.text(node))
        {
            return value
        }
        throw mismatch(Value.self, wanted: Value.wanted, at: node, path())
    }

    func mismatch(_ type: Any.Type, wanted: String, at node: Int, _ path: [any CodingKey]) -> DecodingError {
        let context = DecodingError.Context(
            codingPath: path, debugDescription: "expected \(wanted), found \(found(node, insteadOf: type))")
        return tree.isNull(node) ? .valueNotFound(type, context) : .typeMismatch(type, context)
    }

    /// What a node is, for people, where a value of this type is wanted.
    private func found(_ node: Int, insteadOf type: Any.Type) -> String {
        let it = tree[node]
        switch it.kind {
        case creload_yaml_sequence: return "a list"
        case creload_yaml_mapping: return "a mapping"
        default: break
        }
        if tree.isNull(node) { return "nothing" }
        guard it.is_plain, it.tag != creload_yaml_tag_text else { return "text" }
        let text = tree.text(node)
        if YAMLNumber.hasZeroInFront(text) { return "a number with a 0 in front; octal is written 0o17" }
        if YAMLNumber.whole(text) != nil {
            return type is any FixedWidthInteger.Type ? "one that does not fit" : "a whole number"
        }
        if YAMLNumber.decimal(text) != nil {
            return type is any BinaryFloatingPoint.Type
                ? "one that does not fit" : "a number with a point or an exponent"
        }
        return Bool(yaml: text) == nil ? "text" : "true or false"
    }

    // MARK: Mappings

    func entries(_ mapping: Int) -> Entries {
        var entries = Entries()
        add(mapping, to: &entries, isMerged: false)
        return entries
    }

    /// Of two with one key the first counts: a mapping's own, then those of the mappings it merges, in their order.
    private func add(_ mapping: Int, to entries: inout Entries, isMerged: Bool) {
        let children = tree.children(mapping)
        var merged: [Int] = []
        for index in stride(from: 0, to: children.count, by: 2) {
            let (key, value) = (children[index], tree.meant(children[index + 1]))
            if tree[key].is_merge {
                merged += tree[value].kind == creload_yaml_mapping ? [value] : tree.children(value).map(tree.meant)
            } else if isMerged, find(text(ofKey: key), in: entries) != nil {
                isAsked[key] = true
            } else {
                append(key, value, to: &entries)
                // A value that an alias stands for has its use, although nobody asks for it here.
                if isAsked[key] == nil { isAsked[key] = tree[children[index + 1]].is_used }
            }
        }
        for mapping in merged { add(mapping, to: &entries, isMerged: true) }
    }

    private func append(_ key: Int, _ value: Int, to entries: inout Entries) {
        entries.all.append((key, value))
        if entries.all.count > 17 {
            entries.places[text(ofKey: key)] = entries.all.count - 1
        } else if entries.all.count == 17 {
            for (place, entry) in entries.all.enumerated() { entries.places[text(ofKey: entry.key)] = place }
        }
    }

    func text(ofKey key: Int) -> String { tree.text(tree.meant(key)) }

    private func find(_ text: String, in entries: Entries) -> (key: Int, value: Int)? {
        if let place = entries.places[text] { return entries.all[place] }
        guard entries.places.isEmpty else { return nil }
        return entries.all.first { tree.says(text.utf8, tree.meant($0.key)) }
    }

    /// The value of a key that a type asks for.
    func value(of text: String, in entries: Entries) -> Int? {
        guard let entry = find(text, in: entries) else { return nil }
        isAsked[entry.key] = true
        return entry.value
    }

    /// The keys that no type asked for: the first five with their paths and lines, and how many more.
    var unknownKeys: String {
        let unknown = isAsked.indices.filter { isAsked[$0] == false }
        let shown = unknown.prefix(5).map { "\(path(ofKey: $0).excerpt) (line \(tree.place($0).line))" }
        return shown.joined(separator: ", ") + (unknown.count > 5 ? ", and \(unknown.count - 5) more" : "")
    }

    // MARK: Places

    private func path(ofKey node: Int) -> String {
        var path = ""
        var parent = 0
        while parent < node {
            let children = tree.children(parent)
            guard let index = children.lastIndex(where: { $0 <= node }) else { break }
            if tree[parent].kind == creload_yaml_sequence {
                path += "[\(index)]"
            } else {
                path += (path.isEmpty ? "" : ".") + text(ofKey: children[index & ~1])
            }
            parent = children[index]
        }
        return path
    }

    /// The node that a coding path leads to, or as far as it leads.
    func node(at path: [any CodingKey]) -> Int {
        var node = 0
        for key in path {
            switch tree[node].kind {
            case creload_yaml_mapping:
                guard let entry = find(key.stringValue, in: entries(node)) else { return node }
                node = entry.value
            case creload_yaml_sequence:
                let children = tree.children(node)
                guard let index = key.intValue, children.indices.contains(index) else { return node }
                node = tree.meant(children[index])
            default: return node
            }
        }
        return node
    }
}
