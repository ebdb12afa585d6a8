/* A plugin that does nothing, so that what a call costs is the call. With input it says which one it is: PLUGIN_REPLY. */
#include <CReloadPlugin.h>

static int32_t create(void **instance, const reload_sink *error) {
    (void)error;
    static char only;
    *instance = &only;
    return RELOAD_OK;
}

static int32_t call(void *instance, uint32_t operation, reload_slice in, const reload_sink *out) {
    (void)instance;
    (void)operation;
    if (in.count == 0) return RELOAD_OK;
    static const uint8_t reply = PLUGIN_REPLY;
    return out->write(out->context, &reply, 1);
}

static int32_t self_test(void *instance, const reload_sink *error) {
    (void)instance;
    (void)error;
    return RELOAD_OK;
}

static void destroy(void *instance) { (void)instance; }

static const reload_plugin table = {
    .size = sizeof table,
    .abi_major = RELOAD_ABI_MAJOR,
    .abi_minor = RELOAD_ABI_MINOR,
    .name = "empty",
    .version = PLUGIN_VERSION,
    .create = create,
    .call = call,
    .self_test = self_test,
    .destroy = destroy,
};

const reload_plugin *reload_plugin_entry(uint32_t host_abi) {
    return host_abi >> 16 == RELOAD_ABI_MAJOR ? &table : NULL;
}
