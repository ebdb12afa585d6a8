#define _GNU_SOURCE
#include "CReloadTrial.h"
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Asks a new process to wait for a request for a trial instead of running `main`. */
#define REQUEST_VARIABLE "RELOAD_AGENT_VET"
/* Descriptors of the process of a trial: 0 is empty, 1 and 2 are its output, 3 takes the verdict, 4 brings the request and ends
   with the service. */
#define VERDICT_DESCRIPTOR 3
#define REQUEST_DESCRIPTOR 4
#define NONCE_SIZE 16

#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
#define CAN_CLOSE_FROM 1
#endif
#endif

/* What the process of a trial writes, in one piece below PIPE_BUF. */
struct verdict {
    uint8_t nonce[NONCE_SIZE];
    uint32_t unconfined;
    creload_trial_failure failure; /* step DONE: passed */
};

/* What the process of a trial is sent, in one packet; with it comes a descriptor of the state, if that has bytes. */
struct request {
    uint8_t nonce[NONCE_SIZE];
    uint64_t memory_bytes;
    uint32_t seconds, cpu_seconds;
    uint32_t state_schema; /* 0 = no state */
    char path[4096];       /* as far as the path goes, with its NUL */
};

/* Room for one descriptor beside a packet. */
union one_descriptor {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

/* The packet's size, or below 0; `*state` is -1 when no descriptor came with it. */
static ssize_t receive(struct request *request, int *state) {
    union one_descriptor beside;
    struct iovec bytes = {request, sizeof *request};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &beside, .msg_controllen = sizeof beside};
    ssize_t count = recvmsg(REQUEST_DESCRIPTOR, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = count < 0 ? NULL : CMSG_FIRSTHDR(&message);
    *state = -1;
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(state, CMSG_DATA(header), sizeof *state);
    return count;
}

/* The state in memory that is not counted as the candidate's. */
static bool map_state(int descriptor, reload_slice *state) {
    struct stat file;
    if (descriptor < 0) return true;
    if (fstat(descriptor, &file) != 0) return false;
    void *bytes = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    close(descriptor);
    if (bytes == MAP_FAILED) return false;
    *state = (reload_slice){bytes, (size_t)file.st_size};
    return true;
}

/* What the service does with a candidate, in the same order: see PluginTarget. */
static bool prove(const struct request *request, reload_slice state, creload_trial_failure *failure) {
    creload_trial_loaded loaded;
    if (!creload_trial_load(request->path, true, &loaded, failure) || !creload_trial_self_test(&loaded, failure)) return false;
    if (request->state_schema == 0 || loaded.table->state_schema == 0) return true;
    return creload_trial_restore_state(&loaded, request->state_schema, state, failure) && creload_trial_self_test(&loaded, failure);
}

/* In the process of a trial, before `main`; with any other start of the executable this is one getenv. */
__attribute__((constructor)) static void try_if_asked(void) {
    if (!getenv(REQUEST_VARIABLE)) return;
    unsetenv(REQUEST_VARIABLE);
    prctl(PR_SET_NAME, "reload-vet");
#if !CAN_CLOSE_FROM
    syscall(SYS_close_range, REQUEST_DESCRIPTOR + 1, ~0U, 0);
#endif
    /* When memory is short, the kernel takes this process and not the service. */
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0 && write(score, "1000", 4) != 4) { /* best effort */ }
    close(score);
    /* It dies with the service. PR_SET_PDEATHSIG would not do: it goes by the thread that started a process. O_ASYNC
       comes after the request, which is no reason to die yet. A candidate that closes the descriptor is left to the
       alarm. */
    fcntl(REQUEST_DESCRIPTOR, F_SETOWN, getpid());
    fcntl(REQUEST_DESCRIPTOR, F_SETSIG, SIGKILL);
    struct request request;
    struct verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    verdict.unconfined = creload_trial_confine();
    reload_slice state = {NULL, 0};
    int descriptor;
    if (receive(&request, &descriptor) <= (ssize_t)offsetof(struct request, path)) _exit(2);
    request.path[sizeof request.path - 1] = 0;
    fcntl(REQUEST_DESCRIPTOR, F_SETFL, O_ASYNC);
    alarm(request.seconds + 1);
    struct pollfd service = {REQUEST_DESCRIPTOR, 0, 0};
    if (poll(&service, 1, 0) != 0 || !map_state(descriptor, &state)) _exit(2);
    memcpy(verdict.nonce, request.nonce, NONCE_SIZE);
    memset(request.nonce, 0, NONCE_SIZE);
    creload_trial_limit(request.memory_bytes, request.cpu_seconds);
    if (prove(&request, state, &verdict.failure)) verdict.failure.step = CRELOAD_TRIAL_STEP_DONE;
    _exit(write(VERDICT_DESCRIPTOR, &verdict, sizeof verdict) == sizeof verdict ? 0 : 2);
}

/* The executable can hold trials only if the constructor above is part of it, not of a shared library. The main program is the
   first object dl_iterate_phdr names. */
static int is_in_main_program(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    uintptr_t address = (uintptr_t)&try_if_asked;
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

/* Whether the candidate sees a variable ("NAME=value"): what the dynamic linker, the C library and the Swift runtime go
   by, and `names`, each followed by a newline. The service's passwords are among the others. */
static bool is_passed(const char *variable, const char *names) {
    static const char *const usual[] = {
        "PATH=", "HOME=", "USER=", "LOGNAME=", "LANG=", "LANGUAGE=", "LC_*", "TZ=", "TZDIR=", "TMPDIR=", "LD_*",
        "GLIBC_*", "MALLOC_*", "SWIFT_*", "ASAN_OPTIONS=", "TSAN_OPTIONS="};
    /* A crash is a verdict here, not worth seconds of symbols. */
    if (strncmp(variable, "SWIFT_BACKTRACE=", 16) == 0) return false;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        size_t length = strlen(usual[i]);
        if (strncmp(variable, usual[i], usual[i][length - 1] == '*' ? length - 1 : length) == 0) return true;
    }
    size_t length = strcspn(variable, "=");
    while (*names) {
        size_t end = strcspn(names, "\n");
        if (end == length && strncmp(variable, names, length) == 0) return true;
        names += end + (names[end] != 0);
    }
    return false;
}

static char **environment(const char *names) {
    size_t count = 0;
    while (environ[count]) count++;
    char **copy = malloc((count + 3) * sizeof *copy);
    if (!copy) return NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (is_passed(environ[i], names)) copy[kept++] = environ[i];
    copy[kept++] = (char *)"SWIFT_BACKTRACE=enable=no";
    copy[kept++] = (char *)REQUEST_VARIABLE "=1";
    copy[kept] = NULL;
    return copy;
}

/* Descriptors above those that the spawned process gets by number: dup2 of one onto itself would leave it close-on-exec. */
static bool raise_both(int ends[2]) {
    int low[2] = {ends[0], ends[1]};
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, REQUEST_DESCRIPTOR + 1);
        close(low[i]);
    }
    return ends[0] >= 0 && ends[1] >= 0;
}

static bool make_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) == 0 && raise_both(ends); }

static void close_open(int *descriptor) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
}

/* A process of a trial: it waits for its request, or works on it. */
struct trial {
    pid_t process;
    int request, output, verdict; /* the service's ends */
    uid_t user;
    gid_t group;
};

static const struct trial no_trial = {-1, -1, -1, -1, 0, 0};

static int spawn(pid_t *process, const char *names, int request, int output, int verdict) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    char **variables = environment(names);
    if (!variables) return ENOMEM;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, verdict, VERDICT_DESCRIPTOR);
    posix_spawn_file_actions_adddup2(&actions, request, REQUEST_DESCRIPTOR);
#if CAN_CLOSE_FROM
    posix_spawn_file_actions_addclosefrom_np(&actions, REQUEST_DESCRIPTOR + 1);
#endif
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    char *arguments[] = {(char *)"reload-vet", NULL};
    int result = posix_spawn(process, "/proc/self/exe", &actions, &attributes, arguments, variables);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    free(variables);
    return result;
}

/* 0, or the error number. */
static int start(struct trial *trial, const char *names) {
    int request[2] = {-1, -1}, output[2] = {-1, -1}, verdict[2] = {-1, -1}, result;
    *trial = no_trial;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, request) != 0 || !raise_both(request) ||
        !make_pipe(output) || !make_pipe(verdict))
        result = errno;
    else
        result = spawn(&trial->process, names, request[1], output[1], verdict[1]);
    close_open(&request[1]);
    close_open(&output[1]);
    close_open(&verdict[1]);
    trial->request = request[0];
    trial->output = output[0];
    trial->verdict = verdict[0];
    trial->user = geteuid();
    trial->group = getegid();
    if (result == 0) {
        fcntl(trial->output, F_SETFL, O_NONBLOCK);
        fcntl(trial->verdict, F_SETFL, O_NONBLOCK);
    }
    return result;
}

static void close_all(struct trial *trial) {
    close_open(&trial->request);
    close_open(&trial->output);
    close_open(&trial->verdict);
}

/* Ends it with whatever it left running: its process group is its own. */
static void end(struct trial *trial) {
    pid_t process = trial->process;
    /* Without this it ends by itself, also where it may not be killed: a service may have changed its user since. */
    close_all(trial);
    *trial = no_trial;
    /* 0: it is there, and its number is its own. */
    if (process <= 0 || waitpid(process, NULL, WNOHANG) != 0) return;
    kill(-process, SIGKILL);
    kill(process, SIGKILL); /* one that could leave its group would be waited for in vain */
    while (waitpid(process, NULL, 0) < 0 && errno == EINTR) {}
}

/* The process that waits for the next request, and the last one that was killed: its end takes as long as a trial. */
static struct trial spare = {-1, -1, -1, -1, 0, 0}, killed = {-1, -1, -1, -1, 0, 0};
static pthread_mutex_t trials_lock = PTHREAD_MUTEX_INITIALIZER;

static struct trial exchange(struct trial *place, struct trial new) {
    pthread_mutex_lock(&trials_lock);
    struct trial old = *place;
    *place = new;
    pthread_mutex_unlock(&trials_lock);
    return old;
}

static bool can_try(void) {
    bool in_main_program = false;
    dl_iterate_phdr(is_in_main_program, &in_main_program);
    return in_main_program;
}

void creload_trial_dismiss(void) {
    struct trial waiting = exchange(&spare, no_trial), old = exchange(&killed, no_trial);
    end(&waiting);
    end(&old);
}

void creload_trial_prepare(const char *environment) {
    struct trial new = no_trial, old = exchange(&killed, no_trial);
    end(&old);
    pthread_mutex_lock(&trials_lock);
    bool is_there = spare.process > 0;
    pthread_mutex_unlock(&trials_lock);
    if (is_there || !can_try()) return;
    if (start(&new, environment) == 0) new = exchange(&spare, new); /* another thread may have done the same meanwhile
    */
    end(&new);
}

/* A descriptor that reads as `bytes`, or -1. */
static int in_memory(reload_slice bytes) {
    int descriptor = memfd_create("reload-state", MFD_CLOEXEC);
    for (size_t done = 0; descriptor >= 0 && done < bytes.count;) {
        ssize_t count = write(descriptor, bytes.bytes + done, bytes.count - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) close_open(&descriptor);
        else done += (size_t)count;
    }
    return descriptor;
}

/* 0, or the error number. */
static int send_packet(int socket, const struct request *request, size_t size, int state) {
    union one_descriptor beside = {
        {.cmsg_len = CMSG_LEN(sizeof state), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec bytes = {(void *)request, size};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (state >= 0) {
        memcpy(CMSG_DATA(&beside.header), &state, sizeof state);
        message.msg_control = &beside;
        message.msg_controllen = sizeof beside;
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size ? 0 : errno;
}

/* Sends it to the process that waits, else to a new one; 0, or the error number. */
static int send_request(
    struct trial *trial, const char *names, const struct request *request, size_t size, int state, bool *was_waiting) {
    *trial = exchange(&spare, no_trial);
    *was_waiting = trial->process > 0 && trial->user == geteuid() && trial->group == getegid() &&
                   send_packet(trial->request, request, size, state) == 0;
    if (*was_waiting) return 0;
    end(trial);
    int result = start(trial, names);
    return result == 0 ? send_packet(trial->request, request, size, state) : result;
}

/* So much of the candidate's output, in pieces of 1 KiB, is read at a time: what a pipe holds. */
#define OUTPUT_CHUNKS 64

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

/* One trial. True: it was worked on by a process that had waited. */
static bool try_once(const char *path, const creload_trial_terms *terms, creload_trial_result *result) {
    memset(result, 0, sizeof *result);
    result->verdict = CRELOAD_TRIAL_VERDICT_UNAVAILABLE;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t seconds = terms->timeout_milliseconds / 1000 + 1;
    struct request request = {
        .memory_bytes = terms->memory_bytes,
        .seconds = seconds,
        .cpu_seconds = seconds * (uint32_t)(processors > 0 ? processors : 1),
        .state_schema = terms->state_schema};
    size_t length = strlen(path);
    struct trial trial = no_trial;
    struct verdict verdict;
    size_t received = 0;
    int exit_descriptor = -1, status = 0, state = -1;
    bool has_ended = false, is_late = false, is_decided = false, was_waiting = false, is_flooding = false;
    result->detail = length < sizeof request.path ? 0 : ENAMETOOLONG;
    if (result->detail == 0 && getrandom(request.nonce, NONCE_SIZE, 0) != NONCE_SIZE) result->detail = errno;
    if (result->detail == 0 && terms->state.count > 0 && (state = in_memory(terms->state)) < 0)
        result->detail = errno;
    if (result->detail == 0) {
        memcpy(request.path, path, length + 1);
        result->detail = send_request(
            &trial, terms->environment, &request, offsetof(struct request, path) + length + 1, state, &was_waiting);
    }
    close_open(&state);
    if (result->detail != 0) {
        end(&trial);
        return false;
    }
    /* Without pidfd_open (before Linux 5.3) the end of the process is asked for every 20 ms. */
    exit_descriptor = (int)syscall(SYS_pidfd_open, trial.process, 0);
    int64_t deadline = milliseconds_now() + terms->timeout_milliseconds;
    while (!has_ended && !is_late && !is_decided) {
        int64_t rest = deadline - milliseconds_now();
        if (rest < 0) rest = 0;
        struct pollfd watched[] = {
            {is_flooding ? -1 : trial.output, POLLIN, 0}, {trial.verdict, POLLIN, 0}, {exit_descriptor, POLLIN, 0}};
        int wait = exit_descriptor >= 0 || rest < 20 ? (int)rest : 20;
        if (is_flooding && wait > 1) wait = 1;
        poll(watched, 3, wait);
        /* Its number stays its own until its process group is killed. ECHILD: the service reaps all children itself or
           ignores SIGCHLD. Then the verdict alone speaks. */
        siginfo_t information = {0};
        int waited = waitid(P_PID, (id_t)trial.process, &information, WEXITED | WNOHANG | WNOWAIT);
        has_ended = waited == 0 ? information.si_pid == trial.process : errno == ECHILD;
        /* What came before the end is still there after it; not more, or one that never stops would keep us here. Its
           output waits then: it shall not keep a processor of the service busy. */
        int chunks = 0;
        while (chunks < OUTPUT_CHUNKS && trial.output >= 0) {
            if (poll(&(struct pollfd){trial.output, POLLIN, 0}, 1, 0) <= 0) break;
            if (!keep_tail(trial.output, result->output, sizeof result->output)) close_open(&trial.output);
            chunks++;
        }
        is_flooding = chunks == OUTPUT_CHUNKS;
        while (trial.verdict >= 0 && received < sizeof verdict) {
            ssize_t got = read(trial.verdict, (uint8_t *)&verdict + received, sizeof verdict - received);
            if (got == 0) close_open(&trial.verdict);
            if (got <= 0) break;
            received += (size_t)got;
        }
        if (received == sizeof verdict) {
            is_decided = memcmp(verdict.nonce, request.nonce, NONCE_SIZE) == 0;
            close_open(&trial.verdict);
        }
        is_late = !has_ended && milliseconds_now() >= deadline;
    }
    kill(-trial.process, SIGKILL);
    if (!has_ended) kill(trial.process, SIGKILL);
    if (has_ended) {
        while (waitpid(trial.process, &status, 0) < 0 && errno == EINTR) {}
        trial.process = -1;
    }
    if (is_decided) {
        verdict.failure.text[sizeof verdict.failure.text - 1] = 0;
        result->failure = verdict.failure;
        result->unconfined = verdict.unconfined;
        result->verdict =
            verdict.failure.step == CRELOAD_TRIAL_STEP_DONE ? CRELOAD_TRIAL_VERDICT_PASSED : CRELOAD_TRIAL_VERDICT_FAILED;
    } else if (is_late) {
        result->verdict = CRELOAD_TRIAL_VERDICT_TIMED_OUT;
    } else if (WIFSIGNALED(status)) {
        result->verdict = CRELOAD_TRIAL_VERDICT_CRASHED;
        result->detail = WTERMSIG(status);
    } else {
        result->verdict = CRELOAD_TRIAL_VERDICT_EXITED;
        result->detail = WEXITSTATUS(status);
    }
    close_open(&exit_descriptor);
    if (trial.process > 0) trial = exchange(&killed, trial);
    end(&trial);
    return was_waiting;
}

void creload_trial_run(const char *path, const creload_trial_terms *terms, creload_trial_result *result) {
    memset(result, 0, sizeof *result);
    result->verdict = CRELOAD_TRIAL_VERDICT_UNAVAILABLE;
    if (!can_try()) return;
    bool was_waiting = try_once(path, terms, result);
    /* One that has waited may know another environment than the service has by now: nothing is held against a candidate that a
       new one has not seen fail. */
    if (was_waiting && result->verdict != CRELOAD_TRIAL_VERDICT_PASSED && result->verdict != CRELOAD_TRIAL_VERDICT_TIMED_OUT)
        try_once(path, terms, result);
}
