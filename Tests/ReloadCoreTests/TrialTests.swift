import Foundation
import Logging
import ReloadCore
import ReloadProtocol
import Synchronization
import Testing

/// Plugins that do what they must not. Each is one attempt that failed, with a stable code and the end of its output.
@Suite(.timeLimit(.minutes(5))) struct TrialTests {
    /// What a candidate does, and what is said of it.
    struct Attack: Sendable, CustomTestStringConvertible {
        let name: String
        var top = ""
        var create = ""
        var selfTest = "return RELOAD_OK;"
        var code = ReloadCode.pluginVetCrashed
        /// Parts of the report's message.
        var says: [String] = []

        var testDescription: String { name }
        var source: String {
            PluginSource.good(version: "bad", selfTest: selfTest, top: Self.include + "\n" + top, create: create)
        }

        static let include = """
            #include <dirent.h>
            #include <errno.h>
            #include <fcntl.h>
            #include <pthread.h>
            #include <sched.h>
            #include <sys/ioctl.h>
            #include <sys/ipc.h>
            #include <sys/mman.h>
            #include <sys/mount.h>
            #include <sys/prctl.h>
            #include <sys/ptrace.h>
            #include <sys/resource.h>
            #include <sys/shm.h>
            #include <sys/socket.h>
            #include <sys/stat.h>
            #include <sys/syscall.h>
            #include <sys/uio.h>
            #include <sys/xattr.h>
            // In the process of the tests exit(0) would look as if they had passed.
            static int in_trial(void) {
                char name[16];
                prctl(PR_GET_NAME, name);
                return strcmp(name, "reload-vet") == 0;
            }
            """
    }

    /// The candidate is tried beside `one`, which serves before and after.
    private func attempt(_ attack: Attack, _ trial: Trial = Trial(timeout: .seconds(20))) async throws {
        var trial = trial
        if attack.code == .pluginVetTimedOut { trial.timeout = .seconds(6) }
        let scene = try Scene(trial: trial)
        let parser = try scene.parser()
        _ = try scene.compile(attack.source, to: "bad.so")
        let report = try await scene.apply("parser", 1, kind: "plugin", more: #","path":"bad.so""#)
        #expect(report.code == attack.code, "\(report.message)")
        for text in attack.says { #expect(report.message.contains(text), "\(report.message)") }
        #expect(try parser.text() == "one")
        #expect(report.modules.first?.running?.revision == 0)
    }

    // MARK: Ends and never ends

    private static let constructor = "__attribute__((constructor)) static void early(void)"

    static let ends = [
        Attack(
            name: "crash in a constructor", top: "\(constructor) { fputs(\"last words\", stderr); raise(SIGSEGV); }",
            says: ["signal 11", "its output ends: last words"]),
        Attack(
            name: "crash in create", create: #"fputs("last words", stderr); raise(SIGSEGV);"#,
            says: ["signal 11", "its output ends: last words"]),
        Attack(
            name: "exit(0) in a constructor",
            top: #"\#(constructor) { fputs("last words", stderr); exit(!in_trial()); }"#,
            says: ["exit status ", "its output ends: last words"]),
        Attack(
            name: "_exit(0) from a thread",
            top: """
                static void *leave(void *nothing) { fputs("last words", stderr); _exit(!in_trial()); }
                """,
            selfTest: "pthread_t thread; pthread_create(&thread, 0, leave, 0); for (;;) pause();",
            says: ["exit status 0", "its output ends: last words"]),
        Attack(
            name: "hang in a constructor", top: #"\#(constructor) { fputs("last words", stderr); for (;;) pause(); }"#,
            code: .pluginVetTimedOut, says: ["its output ends: last words"]),
        Attack(
            name: "hang in create", create: #"fputs("last words", stderr); for (;;) pause();"#,
            code: .pluginVetTimedOut, says: ["its output ends: last words"]),
        Attack(
            name: "hang in self_test, with signals blocked",
            selfTest: """
                sigset_t all; sigfillset(&all); sigprocmask(SIG_BLOCK, &all, 0);
                fputs("last words", stderr); for (;;) pause();
                """,
            code: .pluginVetTimedOut, says: ["its output ends: last words"]),
        Attack(
            name: "output without end",
            selfTest: #"for (;;) if (write(1 + rand() % 2, "\e[31mred\xff\n", 10) < 0) abort();"#,
            code: .pluginVetTimedOut, says: [#"\u{1B}[31mred"# + "\u{FFFD}" + #"\n\u{1B}[31m"#]),
        Attack(
            name: "forged verdicts on all descriptors",
            // Of its size, with the step that says that all is done, and without the nonce.
            selfTest: """
                char forged[1052] = {0}; forged[20] = 7;
                for (int i = 0; i < 1024; i++) if (i != 1 && i != 2) write(i, forged, sizeof forged);
                fputs("last words", stderr); _exit(!in_trial());
                """,
            says: ["exit status 0", "its output ends: last words"]),
        Attack(
            name: "all descriptors closed", selfTest: "for (int i = 0; i < 1024; i++) close(i); return RELOAD_OK;",
            says: ["exit status 2"]),
    ]

    @Test(arguments: ends) func endsOrNeverEnds(_ attack: Attack) async throws { try await attempt(attack) }

    // MARK: Takes too much

    /// The sanitizers' shadow memory counts as the plugin's, so a trial under them has no limit.
    static let isSanitized = unsafe dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil

    @Test(
        .enabled(if: !isSanitized),
        arguments: [
            ("private", "malloc(1 << 20)"),
            ("shared", "mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)"),
        ])
    func endlessAllocation(kind: String, allocation: String) async throws {
        let attack = Attack(
            name: kind,
            selfTest: """
                for (int taken = 0; taken < 1024; taken++) {
                    void *block = \(allocation);
                    if (!block || block == MAP_FAILED) {
                        fprintf(stderr, "%s", taken < 32 ? "early" : taken <= 128 ? "in time" : "late");
                        abort();
                    }
                    memset(block, 1, 1 << 20);
                }
                return RELOAD_OK;
                """,
            says: ["its output ends: in time"])
        try await attempt(attack, Trial(timeout: .seconds(20), memoryLimit: 64 << 20))
    }

    @Test func manyOpenFiles() async throws {
        try await attempt(
            Attack(
                name: "files",
                selfTest: """
                    int count = 0;
                    while (open("/dev/null", O_RDONLY) >= 0) count++;
                    fprintf(stderr, "%d files", count); abort();
                    """, says: ["its output ends: 1019 files"]))
    }

    @Test func largeFilesAndCores() async throws {
        try await attempt(
            Attack(
                name: "limits",
                selfTest: """
                    struct rlimit file, core;
                    getrlimit(RLIMIT_FSIZE, &file); getrlimit(RLIMIT_CORE, &core);
                    fprintf(stderr, "file %lu core %lu dumpable %d", file.rlim_max, core.rlim_max, prctl(PR_GET_DUMPABLE));
                    abort();
                    """, says: ["its output ends: file 67108864 core 0 dumpable 0"]))
    }

    /// No limit holds for root's. The sanitizers bear no thread that cannot be made.
    @Test(.enabled(if: !isSanitized)) func threadBomb() async {
        await #expect(processExitsWith: .success) {
            if geteuid() == 0 { try #require(setgid(65534) == 0 && setuid(65534) == 0) }
            let attack = Attack(
                name: "threads", top: "static void *stay(void *nothing) { for (;;) pause(); }",
                selfTest: """
                    long all = 0;
                    FILE *load = fopen("/proc/loadavg", "r");
                    if (!load || fscanf(load, "%*s %*s %*s %*d/%ld", &all) != 1) abort();
                    pthread_attr_t small;
                    pthread_attr_init(&small);
                    pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN);
                    pthread_t thread;
                    int count = 0;
                    while (count < all + 2000 && pthread_create(&thread, &small, stay, 0) == 0) count++;
                    // Others start and end meanwhile.
                    fprintf(stderr, "%s", count < 100 ? "early" : count < all + 1500 ? "in time" : "late");
                    abort();
                    """, says: ["its output ends: in time"])
            try await TrialTests().attempt(attack)
        }
    }

    /// Some libraries send their output there, by freopen too.
    @Test func theNullDeviceMayBeOpenedAsAlways() async throws {
        try await attempt(
            Attack(
                name: "null device",
                selfTest: """
                    if (fopen("/dev/null", "w") && creat("/dev/null", 0600) >= 0) fputs("opened", stderr);
                    abort();
                    """,
                says: ["its output ends: opened"]))
    }

    // MARK: Reaches out

    /// Expressions of C that must be -1, for lack of a right. `file` is a file in `folder`.
    static let calls: [(what: String, calls: [String])] = [
        (
            "the network",
            [
                "socket(AF_INET, SOCK_STREAM, 0)", "socket(AF_INET6, SOCK_DGRAM, 0)", "socket(AF_UNIX, SOCK_STREAM, 0)",
                "socketpair(AF_UNIX, SOCK_DGRAM, 0, (int[2]){0})",
                "connect(4, (struct sockaddr *)&(short[8]){AF_UNIX}, 16)",
                "bind(4, (struct sockaddr *)&(short[8]){AF_UNIX}, 16)",
                "syscall(425, 8, calloc(1, 120))",  // io_uring_setup
            ]
        ),
        (
            "another process",
            [
                "fork()", "vfork()", "syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)",
                "syscall(435, &(uint64_t[8]){[4] = SIGCHLD}, 64)",  // clone3
                #"execl("/bin/true", "true", (char *)0)"#,
                #"syscall(SYS_execveat, AT_FDCWD, "/bin/true", (char *[]){"true", 0}, 0, 0)"#,
                "setpgid(0, getpgid(getppid()))",
            ]
        ),
        (
            "a signal to the service, and rights over it",
            [
                "kill(getppid(), SIGURG)", "kill(0, SIGURG)", "kill(-1, 0)", "tgkill(getppid(), getppid(), SIGURG)",
                "syscall(SYS_tkill, getppid(), SIGURG)",
                "syscall(SYS_rt_sigqueueinfo, getppid(), SIGURG, &(siginfo_t){.si_code = SI_QUEUE})",
                "syscall(SYS_rt_tgsigqueueinfo, getppid(), getppid(), SIGURG, &(siginfo_t){.si_code = SI_QUEUE})",
                "syscall(424, syscall(434, getppid(), 0), SIGURG, 0, 0)",  // pidfd_send_signal
                "syscall(438, syscall(434, getpid(), 0), 1, 0)",  // pidfd_getfd
                "fcntl(4, F_SETOWN, getppid())", "fcntl(4, F_SETSIG, SIGKILL)",
                "fcntl(4, F_SETOWN_EX, &(int[2]){1, getppid()})",
                "ioctl(4, 0x8901, &(int){getppid()})",  // FIOSETOWN
                "ioctl(4, 0x8902, &(int){getppid()})",  // SIOCSPGRP
                #"ioctl(0, TIOCSTI, "x")"#,
                "prlimit(getppid(), RLIMIT_NOFILE, 0, &(struct rlimit){0})",
                "sched_setaffinity(getppid(), sizeof(cpu_set_t), &(cpu_set_t){.__bits = {3}})",
                "sched_setscheduler(getppid(), SCHED_OTHER, &(struct sched_param){0})",
                "sched_setparam(getppid(), &(struct sched_param){0})",
                "syscall(SYS_sched_setattr, getppid(), &(uint32_t[12]){48}, 0)",
                "syscall(SYS_ioprio_set, 1, getppid(), 0x4004)",
                "setpriority(PRIO_PROCESS, getppid(), getpriority(PRIO_PROCESS, getppid()))",
                "ptrace(PTRACE_SEIZE, getppid(), 0, 0)", "ptrace(PTRACE_TRACEME, 0, 0, 0)",
                "process_vm_readv(getppid(), &(struct iovec){0}, 1, &(struct iovec){0}, 1, 0)",
                "process_vm_writev(getppid(), &(struct iovec){0}, 1, &(struct iovec){0}, 1, 0)",
            ]
        ),
        (
            "what the service knows",
            [
                #"opened("/proc/%d/environ", O_RDONLY)"#, #"opened("/proc/%d/mem", O_RDWR)"#,
                #"opened("/proc/%d/maps", O_RDONLY)"#,
            ]
        ),
        (
            "files, and memory that is none of the plugin's",
            [
                "open(file, O_WRONLY)", "open(file, O_RDWR | O_TRUNC)", "truncate(file, 0)",
                // What is for reading only Landlock lets pass before Linux 6.2.
                "filtered(open(file, O_RDONLY | O_TRUNC))", "filtered(open(file, O_ACCMODE | O_TRUNC))",
                "filtered(syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_TRUNC | O_NONBLOCK))",
                "filtered(syscall(437, AT_FDCWD, file, &(uint64_t[3]){O_TRUNC}, 24))",  // openat2
                "unlink(file)",
                #"rename(file, "FOLDER/other")"#, #"link(file, "FOLDER/other")"#, #"symlink(file, "FOLDER/other")"#,
                #"mkdir("FOLDER/other", 0700)"#, #"mkfifo("FOLDER/other", 0600)"#,
                #"open("FOLDER/other", O_CREAT | O_WRONLY, 0600)"#,
                #"open("FOLDER", O_TMPFILE | O_WRONLY, 0600)"#, "chmod(file, 0600)",
                "fchmodat(AT_FDCWD, file, 0600, 0)",
                "fchmod(open(file, O_RDONLY), 0600)", "syscall(452, AT_FDCWD, file, 0600, 0)",  // fchmodat2
                "chown(file, -1, -1)", "lchown(file, -1, -1)", "fchown(open(file, O_RDONLY), -1, -1)",
                "fchownat(AT_FDCWD, file, -1, -1, 0)", "utimensat(AT_FDCWD, file, 0, 0)",
                #"setxattr(file, "user.reload", "", 0, 0)"#, #"lsetxattr(file, "user.reload", "", 0, 0)"#,
                #"fsetxattr(open(file, O_RDONLY), "user.reload", "", 0, 0)"#, #"removexattr(file, "user.reload")"#,
                #"lremovexattr(file, "user.reload")"#, #"fremovexattr(open(file, O_RDONLY), "user.reload")"#,
                #"syscall(463, AT_FDCWD, file, 0, "user.reload", &(uint64_t[2]){0}, 16)"#,  // setxattrat
                #"syscall(466, AT_FDCWD, file, 0, "user.reload")"#,  // removexattrat
                "syscall(469, AT_FDCWD, file, &(uint64_t[3]){0}, 24, 0)",  // file_setattr
                "ioctl(open(file, O_RDONLY), 0x40086602, &(long){0})",  // FS_IOC_SETFLAGS
                "ioctl(open(file, O_RDONLY), 0x40087602, &(long){0})",  // FS_IOC_SETVERSION
                "ioctl(open(file, O_RDONLY), 0x401c5820, &(uint32_t[7]){0})",  // FS_IOC_FSSETXATTR
                "memfd_create(file, 0)", "syscall(447, 0)",  // memfd_secret
                "shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600)", "(long)shmat(-1, 0, 0)", "shmctl(-1, IPC_RMID, 0)",
                "syscall(SYS_semget, IPC_PRIVATE, 1, 0600)", "syscall(SYS_semop, -1, file, 1)",
                "syscall(SYS_semtimedop, -1, file, 1, 0)", "syscall(SYS_semctl, -1, 0, IPC_RMID, 0)",
                "syscall(SYS_msgget, IPC_PRIVATE, 0600)", "syscall(SYS_msgsnd, -1, file, 1, 0)",
                "syscall(SYS_msgrcv, -1, 0, 0, 0, 0)", "syscall(SYS_msgctl, -1, IPC_RMID, 0)",
                #"syscall(SYS_mq_open, "reload", O_RDONLY, 0, 0)"#, #"syscall(SYS_mq_unlink, "reload")"#,
            ]
        ),
        (
            "the machine",
            [
                "unshare(CLONE_NEWUSER)", "syscall(SYS_bpf, 0, 0, 0)", "syscall(SYS_perf_event_open, 0, 0, 0, 0, 0)",
                "syscall(SYS_keyctl, 0, -3, 0)", "syscall(SYS_add_key, 0, 0, 0, 0, -3)",
                "syscall(SYS_request_key, 0, 0, 0, 0)",
                "syscall(SYS_open_by_handle_at, -1, 0, 0)",
            ]
        ),
        ("the same by older calls", callsOfThisProcessor),
        (
            "what a service that runs as root may do",
            [
                #"mount("none", "/", 0, 0, 0)"#, #"chroot("/")"#, #"sethostname("x", -1)"#,
            ]
        ),
    ]

    #if arch(x86_64)
        private static let callsOfThisProcessor = [
            "filtered(syscall(SYS_open, file, O_RDONLY | O_TRUNC))", "syscall(SYS_fork)", "syscall(SYS_utime, file, 0)",
            "syscall(SYS_utimes, file, 0)",
            "syscall(SYS_futimesat, AT_FDCWD, file, 0)",
            "syscall(0x40000000 + SYS_getppid)",  // x32
        ]
    #else
        private static let callsOfThisProcessor: [String] = []
    #endif

    @Test(arguments: calls) func reachesOut(what: String, calls: [String]) async throws {
        let scene = try Scene(trial: Trial(timeout: .seconds(20)))
        let parser = try scene.parser()
        let folder = scene.folder.appendingPathComponent("artifacts").path
        let file = try scene.write("kept", to: "file")
        let attack = Attack(
            name: what,
            top: """
                static const char *file = "\(file)";
                static int opened(const char *format, int flags) {
                    char path[64];
                    snprintf(path, sizeof path, format, getppid());
                    return open(path, flags);
                }
                // Landlock says EACCES; what the filter refuses does not come that far.
                static long filtered(long result) { return result == -1 && errno != EACCES ? -1 : 0; }
                static int allowed;
                #define TRY(...) do { \\
                    errno = 0; \\
                    if ((__VA_ARGS__) == -1 && (errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EXDEV)) break; \\
                    allowed++; \\
                    fputs("allowed: " #__VA_ARGS__ "; ", stderr); \\
                } while (0)
                """,
            selfTest: calls.map { "TRY(\($0.replacing("FOLDER", with: folder)));\n" }.joined()
                + #"if (!allowed) fputs("all refused", stderr); abort();"#)
        _ = try scene.compile(attack.source, to: "bad.so")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        let report = try await scene.apply("parser", 1, kind: "plugin", more: #","path":"bad.so""#)
        #expect(report.code == .pluginVetCrashed, "\(report.message)")
        #expect(report.message.hasSuffix("its output ends: all refused"), "\(report.message)")
        #expect(try parser.text() == "one")
        #expect(try String(contentsOfFile: file, encoding: .utf8) == "kept")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == files)
    }

    // MARK: Sees and leaves

    /// In a process of its own, whose variables and descriptors are known.
    @Test func passwordsInTheEnvironment() async {
        await #expect(processExitsWith: .success) {
            unsafe setenv("CRAWLER_PASSWORD", "hunter2", 1)
            unsafe setenv("AMQP_URL", "amqp://crawler:hunter2@localhost", 1)
            unsafe setenv("CRAWLER_MODE", "strict", 1)
            unsafe setenv("LC_MESSAGES", "C", 1)
            let attack = Attack(
                name: "environment", top: "extern char **environ;",
                selfTest: """
                    for (char **each = environ; *each; each++) if (strstr(*each, "hunter2")) return RELOAD_OK;
                    fprintf(stderr, "%s %s %s", getenv("LC_MESSAGES"), getenv("PATH") ? "path" : "", getenv("CRAWLER_MODE"));
                    abort();
                    """, says: ["its output ends: C path strict"])
            try await TrialTests().attempt(
                attack, Trial(timeout: .seconds(20), environment: ["CRAWLER", "CRAWLER_MODE"]))
        }
    }

    @Test func descriptorsOfTheService() async {
        await #expect(processExitsWith: .success) {
            // One that any process it starts would inherit.
            #expect(fcntl(0, F_DUPFD, 100) >= 100)
            let attack = Attack(
                name: "descriptors",
                selfTest: """
                    for (int i = 0; i < 1024; i++) if (fcntl(i, F_GETFD) >= 0) fprintf(stderr, "%d ", i);
                    fputs("end", stderr); abort();
                    """, says: ["its output ends: 0 1 2 3 4 end"])
            try await TrialTests().attempt(attack)
        }
    }

    @Test func nothingIsLeftOfThem() async {
        await #expect(processExitsWith: .success) {
            // Tests that run beside this one have such processes too.
            let left = "left-\(getpid())"
            let more = [
                Attack(
                    name: "daemon", selfTest: #"prctl(PR_SET_NAME, "\#(left)"); daemon(0, 0); sleep(60);"#,
                    code: .pluginVetTimedOut),
                Attack(
                    name: "fork bomb",
                    selfTest:
                        #"prctl(PR_SET_NAME, "\#(left)"); if (fork() < 0) write(1, "no more", 7); for (;;) fork();"#,
                    code: .pluginVetTimedOut, says: ["its output ends: no more"]),
                Attack(name: "shell", selfTest: #"system("sleep 60 &"); sleep(60);"#, code: .pluginVetTimedOut),
                Attack(name: "file", selfTest: #"fopen("left", "w"); abort();"#),
            ]
            /// What a trial has of them; Foundation, which starts the compiler, opens others.
            func descriptors() throws -> Int {
                try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { number in
                    let path = "/proc/self/fd/\(number)"
                    let file = (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) ?? ""
                    return ["socket:", "pipe:", "anon_inode:[pidfd]", "/memfd:"].contains { file.hasPrefix($0) }
                }
            }
            func attempt(_ attack: Attack) async throws {
                let timeout = Duration.seconds(attack.code == .pluginVetTimedOut ? 6 : 20)
                let scene = try Scene(trial: Trial(timeout: timeout))
                let parser = try scene.parser()
                _ = try scene.compile(attack.source, to: "bad.so")
                let report = try await scene.apply("parser", 1, kind: "plugin", more: #","path":"bad.so""#)
                #expect(report.state == .failed && report.code == attack.code, "\(attack.name): \(report.message)")
                #expect(attack.says.allSatisfy { report.message.contains($0) }, "\(attack.name): \(report.message)")
                #expect(try parser.text() == "one")
                scene.reloader.stop(grace: .seconds(60))
                scene.reloader.close()
                #expect(try scene.files(in: "artifacts").count <= 2)
            }
            func attempt(_ attacks: [Attack]) async throws {
                try await withThrowingTaskGroup { group in
                    // Most of them wait to be timed out.
                    for attack in attacks { group.addTask { try await attempt(attack) } }
                    try await group.waitForAll()
                }
            }
            #expect(FileManager.default.changeCurrentDirectoryPath(NSTemporaryDirectory()))
            // What the process opens once and for all.
            try await attempt(more[3])
            let before = try descriptors()
            try await attempt(Self.ends + more)
            #expect(try descriptors() <= before)
            #expect(!FileManager.default.fileExists(atPath: "left"))
            // No child, not even a dead one, and no child of a child.
            #expect(waitpid(-1, nil, WNOHANG) == -1 && errno == ECHILD)
            for process in try FileManager.default.contentsOfDirectory(atPath: "/proc") {
                let name = try? String(contentsOfFile: "/proc/\(process)/comm", encoding: .utf8)
                #expect(name != "\(left)\n")
            }
        }
    }

    /// The kernel of some containers refuses both; then it is said once, and plugins are tried all the same.
    @Test func aKernelThatConfinesNothing() async {
        await #expect(processExitsWith: .success) {
            // The filter lasts and is inherited: seccomp(2) and landlock_create_ruleset(2) are answered with ENOSYS.
            let filter = """
                #include <errno.h>
                #include <linux/filter.h>
                #include <linux/seccomp.h>
                #include <stddef.h>
                #include <sys/prctl.h>
                #include <sys/syscall.h>
                __attribute__((constructor)) static void forbid(void) {
                    struct sock_filter code[] = {
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 1, 0),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
                    struct sock_fprog program = {5, code};
                    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) __builtin_trap();
                }
                """
            let lines = Lines()
            let scene = try Scene(trial: Trial(timeout: .seconds(20)), logger: lines.logger)
            let library = try scene.compile(filter, to: "filter.so")
            try #require(unsafe dlopen(library, RTLD_NOW) != nil)
            let parser = try scene.parser()
            _ = try scene.compile(PluginSource.good(version: "two"), to: "two.so")
            let two = try await scene.apply("parser", 1, kind: "plugin", more: #","path":"two.so""#)
            #expect(two.state == .applied, "\(two.message)")
            _ = try scene.compile(PluginSource.good(version: "three", selfTest: "abort();"), to: "three.so")
            let three = try await scene.apply("parser", 2, kind: "plugin", more: #","path":"three.so""#)
            #expect(three.code == .pluginVetCrashed)
            #expect(try parser.text() == "two")
            let said = lines.all.withLock { $0.filter { $0.contains("confinement") } }
            #expect(said.count == 1)
            #expect(said.first?.contains("seccomp") == true && said.first?.contains("Landlock") == true, "\(said)")
        }
    }

    @Test func aConfinedTrialIsNothingToLog() async {
        await #expect(processExitsWith: .success) {
            let lines = Lines()
            _ = try Scene(trial: Trial(timeout: .seconds(20)), logger: lines.logger).parser()
            #expect(lines.all.withLock { $0.filter { $0.contains("confinement") } } == [])
        }
    }

    private final class Lines: Sendable {
        let all = Mutex<[String]>([])

        var logger: Logger { Logger(label: "test") { _ in Handler(lines: self) } }

        struct Handler: LogHandler {
            let lines: Lines
            var metadata: Logger.Metadata = [:]
            var logLevel = Logger.Level.warning

            subscript(metadataKey key: String) -> Logger.Metadata.Value? {
                get { metadata[key] }
                set { metadata[key] = newValue }
            }

            func log(event: LogEvent) {
                lines.all.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
            }
        }
    }

    // MARK: Takes over the state

    static let heirs = [
        ("raise(SIGSEGV);", ReloadCode.pluginVetCrashed, "signal 11"),
        ("exit(!in_trial());", .pluginVetCrashed, "exit status 0"),
        ("for (;;) pause();", .pluginVetTimedOut, "6.0 seconds"),
        (#"say(error, "not mine"); return RELOAD_STATE_REFUSED;"#, .pluginStateRefused, "not mine"),
        // It takes the state and does not work with it.
        ("broken = 1; return RELOAD_OK;", .pluginSelfTestFailed, "broken by its state"),
    ]

    @Test(arguments: heirs) func theStateBreaksIt(restore: String, code: ReloadCode, reason: String) async throws {
        let scene = try Scene(trial: Trial(timeout: code == .pluginVetTimedOut ? .seconds(6) : .seconds(20)))
        let parser = try scene.parser(schema: 1)
        for _ in 0..<41 { _ = try parser.text() }
        let source = PluginSource.good(
            version: "two", selfTest: #"if (broken) say(error, "broken by its state"); return broken;"#,
            top: Attack.include + "\nstatic int broken;", schema: 2,
            restore: #"fprintf(stderr, "%zu bytes of %u: %d", state.count, schema, state.bytes[0]); \#(restore)"#)
        _ = try scene.compile(source, to: "two.so")
        let report = try await scene.apply("parser", 1, kind: "plugin", more: #","path":"two.so""#)
        #expect(report.code == code, "\(report.message)")
        #expect(report.message.contains(reason), "\(report.message)")
        // It was the trial that found it, with the state the service has now.
        #expect(report.message.contains("its output ends: 8 bytes of 1: 41"), "\(report.message)")
        #expect(try parser.text() == "one")
    }

    @Test func aLargeStateIsNotCountedAsTheCandidates() async throws {
        let scene = try Scene(trial: Trial(timeout: .seconds(20), memoryLimit: 16 << 20))
        let megabytes = "static uint8_t block[1 << 20];"
        let state =
            "memset(block, 7, sizeof block); for (int i = 0; i < 64; i++) out->write(out->context, block, sizeof block);"
        let one = PluginSource.good(version: "one", top: megabytes, schema: 1, snapshot: "\(state) return RELOAD_OK;")
        let two = PluginSource.good(
            version: "two", schema: 1,
            restore: "return state.count == 64 << 20 && state.bytes[(64 << 20) - 1] == 7 ? RELOAD_OK : RELOAD_FAILED;")
        let parser = try scene.reloader.plugin("parser", file: try scene.compile(one, to: "one.so"))
        _ = try scene.compile(two, to: "two.so")
        let report = try await scene.apply("parser", 1, kind: "plugin", more: #","path":"two.so""#)
        #expect(report.state == .applied, "\(report.message)")
        #expect(try parser.text() == "two")
    }
}
