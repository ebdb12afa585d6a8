#define _GNU_SOURCE
#include "CReloadTrial.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

void creload_trial_find_loaded(const char *name, void *context, creload_trial_path_function body) {
    struct link_map *map;
    void *library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (library && dlinfo(library, RTLD_DI_LINKMAP, &map) == 0) body(context, map->l_name);
    if (library) dlclose(library);
    else dlerror(); /* nobody's error */
}

struct each {
    void *context;
    creload_trial_path_function body;
};

static int name_one(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    const struct each *each = context;
    if (info->dlpi_name) each->body(each->context, info->dlpi_name);
    return 0;
}

void creload_trial_each_loaded(void *context, creload_trial_path_function body) {
    struct each each = {context, body};
    dl_iterate_phdr(name_one, &each);
}

void creload_trial_each_library_folder(void *context, creload_trial_path_function body) {
    Dl_serinfo size, *folders = NULL;
    void *program = dlopen(NULL, RTLD_LAZY);
    if (program && dlinfo(program, RTLD_DI_SERINFOSIZE, &size) == 0 && (folders = malloc(size.dls_size))) {
        *folders = size;
        if (dlinfo(program, RTLD_DI_SERINFO, folders) == 0)
            for (unsigned i = 0; i < folders->dls_cnt; i++) body(context, folders->dls_serpath[i].dls_name);
    }
    free(folders);
    if (program) dlclose(program);
}
