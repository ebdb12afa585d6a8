#define _GNU_SOURCE
#include "CReloadHost.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* "<seconds of CPU time>:<path>" asks a new process to vet instead of running `main`. */
#define REQUEST_VARIABLE "RELOAD_AGENT_VET"
/* Descriptors of the vetting process: 0 gives the nonce, 1 and 2 are its output, 3 takes the verdict. */
#define VERDICT_DESCRIPTOR 3
#define NONCE_SIZE 16

/* What the vetting process writes, in one piece below PIPE_BUF. */
struct verdict {
    uint8_t nonce[NONCE_SIZE];
    creload_failure failure; /* step DONE: passed */
};

static bool read_all(int descriptor, void *bytes, size_t count) {
    size_t done = 0;
    while (done < count) {
        ssize_t got = read(descriptor, (uint8_t *)bytes + done, count - done);
        if (got > 0) done += (size_t)got;
        else if (got == 0 || errno != EINTR) return false;
    }
    return true;
}

/* In the vetting process, before `main`; with any other start of the executable this is one getenv. */
__attribute__((constructor)) static void vet_if_asked(void) {
    const char *request = getenv(REQUEST_VARIABLE);
    if (!request) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "reload-vet");
    char *path = NULL;
    unsigned long seconds = strtoul(request, &path, 10);
    struct verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    if (*path != ':' || !read_all(STDIN_FILENO, verdict.nonce, NONCE_SIZE)) _exit(2);
    path = strdup(path + 1);
    unsetenv(REQUEST_VARIABLE);
    if (!path) _exit(2);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setrlimit(RLIMIT_CPU, &(struct rlimit){seconds, seconds + 1});
    creload_loaded loaded;
    if (creload_load(path, true, &loaded, &verdict.failure) && creload_self_test(&loaded, &verdict.failure))
        verdict.failure.step = CRELOAD_STEP_DONE;
    _exit(write(VERDICT_DESCRIPTOR, &verdict, sizeof verdict) == sizeof verdict ? 0 : 2);
}

/* The executable can vet only if the constructor above is part of it, not of a shared library. The main program is the
   first object dl_iterate_phdr names. */
static int is_in_main_program(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    uintptr_t address = (uintptr_t)&vet_if_asked;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && address >= start && address < start + info->dlpi_phdr[i].p_memsz)
            *(bool *)context = true;
    }
    return 1;
}

static int64_t milliseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static char **environment_with(const char *request) {
    size_t count = 0;
    while (environ[count]) count++;
    char **copy = malloc((count + 3) * sizeof *copy);
    if (!copy) return NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "SWIFT_BACKTRACE=", 16) != 0) copy[kept++] = environ[i];
    copy[kept++] = (char *)"SWIFT_BACKTRACE=enable=no"; /* a crash is a verdict here, not worth seconds of symbols */
    copy[kept++] = (char *)request;
    copy[kept] = NULL;
    return copy;
}

/* pipe2 with both ends above the descriptors that the spawned process gets by number: dup2 of one onto itself would leave
   it close-on-exec. */
static bool high_pipe(int ends[2]) {
    int low[2];
    if (pipe2(low, O_CLOEXEC) != 0) return false;
    ends[0] = fcntl(low[0], F_DUPFD_CLOEXEC, VERDICT_DESCRIPTOR + 1);
    ends[1] = fcntl(low[1], F_DUPFD_CLOEXEC, VERDICT_DESCRIPTOR + 1);
    close(low[0]);
    close(low[1]);
    return ends[0] >= 0 && ends[1] >= 0;
}

static void close_open(int *descriptor) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
}

static int spawn(pid_t *process, const char *request_value, int nonce, int output, int verdict) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    char **environment = environment_with(request_value);
    if (!environment) return ENOMEM;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, nonce, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, verdict, VERDICT_DESCRIPTOR);
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&actions, VERDICT_DESCRIPTOR + 1);
#endif
#endif
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    char *arguments[] = {(char *)"reload-vet", NULL};
    int result = posix_spawn(process, "/proc/self/exe", &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return result;
}

/* Keeps the last bytes of the candidate's output. False at its end. */
static bool keep_tail(int descriptor, char *tail, size_t capacity) {
    char chunk[1024];
    ssize_t got = read(descriptor, chunk, sizeof chunk);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    size_t kept = strlen(tail), room = capacity - 1, new = (size_t)got < room ? (size_t)got : room;
    if (kept + new > room) {
        size_t dropped = kept + new - room;
        memmove(tail, tail + dropped, kept - dropped);
        kept -= dropped;
    }
    for (size_t i = 0; i < new; i++) {
        char byte = chunk[(size_t)got - new + i];
        tail[kept + i] = byte ? byte : ' ';
    }
    tail[kept + new] = 0;
    return true;
}

void creload_vet(const char *path, uint32_t timeout_milliseconds, creload_vetting *vetting) {
    memset(vetting, 0, sizeof *vetting);
    vetting->verdict = CRELOAD_VERDICT_UNAVAILABLE;
    bool in_main_program = false;
    dl_iterate_phdr(is_in_main_program, &in_main_program);
    if (!in_main_program) return;

    uint8_t nonce[NONCE_SIZE];
    int input[2] = {-1, -1}, output[2] = {-1, -1}, result[2] = {-1, -1}, exit_descriptor = -1;
    pid_t process = -1;
    char *request = NULL;
    if (asprintf(&request, REQUEST_VARIABLE "=%u:%s", timeout_milliseconds / 1000 + 1, path) < 0) {
        request = NULL;
        errno = ENOMEM;
        goto unavailable;
    }
    if (getrandom(nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce || !high_pipe(input) || !high_pipe(output)
        || !high_pipe(result) || write(input[1], nonce, sizeof nonce) != (ssize_t)sizeof nonce)
        goto unavailable;
    errno = spawn(&process, request, input[0], output[1], result[1]);
    if (errno != 0) goto unavailable;
    close_open(&input[0]);
    close_open(&input[1]);
    close_open(&output[1]);
    close_open(&result[1]);
    fcntl(output[0], F_SETFL, O_NONBLOCK);
    fcntl(result[0], F_SETFL, O_NONBLOCK);
    /* Without pidfd_open (before Linux 5.3) the end of the process is asked for every 20 ms. */
    exit_descriptor = (int)syscall(SYS_pidfd_open, process, 0);

    struct verdict verdict;
    size_t received = 0;
    int status = 0;
    bool has_ended = false, is_late = false;
    int64_t deadline = milliseconds_now() + timeout_milliseconds;
    while (!has_ended && !is_late) {
        int64_t rest = deadline - milliseconds_now();
        if (rest < 0) rest = 0;
        struct pollfd watched[] = {{output[0], POLLIN, 0}, {result[0], POLLIN, 0}, {exit_descriptor, POLLIN, 0}};
        int wait = exit_descriptor >= 0 || rest < 20 ? (int)rest : 20;
        poll(watched, 3, wait);
        pid_t ended = waitpid(process, &status, WNOHANG);
        /* ECHILD: the service reaps all children itself or ignores SIGCHLD. Then the verdict alone speaks. */
        has_ended = ended == process || (ended < 0 && errno == ECHILD);
        if (watched[0].revents && !keep_tail(output[0], vetting->output, sizeof vetting->output)) close_open(&output[0]);
        if (watched[1].revents) {
            ssize_t got = read(result[0], (uint8_t *)&verdict + received, sizeof verdict - received);
            if (got > 0) received += (size_t)got;
            else if (got == 0) close_open(&result[0]);
        }
        is_late = !has_ended && milliseconds_now() >= deadline;
    }
    /* What it left in the pipes, and what it left running: its process group is its own. */
    kill(-process, SIGKILL);
    if (!has_ended) waitpid(process, &status, 0);
    while (output[0] >= 0 && poll(&(struct pollfd){output[0], POLLIN, 0}, 1, 0) > 0)
        if (!keep_tail(output[0], vetting->output, sizeof vetting->output)) break;
    while (result[0] >= 0 && received < sizeof verdict) {
        ssize_t got = read(result[0], (uint8_t *)&verdict + received, sizeof verdict - received);
        if (got <= 0) break;
        received += (size_t)got;
    }
    if (received == sizeof verdict && memcmp(verdict.nonce, nonce, sizeof nonce) == 0) {
        verdict.failure.text[sizeof verdict.failure.text - 1] = 0;
        vetting->failure = verdict.failure;
        vetting->verdict =
            verdict.failure.step == CRELOAD_STEP_DONE ? CRELOAD_VERDICT_PASSED : CRELOAD_VERDICT_FAILED;
    } else if (is_late) {
        vetting->verdict = CRELOAD_VERDICT_TIMED_OUT;
    } else if (WIFSIGNALED(status)) {
        vetting->verdict = CRELOAD_VERDICT_CRASHED;
        vetting->detail = WTERMSIG(status);
    } else {
        vetting->verdict = CRELOAD_VERDICT_EXITED;
        vetting->detail = WEXITSTATUS(status);
    }
    goto done;
unavailable:
    vetting->detail = errno;
done:
    free(request);
    close_open(&input[0]);
    close_open(&input[1]);
    close_open(&output[0]);
    close_open(&output[1]);
    close_open(&result[0]);
    close_open(&result[1]);
    close_open(&exit_descriptor);
}
