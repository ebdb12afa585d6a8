#define _GNU_SOURCE
#include "CReloadTrial.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(SYS_openat2) && __has_include(<linux/openat2.h>)
#include <linux/openat2.h>

int creload_trial_find_beneath(int folder, const char *path) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}
#else
int creload_trial_find_beneath(int folder, const char *path) {
    (void)folder, (void)path;
    errno = ENOSYS;
    return -1;
}
#endif

int creload_trial_find_name(int folder, const char *name) { return openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC); }

int creload_trial_find(const char *path) { return open(path, O_PATH | O_CLOEXEC); }
