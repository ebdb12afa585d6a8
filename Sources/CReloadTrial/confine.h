#ifndef CRELOAD_CONFINE_H
#define CRELOAD_CONFINE_H

#include <stdint.h>

/* Takes from this process, for good, what a trial does not need: the network, other processes, writing to files, cores.
   What the kernel refuses to take is in the result, of creload_trial_unconfined. It costs 0.3 ms, so it comes while there is
   nothing to try yet. */
uint32_t creload_trial_confine(void);
/* Leaves it `memory_bytes` beyond what it has, so much processor time, and few files. */
void creload_trial_limit(uint64_t memory_bytes, uint32_t cpu_seconds);

#endif
