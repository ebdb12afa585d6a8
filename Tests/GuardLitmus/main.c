/*
 * The litmus test of CReloadGuard: does a reload ever miss a call, and the call miss the reload?
 *
 *     guard-litmus begin|end fenced|unfenced|refused ROUNDS [STOP]
 *
 * In each round one thread begins (or ends) a call and another replaces the block, at about the same time. `fenced` does what
 * the agent does. `unfenced` leaves the heavy fence out, to show that this test would notice. `refused` starts itself again
 * where the kernel refuses membarrier(2). Ends after ROUNDS rounds or STOP violations and prints both, and how calls were
 * fenced: "membarrier 1000 0".
 */
#define _GNU_SOURCE
#include "CReloadGuard.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Alignas(64) creload_guard_block blocks[2][CRELOAD_GUARD_VALUE_OFFSET / sizeof(creload_guard_block)];
static _Alignas(64) creload_guard_live live;
/* Who may do what: each counts the rounds it has come to. */
static _Alignas(64) uint64_t round_ready, round_called, round_looked;
static _Alignas(64) bool is_over;
static bool at_the_end;
/* What the call found: whether it holds the old block (begin), and whether it was not told to drain. */
static bool holds_old, is_not_told;

static void wait_for(const uint64_t *round, uint64_t value) {
    for (unsigned spins = 0; __atomic_load_n(round, __ATOMIC_ACQUIRE) < value; spins++)
        if (spins > 2000) sched_yield();
}

/* So that the two meet at every distance. */
static void linger(uint64_t steps) {
    for (uint64_t i = 0; i < steps; i++) __asm__ volatile("" : : : "memory");
}

static bool is_slow;

static creload_guard_hold enter(void) {
    creload_guard_hold hold = creload_guard_enter(&live);
    is_slow = !hold.block;
    return is_slow ? creload_guard_enter_slowly(&live) : hold;
}

static bool leave(creload_guard_hold hold) { return is_slow ? creload_guard_leave_slowly(&live, hold) : creload_guard_leave(&live, hold); }

static void *call(void *unused) {
    (void)unused;
    for (uint64_t round = 1;; round++) {
        creload_guard_block *old = live.current;
        creload_guard_hold hold = at_the_end ? enter() : (creload_guard_hold){NULL, NULL, false};
        __atomic_store_n(&round_called, 2 * round - 1, __ATOMIC_RELEASE);
        wait_for(&round_ready, round);
        if (__atomic_load_n(&is_over, __ATOMIC_RELAXED)) return NULL;
        linger(round % 61);
        if (at_the_end) {
            is_not_told = !leave(hold);
        } else {
            hold = enter();
            holds_old = hold.block == old;
            is_not_told = !hold.is_late;
        }
        __atomic_store_n(&round_called, 2 * round, __ATOMIC_RELEASE);
        wait_for(&round_looked, round);
        if (!at_the_end) leave(hold);
    }
}

/* Starts this program again where membarrier answers ENOSYS. */
static int start_refused(char **arguments) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("guard-litmus: seccomp");
        return 1;
    }
    arguments[2] = (char *)"fenced";
    execv("/proc/self/exe", arguments);
    perror("guard-litmus: exec");
    return 1;
}

int main(int count, char **arguments) {
    if (count < 4) return fprintf(stderr, "usage: guard-litmus begin|end fenced|unfenced|refused ROUNDS [STOP]\n"), 2;
    if (strcmp(arguments[2], "refused") == 0) return start_refused(arguments);
    at_the_end = strcmp(arguments[1], "end") == 0;
    bool is_fenced = strcmp(arguments[2], "fenced") == 0;
    uint64_t rounds = strtoull(arguments[3], NULL, 10), stop = count > 4 ? strtoull(arguments[4], NULL, 10) : 0;
    live.current = blocks[0];
    pthread_t thread;
    if (pthread_create(&thread, NULL, call, NULL) != 0) return 1;
    uint64_t round = 0, violations = 0;
    while (round < rounds && (stop == 0 || violations < stop)) {
        round++;
        creload_guard_block *old = blocks[(round + 1) % 2], *new = blocks[round % 2];
        wait_for(&round_called, 2 * round - 1);
        /* Both processors have both lines in their caches, which keeps each one's write from the other the longest. */
        creload_guard_holders(old);
        __atomic_store_n(&round_ready, round, __ATOMIC_RELEASE);
        linger(round % 1021);
        creload_guard_replace(&live, new);
        if (is_fenced && !creload_guard_fence()) return fprintf(stderr, "guard-litmus: no fence\n"), 1;
        bool is_held = creload_guard_holders(old) > 0;
        wait_for(&round_called, 2 * round);
        /* The call uses a block that the reload would free, or each leaves it to the other one to drain it. */
        if (at_the_end || !holds_old ? is_held && is_not_told : !is_held) violations++;
        __atomic_store_n(&round_looked, round, __ATOMIC_RELEASE);
    }
    wait_for(&round_called, 2 * round + 1);
    __atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
    __atomic_store_n(&round_ready, round + 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    printf("%s %llu %llu\n", creload_guard_mode & CRELOAD_SEQUENTIAL ? "sequential" : "membarrier",
           (unsigned long long)round, (unsigned long long)violations);
    return 0;
}
