import Foundation
import ReloadCore
import ReloadProtocol

/// Small plugins in C, compiled by the test that wants them.
enum PluginSource {
    static let include = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../../Sources/CReloadPlugin/include").standardizedFileURL.path

    /// A plugin that answers each call with its version, and what a test changes of it.
    ///
    /// - Parameters:
    ///   - selfTest: The body of `self_test`.
    ///   - top: Code before the table.
    ///   - major: The ABI it claims.
    ///   - destroyed: File that `destroy` adds the version to.
    ///   - schema: Number of its state's format; the state is one counter that every call raises.
    ///   - create: Code at the beginning of `create`; so are `snapshot` and `restore` for the state.
    static func good(
        version: String, selfTest: String = "return RELOAD_OK;", top: String = "", major: Int = 1, schema: Int = 0,
        call: String = "", destroyed: String = "", create: String = "", snapshot: String = "", restore: String = ""
    ) -> String {
        """
        #define _GNU_SOURCE
        #include "CReloadPlugin.h"
        #include <signal.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        \(top)
        static uint64_t counter;
        static int32_t say(const reload_sink *sink, const char *text) {
            return sink->write(sink->context, (const uint8_t *)text, strlen(text));
        }
        static int32_t create(void **instance, const reload_sink *error) { \(create) return RELOAD_OK; }
        static int32_t call(void *instance, uint32_t operation, reload_slice in, const reload_sink *out) {
            __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);
            \(call)
            if (operation == 9) { say(out, "nine is not my number"); return 77; }
            if (operation == 2) return out->write(out->context, in.bytes, in.count);
            return say(out, "\(version)");
        }
        static int32_t self_test(void *instance, const reload_sink *error) { \(selfTest) }
        static int32_t snapshot_state(void *instance, const reload_sink *out) {
            \(snapshot)
            return out->write(out->context, (const uint8_t *)&counter, sizeof counter);
        }
        static int32_t restore_state(void *instance, uint32_t schema, reload_slice state, const reload_sink *error) {
            \(restore)
            if (schema > \(schema) || state.count != sizeof counter) { say(error, "too new"); return RELOAD_STATE_REFUSED; }
            memcpy(&counter, state.bytes, sizeof counter);
            return RELOAD_OK;
        }
        static void destroy(void *instance) {
            FILE *file = fopen("\(destroyed)", "a");
            if (file) { fputs("\(version)\\n", file); fclose(file); }
        }
        static const reload_plugin table = {
            sizeof(reload_plugin), \(major), 0, 0, \(schema), 0, "test", "\(version)",
            create, call, self_test, snapshot_state, restore_state, destroy };
        const reload_plugin *reload_plugin_entry(uint32_t host_abi) { return &table; }
        """
    }

    /// Compiles C into a shared library at `path`.
    static func compile(_ source: String, to path: String, _ arguments: [String] = []) throws {
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments = ["clang", "-shared", "-fPIC", "-w", "-I", include, "-x", "c", "-", "-o", path] + arguments
        let input = Pipe()
        compiler.standardInput = input
        try compiler.run()
        try input.fileHandleForWriting.write(contentsOf: Data(source.utf8))
        try input.fileHandleForWriting.close()
        compiler.waitUntilExit()
        guard compiler.terminationStatus == 0 else { throw CocoaError(.executableLoad) }
    }
}

extension Scene {
    /// Compiles a plugin under the artifact root.
    func compile(_ source: String, to name: String, _ arguments: [String] = []) throws -> String {
        let path = folder.appendingPathComponent("artifacts/\(name)").path
        try PluginSource.compile(source, to: path, arguments)
        return path
    }

    /// A running plugin module `parser` of version `one`.
    func parser(schema: Int = 0) throws -> PluginTarget {
        try reloader.plugin(
            "parser", file: try compile(PluginSource.good(version: "one", schema: schema), to: "one.so"))
    }
}

extension PluginTarget {
    func text(_ operation: UInt32 = 1, _ input: String = "") throws -> String {
        String(decoding: try call(Array(input.utf8), operation: operation), as: UTF8.self)
    }
}
