internal import ReloadProtocol

/// Reads YAML into a service's own types.
enum YAML {
    /// A value, and what stands in the text that the type has no place for.
    struct Decoded<Value> {
        var value: Value
        /// The keys that the type did not ask for, as an operator reads them: `sites[2].dpeth (line 7)`; empty if there is none.
        var unknownKeys: String
    }

    /// Decodes a text.
    ///
    /// - Throws: an error with this code. Its message names the coding path, what is wanted, what is there, line and column.
    static func decode<Value: Decodable>(
        _: Value.Type = Value.self, from bytes: [UInt8], orThrow code: ReloadCode
    ) throws(ReloadError) -> Decoded<Value> {
        let tree: YAMLTree
        do throws(YAMLTree.Problem) { tree = try YAMLTree(bytes) } catch {
            throw ReloadError(code, error.description, underlying: error)
        }
        let reading = YAMLReading(tree)
        do {
            let value = try reading.value(Value.self, at: 0, path: [])
            return Decoded(value: value, unknownKeys: reading.unknownKeys)
        } catch let error as DecodingError {
            let place = tree.place(reading.node(at: error.context?.codingPath ?? []))
            throw ReloadError(code, "\(error.pathAndReason) (\(place))", underlying: error)
        } catch {
            throw ReloadError(code, "\(error)".excerpt, underlying: error)
        }
    }
}
