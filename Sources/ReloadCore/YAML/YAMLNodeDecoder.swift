internal import CReloadYAML

/// Decodes one node of a tree.
struct YAMLNodeDecoder: Decoder, SingleValueDecodingContainer {
    let reading: YAMLReading
    let node: Int
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy _: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard reading.tree[node].kind == creload_yaml_mapping else {
            throw reading.mismatch([String: Any].self, wanted: "a mapping", at: node, codingPath)
        }
        return KeyedDecodingContainer(
            KeyedContainer(reading: reading, entries: reading.entries(node), codingPath: codingPath))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard reading.tree[node].kind == creload_yaml_sequence else {
            throw reading.mismatch([Any].self, wanted: "a list", at: node, codingPath)
        }
        let nodes = reading.tree.children(node).map(reading.tree.meant)
        return UnkeyedContainer(reading: reading, nodes: nodes, codingPath: codingPath)
    }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    func decodeNil() -> Bool { reading.tree.isNull(node) }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try reading.value(type, at: node, path: codingPath)
    }
}

private struct KeyedContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let reading: YAMLReading
    let entries: YAMLReading.Entries
    let codingPath: [any CodingKey]

    /// Who asks for all of them knows them.
    var allKeys: [Key] {
        entries.all.compactMap { entry in
            let text = reading.text(ofKey: entry.key)
            _ = reading.value(of: text, in: entries)
            return Key(stringValue: text)
        }
    }

    func contains(_ key: Key) -> Bool { reading.value(of: key.stringValue, in: entries) != nil }

    private func node(_ key: any CodingKey) throws -> Int {
        if let node = reading.value(of: key.stringValue, in: entries) { return node }
        throw DecodingError.keyNotFound(
            key, DecodingError.Context(codingPath: codingPath, debugDescription: "missing"))
    }

    private func decoder(_ key: any CodingKey) throws -> YAMLNodeDecoder {
        YAMLNodeDecoder(reading: reading, node: try node(key), codingPath: codingPath + [key])
    }

    func decodeNil(forKey key: Key) throws -> Bool { reading.tree.isNull(try node(key)) }

    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        try reading.value(type, at: try node(key), path: codingPath + [key])
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> {
        try decoder(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try decoder(key).unkeyedContainer()
    }

    func superDecoder() throws -> any Decoder { try decoder(Place.super) }
    func superDecoder(forKey key: Key) throws -> any Decoder { try decoder(key) }
}

private struct UnkeyedContainer: UnkeyedDecodingContainer {
    let reading: YAMLReading
    let nodes: [Int]
    let codingPath: [any CodingKey]
    private(set) var currentIndex = 0

    init(reading: YAMLReading, nodes: [Int], codingPath: [any CodingKey]) {
        (self.reading, self.nodes, self.codingPath) = (reading, nodes, codingPath)
    }

    var count: Int? { nodes.count }
    var isAtEnd: Bool { currentIndex == nodes.count }

    private var path: [any CodingKey] { codingPath + [Place.index(currentIndex)] }

    /// The node that comes next; who has read it goes on behind it.
    private func next(_ type: Any.Type) throws -> Int {
        guard !isAtEnd else {
            throw DecodingError.valueNotFound(
                type,
                DecodingError.Context(codingPath: path, debugDescription: "missing: the list has \(nodes.count) values")
            )
        }
        return nodes[currentIndex]
    }

    private func decoder(_ type: Any.Type) throws -> YAMLNodeDecoder {
        YAMLNodeDecoder(reading: reading, node: try next(type), codingPath: path)
    }

    mutating func decodeNil() throws -> Bool {
        let isNil = reading.tree.isNull(try next(Never.self))
        currentIndex += isNil ? 1 : 0
        return isNil
    }

    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        let value = try reading.value(type, at: try next(type), path: path)
        currentIndex += 1
        return value
    }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> {
        let container = try decoder(KeyedDecodingContainer<Nested>.self).container(keyedBy: type)
        currentIndex += 1
        return container
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
        let container = try decoder((any UnkeyedDecodingContainer).self).unkeyedContainer()
        currentIndex += 1
        return container
    }

    mutating func superDecoder() throws -> any Decoder {
        let decoder = try decoder((any Decoder).self)
        currentIndex += 1
        return decoder
    }
}

/// A place that no type has a key for.
private enum Place: CodingKey {
    case index(Int)
    case `super`

    init?(stringValue _: String) { nil }
    init?(intValue: Int) { self = .index(intValue) }

    var intValue: Int? { if case .index(let index) = self { index } else { nil } }
    var stringValue: String { if case .index(let index) = self { "\(index)" } else { "super" } }
}
