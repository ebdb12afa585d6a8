/*
 * What the host side of the plugin ABI needs from C: opening and proving a library the same way in the service and in the
 * process that tries it, starting that process, and opening a file below a folder.
 */
#ifndef CRELOAD_TRIAL_H
#define CRELOAD_TRIAL_H

#include "CReloadPlugin.h"
#include <stdbool.h>

#pragma clang assume_nonnull begin

/* How far a candidate came; the first step that failed names the failure. */
typedef enum creload_trial_step {
    CRELOAD_TRIAL_STEP_NONE = 0,
    CRELOAD_TRIAL_STEP_OPEN,      /* dlopen; the text is dlerror's */
    CRELOAD_TRIAL_STEP_ENTRY,     /* no reload_plugin_entry, or it returned NULL */
    CRELOAD_TRIAL_STEP_ABI,       /* another ABI, or a table too small to be one */
    CRELOAD_TRIAL_STEP_CREATE,
    CRELOAD_TRIAL_STEP_SELF_TEST,
    CRELOAD_TRIAL_STEP_RESTORE,   /* it did not take over the state of the version before */
    CRELOAD_TRIAL_STEP_DONE,
} creload_trial_step;

typedef struct creload_trial_failure {
    creload_trial_step step;
    int32_t status; /* what the plugin's function returned */
    char text[1024]; /* UTF-8 as far as the plugin keeps to it, NUL at the end */
} creload_trial_failure;

/* An opened plugin with its one instance. */
typedef struct creload_trial_loaded {
    void *_Nullable library;
    const reload_plugin *_Nullable table;
    void *_Nullable instance;
} creload_trial_loaded;

/* Opens `path` (RTLD_NOW | RTLD_LOCAL, with RTLD_NODELETE when `keep_mapped`), checks the table and makes the instance.
   False leaves nothing open that could be closed. One C function, because the process of a trial must do to the letter what
   the service does, and runs before Swift's main. */
bool creload_trial_load(const char *path, bool keep_mapped, creload_trial_loaded *loaded,
                        creload_trial_failure *failure);
/* The plugin's own proof. */
bool creload_trial_self_test(const creload_trial_loaded *loaded, creload_trial_failure *failure);
/* Hands it the state of the version before. */
bool creload_trial_restore_state(const creload_trial_loaded *loaded, uint32_t schema, reload_slice state,
                                 creload_trial_failure *failure);
/* Destroys the instance and closes the library; a library opened with `keep_mapped` stays mapped. */
void creload_trial_unload(creload_trial_loaded *loaded);

/* Takes one path of several. */
typedef void (*creload_trial_path_function)(void *context, const char *path);
/* The file that `name`, as one library names another it needs, stands for in this process; none: it is not loaded. */
void creload_trial_find_loaded(const char *name, void *context, creload_trial_path_function body);
/* Every file that is loaded. */
void creload_trial_each_loaded(void *context, creload_trial_path_function body);
/* Every folder where the dynamic linker looks for a library that the one which needs it has no folder for. */
void creload_trial_each_library_folder(void *context, creload_trial_path_function body);

typedef enum creload_trial_verdict {
    CRELOAD_TRIAL_VERDICT_PASSED = 0,
    CRELOAD_TRIAL_VERDICT_FAILED,      /* the candidate failed at `failure.step` */
    CRELOAD_TRIAL_VERDICT_CRASHED,     /* ended by signal `detail` */
    CRELOAD_TRIAL_VERDICT_EXITED,      /* called exit(`detail`) before its self test was over */
    CRELOAD_TRIAL_VERDICT_TIMED_OUT,
    CRELOAD_TRIAL_VERDICT_UNAVAILABLE, /* the process could not be started; `detail` is the error number, or 0 when this code
                                    is not part of the main executable */
} creload_trial_verdict;

/* What a trial may take, and what it is about beside the library. */
typedef struct creload_trial_terms {
    uint32_t timeout_milliseconds;
    uint32_t state_schema;   /* of the version in service, 0 = there is no state to hand over */
    uint64_t memory_bytes;   /* beyond what its process has from the beginning */
    const char *environment; /* names of variables that it has beside the usual ones, each followed by a newline */
    reload_slice state;
} creload_trial_terms;

/* What the kernel did not let a trial be kept from. */
typedef enum creload_trial_unconfined {
    CRELOAD_TRIAL_UNCONFINED_CALLS = 1, /* network, other processes: no seccomp */
    CRELOAD_TRIAL_UNCONFINED_FILES = 2, /* writing to files, looking into the service: no Landlock */
} creload_trial_unconfined;

typedef struct creload_trial_result {
    creload_trial_verdict verdict;
    int32_t detail;
    uint32_t unconfined; /* of creload_trial_unconfined, when there is a verdict PASSED or FAILED */
    creload_trial_failure failure;
    char output[2048]; /* the last bytes the candidate wrote to standard output and error, NUL at the end */
} creload_trial_result;

/* Tries `path` in a process of its own: the service's executable is started again, and a constructor that runs before
   `main` sees the request, gives up what a trial does not need, opens the library, creates an instance, runs the self
   test, hands over the state and runs the self test again, and ends the process. The verdict counts only with the nonce
   that process was given. Blocks for about the timeout at most, twice that when a process that had waited must be
   distrusted. */
void creload_trial_run(const char *path, const creload_trial_terms *terms, creload_trial_result *result);
/* Starts that process beforehand, so that the next creload_trial_run() need not wait for it: it sleeps until then and ends with
   the service. Does nothing when one is waiting, or when none can be started. `environment` as in creload_trial_terms. */
void creload_trial_prepare(const char *environment);
/* Ends the one that waits. */
void creload_trial_dismiss(void);

/* These find a file and do not open it (O_PATH, which Swift's C library module does not have, and O_CLOEXEC): looking at a
   device or a pipe has no effect on it. -1 leaves the cause in errno. */

/* `path` below the folder, by openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS. glibc has no function for it. ENOSYS
   where the kernel has no such call, EPERM where a container's filter forbids it, EAGAIN when something was renamed
   meanwhile, EXDEV for what leads out and for every absolute link, ELOOP for a magic link. */
int creload_trial_find_beneath(int folder, const char *path);
/* The entry of the folder called `name`, which is one component; of a link the link itself. */
int creload_trial_find_name(int folder, const char *name);
/* Whatever `path` leads to. */
int creload_trial_find(const char *path);

#pragma clang assume_nonnull end

#endif
