#define _GNU_SOURCE
#include "CReloadGuard.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

__thread creload_guard_thread *creload_guard_self;
uint32_t creload_guard_mode = CRELOAD_SEQUENTIAL;

/* Every record there ever was. */
static creload_guard_thread *threads;
static pthread_key_t key;
static bool has_key;

static int membarrier(int command) { return (int)syscall(SYS_membarrier, command, 0, 0); }

/* A thread that ends inside a call holds its block for ever, and its record is not used again. */
static void thread_ended(void *context) {
    creload_guard_thread *thread = context;
    creload_guard_self = NULL;
    for (size_t i = 0; i < CRELOAD_GUARD_CELLS; i++)
        if (thread->cells[i]) return;
    __atomic_store_n(&thread->is_taken, false, __ATOMIC_RELEASE);
}

/* Before `main`, and so before any other thread: the mode of fences cannot change under a call. */
__attribute__((constructor)) static void prepare(void) {
    has_key = pthread_key_create(&key, thread_ended) == 0;
#if !__has_feature(thread_sanitizer)
    if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0) creload_guard_mode = 0;
#endif
}

/* Gives this thread a record: one whose thread has ended, or a new one. */
static creload_guard_thread *take_record(void) {
    if (!has_key) return NULL;
    creload_guard_thread *thread = __atomic_load_n(&threads, __ATOMIC_ACQUIRE);
    for (; thread; thread = thread->next) {
        bool is_free = false;
        if (__atomic_load_n(&thread->is_taken, __ATOMIC_RELAXED) == is_free &&
            __atomic_compare_exchange_n(&thread->is_taken, &is_free, true, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            break;
    }
    bool is_new = !thread;
    if (is_new) {
        if (posix_memalign((void **)&thread, _Alignof(creload_guard_thread), sizeof *thread) != 0) return NULL;
        *thread = (creload_guard_thread){.is_taken = true};
    }
    if (pthread_setspecific(key, thread) != 0) {
        if (is_new) free(thread);
        else __atomic_store_n(&thread->is_taken, false, __ATOMIC_RELEASE);
        return NULL;
    }
    if (is_new) {
        thread->next = __atomic_load_n(&threads, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&threads, &thread->next, thread, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {}
    }
    return creload_guard_self = thread;
}

bool creload_guard_is_sequential(void) { return __atomic_load_n(&creload_guard_mode, __ATOMIC_RELAXED) & CRELOAD_SEQUENTIAL; }

creload_guard_hold creload_guard_enter_slowly(const creload_guard_live *live) {
    creload_guard_hold hold = {NULL, NULL, false};
    creload_guard_thread *thread = creload_guard_self ? creload_guard_self : take_record();
    if (!thread) return hold;
    size_t i = 0;
    while (i < CRELOAD_GUARD_CELLS && thread->cells[i]) i++;
    bool is_late = thread->is_late;
    thread->is_late = false;
    while (i < CRELOAD_GUARD_CELLS && !hold.block) {
        hold = creload_guard_fill(live, &thread->cells[i], creload_guard_is_sequential());
        is_late |= hold.is_late;
    }
    hold.is_late = is_late;
    return hold;
}

bool creload_guard_leave_slowly(const creload_guard_live *live, creload_guard_hold hold) {
    return creload_guard_empty(live, hold, creload_guard_is_sequential());
}

void creload_guard_pin(creload_guard_block *block) { __atomic_fetch_add(&block->pins, 1, __ATOMIC_SEQ_CST); }

bool creload_guard_unpin(const creload_guard_live *live, creload_guard_block *block) {
    __atomic_fetch_sub(&block->pins, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&live->current, __ATOMIC_SEQ_CST) != block;
}

creload_guard_block *creload_guard_replace(creload_guard_live *live, creload_guard_block *block) {
    return __atomic_exchange_n(&live->current, block, __ATOMIC_SEQ_CST);
}

bool creload_guard_fence(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return creload_guard_is_sequential() || membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
}

size_t creload_guard_holders(const creload_guard_block *block) {
    size_t count = 0;
    const creload_guard_thread *thread = __atomic_load_n(&threads, __ATOMIC_SEQ_CST);
    for (; thread; thread = thread->next)
        for (size_t i = 0; i < CRELOAD_GUARD_CELLS; i++)
            if (__atomic_load_n(&thread->cells[i], __ATOMIC_SEQ_CST) == block) count++;
    /* A call pins before it empties its cell, so the cells come first. */
    return count + (size_t)__atomic_load_n(&block->pins, __ATOMIC_SEQ_CST);
}

size_t creload_guard_thread_count(void) {
    size_t count = 0;
    for (const creload_guard_thread *thread = __atomic_load_n(&threads,
         __ATOMIC_ACQUIRE); thread; thread = thread->next) count++;
    return count;
}

void creload_guard_use_snapshots(void) {
    /* Every call reads it: it is written once. */
    if (!(__atomic_load_n(&creload_guard_mode, __ATOMIC_RELAXED) & CRELOAD_GUARD_SNAPSHOTS))
        __atomic_fetch_or(&creload_guard_mode, CRELOAD_GUARD_SNAPSHOTS, __ATOMIC_RELAXED);
}
