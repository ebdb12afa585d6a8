#define _GNU_SOURCE
#include "CReloadTrial.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

static bool fail(creload_trial_failure *failure, creload_trial_step step, int32_t status, const char *format, ...) {
    va_list arguments;
    failure->step = step;
    failure->status = status;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    return false;
}

/* Keeps the beginning of what a plugin says of its failure. */
struct text {
    char *bytes;
    size_t count, capacity;
};

static int32_t append(void *context, const uint8_t *bytes, size_t count) {
    struct text *text = context;
    size_t room = text->capacity - text->count;
    size_t taken = count < room ? count : room;
    if (taken > 0) memcpy(text->bytes + text->count, bytes, taken);
    text->count += taken;
    return RELOAD_OK;
}

/* A table from a plugin of a later minor version may be longer, one of an earlier one never shorter than 1.0. */
static bool is_usable(const reload_plugin *table, creload_trial_failure *failure) {
    if (table->size < sizeof(reload_plugin))
        return fail(failure, CRELOAD_TRIAL_STEP_ABI, 0, "its table has %u bytes, at least %zu are needed", table->size,
                    sizeof(reload_plugin));
    if (table->abi_major != RELOAD_ABI_MAJOR)
        return fail(failure, CRELOAD_TRIAL_STEP_ABI, 0, "it is built for ABI %u.%u, this host speaks %u.%u", table->abi_major,
                    table->abi_minor, RELOAD_ABI_MAJOR, RELOAD_ABI_MINOR);
    if (!table->create || !table->call || !table->self_test || !table->destroy)
        return fail(failure, CRELOAD_TRIAL_STEP_ABI, 0, "create, call, self_test or destroy is NULL");
    if (table->state_schema != 0 && (!table->snapshot_state || !table->restore_state))
        return fail(failure, CRELOAD_TRIAL_STEP_ABI, 0, "state_schema is %u but snapshot_state or restore_state is NULL",
                    table->state_schema);
    return true;
}

/* dlerror says only that it could not be mapped. */
static bool is_on_noexec(const char *path) {
    struct statvfs status;
    return statvfs(path, &status) == 0 && (status.f_flag & ST_NOEXEC) != 0;
}

bool creload_trial_load(const char *path, bool keep_mapped, creload_trial_loaded *loaded,
                        creload_trial_failure *failure) {
    memset(loaded, 0, sizeof *loaded);
    memset(failure, 0, sizeof *failure);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | (keep_mapped ? RTLD_NODELETE : 0));
    if (!library) {
        const char *reason = dlerror();
        return fail(failure, CRELOAD_TRIAL_STEP_OPEN, 0, "%s%s", reason ? reason : "dlopen gave no reason",
                    is_on_noexec(path) ? " (it is on a file system that is mounted noexec)" : "");
    }
    reload_plugin_entry_function entry = (reload_plugin_entry_function)dlsym(library, RELOAD_PLUGIN_ENTRY);
    if (!entry) {
        const char *reason = dlerror();
        fail(failure, CRELOAD_TRIAL_STEP_ENTRY, 0, "%s", reason ? reason : "no " RELOAD_PLUGIN_ENTRY);
        goto close;
    }
    const reload_plugin *table = entry(RELOAD_ABI_VERSION);
    if (!table) {
        fail(failure, CRELOAD_TRIAL_STEP_ENTRY, 0, RELOAD_PLUGIN_ENTRY " returned NULL for ABI %u.%u", RELOAD_ABI_MAJOR,
             RELOAD_ABI_MINOR);
        goto close;
    }
    if (!is_usable(table, failure)) goto close;
    void *instance = NULL;
    struct text text = {failure->text, 0, sizeof failure->text - 1};
    reload_sink sink = {&text, append};
    int32_t status = table->create(&instance, &sink);
    if (status != RELOAD_OK) {
        failure->step = CRELOAD_TRIAL_STEP_CREATE;
        failure->status = status;
        goto close;
    }
    *loaded = (creload_trial_loaded){library, table, instance};
    return true;
close:
    dlclose(library);
    return false;
}

bool creload_trial_self_test(const creload_trial_loaded *loaded, creload_trial_failure *failure) {
    memset(failure, 0, sizeof *failure);
    struct text text = {failure->text, 0, sizeof failure->text - 1};
    reload_sink sink = {&text, append};
    failure->status = loaded->table->self_test(loaded->instance, &sink);
    if (failure->status == RELOAD_OK) return true;
    failure->step = CRELOAD_TRIAL_STEP_SELF_TEST;
    return false;
}

bool creload_trial_restore_state(const creload_trial_loaded *loaded, uint32_t schema, reload_slice state,
                                 creload_trial_failure *failure) {
    memset(failure, 0, sizeof *failure);
    struct text text = {failure->text, 0, sizeof failure->text - 1};
    reload_sink sink = {&text, append};
    failure->status = loaded->table->restore_state(loaded->instance, schema, state, &sink);
    if (failure->status == RELOAD_OK) return true;
    failure->step = CRELOAD_TRIAL_STEP_RESTORE;
    return false;
}

void creload_trial_unload(creload_trial_loaded *loaded) {
    if (!loaded->library) return;
    loaded->table->destroy(loaded->instance);
    dlclose(loaded->library);
    memset(loaded, 0, sizeof *loaded);
}
