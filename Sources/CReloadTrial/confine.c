#define _GNU_SOURCE
#include "confine.h"
#include "CReloadTrial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Arguments of system calls are read by their lower half."
#endif

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "Tell the audit architecture of this processor here."
#endif

/* Since pidfd_send_signal a new system call has one number on all architectures; older headers lack the later ones. */
enum {
    call_pidfd_send_signal = 424, call_io_uring_setup = 425, call_clone3 = 435, call_openat2 = 437,
    call_pidfd_getfd = 438, call_landlock_create_ruleset = 444, call_landlock_add_rule = 445,
    call_landlock_restrict_self = 446, call_memfd_secret = 447, call_fchmodat2 = 452, call_setxattrat = 463,
    call_removexattrat = 466, call_file_setattr = 469,
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* Skips `next` instructions unless the loaded number is `value`. */
#define UNLESS(value, next) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, next)
#define IF(value, next) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), next, 0)

#define REFUSE(call) UNLESS(call, 1), ANSWER(EPERM)
/* Allowed with one of two values of an argument. */
#define ONLY_WITH(call, argument, a, b) UNLESS(call, 5), LOAD(args[argument]), IF(a, 2), IF(b, 1), ANSWER(EPERM), ALLOW
/* Refused with one of three; another rule for the same call may follow. */
#define NOT_WITH(call, argument, a, b, c)                                                                              \
    UNLESS(call, 6), LOAD(args[argument]), IF(a, 2), IF(b, 1), UNLESS(c, 1), ANSWER(EPERM), LOAD(nr)
/* Refused when its flags truncate without opening for writing, which Landlock would see: O_RDONLY, and the 3 that means
   neither. fopen("/dev/null", "w") has O_TRUNC too, and may. */
#define NOT_TRUNCATING(call, argument)                                                                                 \
    UNLESS(call, 6), LOAD(args[argument]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_TRUNC | O_ACCMODE),                   \
        IF(O_TRUNC | O_RDONLY, 2), IF(O_TRUNC | O_ACCMODE, 1), ALLOW, ANSWER(EPERM)

/* A list of what is refused, not of what is allowed: what libraries need when they start differs too much. EPERM, not
   the end of the process: most libraries do without. */
static bool confine_calls(void) {
    uint32_t self = (uint32_t)getpid();
    struct sock_filter filter[] = {
        LOAD(arch),
        IF(ARCHITECTURE, 1),
        ANSWER(EPERM),
        LOAD(nr),
#if defined(__x86_64__)
        /* The x32 calls have other numbers for the same. */
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
        ANSWER(EPERM),
#endif

        /* No other process, which would outlive the trial; threads are counted by their memory. clone3 hides its flags
           from a filter: without it the C library takes clone. */
        UNLESS(SYS_clone, 4),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
        ANSWER(EPERM),
        ALLOW,
        UNLESS(call_clone3, 1),
        ANSWER(ENOSYS),
#if defined(__x86_64__)
        REFUSE(SYS_fork), REFUSE(SYS_vfork),
#endif
        REFUSE(SYS_execve), REFUSE(SYS_execveat), REFUSE(SYS_setpgid),

        /* No signal to another process, also not through the owner of a descriptor, and no hand on its memory,
           descriptors, limits and priority. */
        ONLY_WITH(SYS_kill, 0, self, self),
        ONLY_WITH(SYS_tgkill, 0, self, self),
        ONLY_WITH(SYS_rt_sigqueueinfo, 0, self, self),
        ONLY_WITH(SYS_rt_tgsigqueueinfo, 0, self, self),
        REFUSE(SYS_tkill), REFUSE(call_pidfd_send_signal),
        NOT_WITH(SYS_fcntl, 1, F_SETOWN, F_SETOWN_EX, F_SETSIG),
        NOT_WITH(SYS_ioctl, 1, FIOSETOWN, SIOCSPGRP, TIOCSTI),
        /* Flags of files, for which one that can only be read is enough. */
        NOT_WITH(SYS_ioctl, 1, FS_IOC_SETFLAGS, FS_IOC_SETVERSION, FS_IOC_FSSETXATTR),
        REFUSE(SYS_ptrace), REFUSE(SYS_process_vm_readv), REFUSE(SYS_process_vm_writev), REFUSE(call_pidfd_getfd),
        ONLY_WITH(SYS_prlimit64, 0, self, 0),
        ONLY_WITH(SYS_sched_setaffinity, 0, self, 0),
        ONLY_WITH(SYS_sched_setscheduler, 0, self, 0),
        ONLY_WITH(SYS_sched_setparam, 0, self, 0),
        ONLY_WITH(SYS_sched_setattr, 0, self, 0),
        REFUSE(SYS_setpriority), REFUSE(SYS_ioprio_set),

        /* No network: no socket, and none was inherited but that of the request, which is connected. One end of a new
           pair could send to any name of this machine, /run/systemd/notify among them. io_uring makes calls that no
           filter sees. */
        REFUSE(SYS_socket), REFUSE(SYS_socketpair), REFUSE(SYS_connect), REFUSE(SYS_bind), REFUSE(call_io_uring_setup),

        /* What Landlock does not know of files (truncate before Linux 6.2), and memory that no limit counts. openat2
           hides its flags from a filter. */
        NOT_TRUNCATING(SYS_openat, 2),
#if defined(__x86_64__)
        NOT_TRUNCATING(SYS_open, 1),
#endif
        UNLESS(call_openat2, 1), ANSWER(ENOSYS),
        REFUSE(SYS_truncate), REFUSE(SYS_fchmod), REFUSE(SYS_fchmodat), REFUSE(call_fchmodat2), REFUSE(SYS_fchown),
        REFUSE(SYS_fchownat), REFUSE(SYS_utimensat), REFUSE(SYS_setxattr), REFUSE(SYS_lsetxattr), REFUSE(SYS_fsetxattr),
        REFUSE(call_setxattrat), REFUSE(SYS_removexattr), REFUSE(SYS_lremovexattr), REFUSE(SYS_fremovexattr),
        REFUSE(call_removexattrat), REFUSE(call_file_setattr), REFUSE(SYS_memfd_create), REFUSE(call_memfd_secret),
#if defined(__x86_64__)
        REFUSE(SYS_chmod), REFUSE(SYS_chown), REFUSE(SYS_lchown), REFUSE(SYS_utime), REFUSE(SYS_utimes),
        REFUSE(SYS_futimesat),
#endif
        REFUSE(SYS_shmget), REFUSE(SYS_shmat), REFUSE(SYS_shmctl), REFUSE(SYS_semget), REFUSE(SYS_semop),
        REFUSE(SYS_semtimedop), REFUSE(SYS_semctl), REFUSE(SYS_msgget), REFUSE(SYS_msgsnd), REFUSE(SYS_msgrcv),
        REFUSE(SYS_msgctl), REFUSE(SYS_mq_open), REFUSE(SYS_mq_unlink),

        /* What the kernel lets those do who have no capability, and no trial needs; the rest went with them. */
        REFUSE(SYS_unshare), REFUSE(SYS_bpf), REFUSE(SYS_perf_event_open), REFUSE(SYS_keyctl), REFUSE(SYS_add_key),
        REFUSE(SYS_request_key), REFUSE(SYS_open_by_handle_at),
        ALLOW,
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    /* All threads, if a library of the service started one before `main`. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/* The rights of <linux/landlock.h>, which older headers lack. */
enum {
    right_write = 1 << 1,
    rights_1 = right_write | 0x1ff0, /* remove and make entries of all kinds */
    right_refer = 1 << 13, right_truncate = 1 << 14,
};

struct beneath {
    uint64_t rights;
    int32_t parent;
} __attribute__((packed));

/* Nothing may be written, made or removed but what is thrown away. With the same comes that it may not look into
   processes that are not as confined: /proc/<service>/environ, mem, fd. */
static bool confine_files(void) {
    long version = syscall(call_landlock_create_ruleset, NULL, 0, 1);
    if (version < 1) return false;
    uint64_t rights = rights_1 | (version >= 2 ? right_refer : 0) | (version >= 3 ? right_truncate : 0);
    int rules = (int)syscall(call_landlock_create_ruleset, &rights, sizeof rights, 0);
    if (rules < 0) return false;
    static const char *const sinks[] = {"/dev/null", "/dev/zero"};
    for (size_t i = 0; i < sizeof sinks / sizeof *sinks; i++) {
        struct beneath rule = {right_write, open(sinks[i], O_PATH | O_CLOEXEC)};
        if (rule.parent < 0) continue;
        syscall(call_landlock_add_rule, rules, 1, &rule, 0);
        close(rule.parent);
    }
    bool is_confined = syscall(call_landlock_restrict_self, rules, 0) == 0;
    close(rules);
    return is_confined;
}

/* Of a service that runs as root, or with some of its rights, what lets it read files stays. The kernel lets a process
   with CAP_PERFMON look into others, whatever Landlock says. */
static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, sets) != 0) return;
    uint32_t kept = sets[0].permitted & 1 << CAP_DAC_READ_SEARCH;
    struct __user_cap_data_struct left[_LINUX_CAPABILITY_U32S_3] = {{kept, kept, 0}};
    syscall(SYS_capset, &header, left);
}

/* What a file of /proc says, as text. */
static bool told(const char *path, char *text, size_t capacity) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = descriptor < 0 ? -1 : read(descriptor, text, capacity - 1);
    if (descriptor >= 0) close(descriptor);
    if (count > 0) text[count] = 0;
    return count > 0;
}

static void limit(int resource, uint64_t most) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) return;
    if (most > now.rlim_max) most = now.rlim_max;
    setrlimit(resource, &(struct rlimit){most, most});
}

/* RLIMIT_DATA counts what is private and writable, where a plugin's memory is, and not the room that allocators,
   runtimes and thread stacks only reserve. Shared memory counts for RLIMIT_AS alone, as do those: hence twice as much
   there. */
static void limit_memory(uint64_t bytes) {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    (void)bytes; /* their shadow would count */
#else
    if (bytes > UINT64_MAX / 4) return;
    unsigned long long all, data;
    char text[128];
    if (!told("/proc/self/statm", text, sizeof text)) return;
    if (sscanf(text, "%llu %*u %*u %*u %*u %llu", &all, &data) != 2) return;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    limit(RLIMIT_DATA, data * page + bytes);
    limit(RLIMIT_AS, all * page + 2 * bytes);
#endif
}

/* The kernel counts all threads of the user, the service's too, and for root none. The machine has no fewer in all, and
   that number costs one file: some hundreds more are the candidate's. */
static void limit_threads(void) {
    unsigned long all = 0;
    char text[128];
    if (told("/proc/loadavg", text, sizeof text) && sscanf(text, "%*s %*s %*s %*u/%lu", &all) == 1 && all > 0)
        limit(RLIMIT_NPROC, all + 512);
}

void creload_trial_limit(uint64_t memory_bytes, uint32_t cpu_seconds) {
    limit_memory(memory_bytes);
    limit_threads();
    setrlimit(RLIMIT_CPU, &(struct rlimit){cpu_seconds, cpu_seconds + 1});
    limit(RLIMIT_NOFILE, 1024);
    limit(RLIMIT_FSIZE, 64 << 20);
    limit(RLIMIT_CORE, 0);
}

uint32_t creload_trial_confine(void) {
    /* A core that is piped to a program has no limit. */
    prctl(PR_SET_DUMPABLE, 0);
    drop_capabilities();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return CRELOAD_TRIAL_UNCONFINED_CALLS | CRELOAD_TRIAL_UNCONFINED_FILES;
    uint32_t unconfined = confine_files() ? 0 : CRELOAD_TRIAL_UNCONFINED_FILES;
    return unconfined | (confine_calls() ? 0 : CRELOAD_TRIAL_UNCONFINED_CALLS);
}
