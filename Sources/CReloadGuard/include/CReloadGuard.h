/*
 * How a call holds on to what it uses while a reload puts something else in its place: hazard pointers with an asymmetric
 * fence.
 *
 * A `creload_guard_live` points to the block that new calls use. A call writes that pointer into a cell of its own thread, looks
 * whether it is still the live one, and uses the block; at the end it empties the cell. A reload exchanges the live pointer,
 * executes the heavy fence and looks through the cells of all threads: what is in none of them is used by nobody.
 *
 * Why that is enough. Two pairs of steps meet, and each is the store-buffering pattern: both sides write, then read what the
 * other wrote.
 *
 *     a call begins     cell := block      light fence    is live == block?      else it came too late, and ends as below
 *     a reload          live := other      heavy fence    is block in a cell?
 *
 *     a call ends       cell := empty      light fence    is live == block?      else it looks for what has to be drained
 *     a reload          live := other      heavy fence    is block in a cell?
 *
 * If the fences order each side's write before its read, at least one side sees the other. In the first pair: either the
 * call notices that it came too late, or the reload finds the cell, and keeps the block. In the second: either the reload
 * finds the cell empty, or the call notices that its block was replaced, and drains it. So nothing is freed while it is
 * used, and nothing stays for ever because nobody looked.
 *
 * An emptied cell is written with release and read with acquire: everything the call did with the block happened before it
 * is freed. Filling a cell is a release for the same reason, because the reader of a cell may find the next block in it
 * instead of the emptiness between.
 *
 * The light fence only keeps the compiler from reordering. The heavy one is membarrier(2), private and expedited, which
 * executes a full fence on every processor that runs a thread of this process: what a processor wrote before it is visible
 * after it, and a thread that does not run has passed one in the kernel. So calls pay for no fence. Where the kernel refuses
 * membarrier, and under the thread sanitizer, which knows nothing of it, all four steps are sequentially consistent
 * operations, whose single total order gives the same.
 *
 * A block whose address is used again does no harm: to find that address live is to hold what is there now, and to miss a
 * change for that reason at the end of a call means that somebody else has drained the old one already.
 *
 * Literature: M. Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects", IEEE TPDS 15(6), 2004;
 * P. Sewell et al., "x86-TSO", CACM 53(7), 2010 (store buffering); D. Goldblatt, "Asymmetric fences", WG21 P1202; M. Desnoyers
 * et al., "User-Level Implementations of Read-Copy Update", IEEE TPDS 23(2), 2012, and membarrier(2).
 */
#ifndef CRELOAD_GUARD_H
#define CRELOAD_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/* What calls use, in one allocation: this, and the value `CRELOAD_GUARD_VALUE_OFFSET` bytes after its beginning. */
typedef struct creload_guard_block {
    int64_t pins; /* holders that may change threads or stay long */
} creload_guard_block;

/* Pins are written while values are read, so the value begins in another cache line. */
#define CRELOAD_GUARD_CACHE_LINE 64
#define CRELOAD_GUARD_VALUE_OFFSET CRELOAD_GUARD_CACHE_LINE

/* Where new calls go; alone in its cache line. */
typedef struct creload_guard_live {
    creload_guard_block *current;
} creload_guard_live;

/* What one thread can hold at a time without pinning: its calls that are nested in one another. */
#define CRELOAD_GUARD_CELLS 8

/* What the calls of one thread hold. Never freed, and given to another thread when its own has ended. */
typedef struct creload_guard_thread {
    creload_guard_block *_Nullable cells[CRELOAD_GUARD_CELLS]; /* written by their thread alone */
    bool is_late; /* a call has come too late and not said so yet; its thread's own */
    bool is_taken;
    struct creload_guard_thread *_Nullable next;
} __attribute__((aligned(128))) creload_guard_thread;

/* A block and the cell that holds it; no block: nothing is held. */
typedef struct creload_guard_hold {
    creload_guard_block *_Nullable block;
    creload_guard_block *_Nullable *_Nullable cell;
    bool is_late; /* it stood in the way of another block's drain for a moment: drain, as after creload_guard_leave() */
} creload_guard_hold;

/* This thread's, NULL before its first call. */
extern __thread creload_guard_thread *_Nullable creload_guard_self __attribute__((tls_model("initial-exec")));

/* 0: the short ways below are all there is to it. */
extern uint32_t creload_guard_mode;
#define CRELOAD_SEQUENTIAL 1u /* membarrier cannot be used; decided before `main` */
#define CRELOAD_GUARD_SNAPSHOTS 2u  /* somebody has made a snapshot; never taken back */

/* The first pair. No block: it came too late. */
static inline creload_guard_hold creload_guard_fill(const creload_guard_live *live,
                                                    creload_guard_block *_Nullable *_Nonnull cell, bool is_sequential) {
    creload_guard_block *block = __atomic_load_n(&live->current, __ATOMIC_RELAXED), *still;
    if (is_sequential) {
        __atomic_store_n(cell, block, __ATOMIC_SEQ_CST);
        still = __atomic_load_n(&live->current, __ATOMIC_SEQ_CST);
    } else {
        __atomic_store_n(cell, block, __ATOMIC_RELEASE);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        still = __atomic_load_n(&live->current, __ATOMIC_ACQUIRE);
    }
    if (__builtin_expect(still == block, 1)) return (creload_guard_hold){block, cell, false};
    /* A reload may have seen the block here and left it to whoever holds it. */
    __atomic_store_n(cell, NULL, is_sequential ? __ATOMIC_SEQ_CST : __ATOMIC_RELEASE);
    return (creload_guard_hold){NULL, NULL, true};
}

/* The second pair. */
static inline bool creload_guard_empty(const creload_guard_live *live, creload_guard_hold hold, bool is_sequential) {
    if (is_sequential) {
        __atomic_store_n(hold.cell, NULL, __ATOMIC_SEQ_CST);
        return __atomic_load_n(&live->current, __ATOMIC_SEQ_CST) != hold.block;
    }
    __atomic_store_n(hold.cell, NULL, __ATOMIC_RELEASE);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return __builtin_expect(__atomic_load_n(&live->current, __ATOMIC_RELAXED) != hold.block, 0);
}

/* The long ways: for a thread's first call, nested and late ones, and every mode. No block: the thread has no cell left. */
creload_guard_hold creload_guard_enter_slowly(const creload_guard_live *live);
/* For what creload_guard_enter_slowly() gave. */
bool creload_guard_leave_slowly(const creload_guard_live *live, creload_guard_hold hold);

/* Holds the live block. No block: look for a snapshot, then creload_guard_enter_slowly(). */
static inline creload_guard_hold creload_guard_enter(const creload_guard_live *live) {
    creload_guard_thread *thread = creload_guard_self;
    if (__builtin_expect(__atomic_load_n(&creload_guard_mode, __ATOMIC_RELAXED) != 0 || !thread || thread->cells[0], 0))
        return (creload_guard_hold){NULL, NULL, false};
    creload_guard_hold hold = creload_guard_fill(live, &thread->cells[0], false);
    if (__builtin_expect(hold.is_late, 0)) thread->is_late = true;
    return hold;
}

/* Lets go of what creload_guard_enter() gave, on the same thread, whatever the mode is by now. True: it has been replaced, drain it;
   the block may be gone. */
static inline bool creload_guard_leave(const creload_guard_live *live, creload_guard_hold hold) {
    return creload_guard_empty(live, hold, false);
}

/* The value in a held block. */
static inline void *creload_guard_value(creload_guard_block *block) { return (char *)block + CRELOAD_GUARD_VALUE_OFFSET; }

/* Holds a block beyond a call: only of one that the caller holds already. */
void creload_guard_pin(creload_guard_block *block);
/* The same answer as creload_guard_leave(). */
bool creload_guard_unpin(const creload_guard_live *live, creload_guard_block *block);

/* Makes a block the live one; returns the one before. */
creload_guard_block *_Nullable creload_guard_replace(creload_guard_live *live, creload_guard_block *block);
/* The heavy fence, once between creload_guard_replace() and creload_guard_holders(). False: the kernel refused it, nothing is known. */
bool creload_guard_fence(void);
/* How many calls and pins hold a block that is not the live one any more. */
size_t creload_guard_holders(const creload_guard_block *block);
/* Whether calls do without membarrier here. */
bool creload_guard_is_sequential(void);
/* How many records of threads there are. */
size_t creload_guard_thread_count(void);
/* From now on creload_guard_enter() gives NULL, so that every call asks whether it is inside a snapshot. */
void creload_guard_use_snapshots(void);

#pragma clang assume_nonnull end

#endif
