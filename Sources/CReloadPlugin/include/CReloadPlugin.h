/*
 * The plugin ABI of swift-reload-agent, version 1.0.
 *
 * A plugin is a shared library that exports one function, `reload_plugin_entry`, which returns a table of functions.
 * Only C crosses this boundary, so a plugin can be written in any language that can export a C function.
 *
 * Memory: bytes come in as a slice that is valid until the call returns, and go out through a sink that the host owns.
 * Neither side frees what the other allocated.
 *
 * Threads: `call` comes from any thread, from many at once. `create`, `self_test`, `snapshot_state`, `restore_state` and
 * `destroy` come one at a time for one instance; `snapshot_state` and `self_test` may overlap with `call`.
 *
 * Order: entry, create, self_test (in a process of its own first, then in the service), restore_state if the version
 * before had state, call..., snapshot_state, destroy. After `destroy` no function of that instance is called again.
 *
 * The table grows by appending; a host reads no further than `size`.
 */
#ifndef RELOAD_PLUGIN_H
#define RELOAD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RELOAD_ABI_MAJOR 1
#define RELOAD_ABI_MINOR 0
/* The host's ABI as the entry function gets it: major in the upper 16 bits, minor in the lower. */
#define RELOAD_ABI_VERSION ((((uint32_t)RELOAD_ABI_MAJOR) << 16) | (uint32_t)RELOAD_ABI_MINOR)

/* What every function that can fail returns. Any other value is a failure of the plugin's own numbering. */
#define RELOAD_OK 0
#define RELOAD_FAILED 1
#define RELOAD_UNKNOWN_OPERATION 2
#define RELOAD_STATE_REFUSED 3

/* `count` bytes that the callee may read until it returns; `bytes` may be NULL when `count` is 0. */
typedef struct reload_slice {
    const uint8_t *bytes;
    size_t count;
} reload_slice;

/* Where a plugin writes. `write` copies the bytes before it returns and may be called any number of times; what is
   written adds up. It returns RELOAD_OK, or another value when the host takes no more: the plugin should then return a
   failure. The sink is valid until the call that received it returns. */
typedef struct reload_sink {
    void *context;
    int32_t (*write)(void *context, const uint8_t *bytes, size_t count);
} reload_sink;

typedef struct reload_plugin {
    uint32_t size;         /* sizeof(reload_plugin) as the plugin was compiled */
    uint16_t abi_major;    /* RELOAD_ABI_MAJOR; another one is refused */
    uint16_t abi_minor;    /* RELOAD_ABI_MINOR */
    uint64_t flags;        /* 0; no flag is defined yet */
    uint32_t state_schema; /* number of the state's format, 0 = no state */
    uint32_t reserved;     /* 0 */
    const char *name;      /* UTF-8, as long as the library is loaded; for people */
    const char *version;   /* UTF-8, as long as the library is loaded; for people */

    /* Makes an instance and stores it in `*instance`. On failure writes the reason, UTF-8, to `error`. */
    int32_t (*create)(void **instance, const reload_sink *error);
    /* Does the work: `operation` and the meaning of `in` and `out` are an agreement between service and plugin. On
       failure what was written to `out` is the reason, UTF-8. */
    int32_t (*call)(void *instance, uint32_t operation, reload_slice in, const reload_sink *out);
    /* Proves that this instance works. Must end by itself. On failure writes the reason to `error`. */
    int32_t (*self_test)(void *instance, const reload_sink *error);
    /* Writes the state for a later version to `out`. NULL when `state_schema` is 0. */
    int32_t (*snapshot_state)(void *instance, const reload_sink *out);
    /* Takes over the state of the version before; `schema` is that version's `state_schema`. A value other than
       RELOAD_OK keeps the old version in service. NULL when `state_schema` is 0. */
    int32_t (*restore_state)(void *instance, uint32_t schema, reload_slice state, const reload_sink *error);
    /* Ends the instance. Threads, thread-local keys and descriptors of the plugin must be gone when it returns. */
    void (*destroy)(void *instance);
} reload_plugin;

#define RELOAD_PLUGIN_ENTRY "reload_plugin_entry"
/* The table, or NULL when the plugin cannot work with this host. The table stays valid as long as the library is loaded. */
typedef const reload_plugin *(*reload_plugin_entry_function)(uint32_t host_abi);

/* The declaration a plugin defines. A plugin in C:

       const reload_plugin *reload_plugin_entry(uint32_t host_abi) { return &table; }
*/
#if defined(_WIN32)
#define RELOAD_PLUGIN_EXPORT
#else
#define RELOAD_PLUGIN_EXPORT __attribute__((visibility("default")))
#endif
RELOAD_PLUGIN_EXPORT const reload_plugin *reload_plugin_entry(uint32_t host_abi);

#ifdef __cplusplus
}
#endif

#endif
