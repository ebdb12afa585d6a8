/* What the driver needs of librabbitmq, and what the measuring loops need of C. */
#ifndef CBENCH_H
#define CBENCH_H

#include <CReloadPlugin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#pragma clang assume_nonnull begin

/* CLOCK_MONOTONIC in nanoseconds: one clock for all processes. */
static inline int64_t cbench_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* From now on this thread's sleeps end in time: else the kernel may add 50 microseconds to each. */
void cbench_sleep_exactly(void);

/* Whether the calling thread has this name. */
bool cbench_thread_is(const char *name);

/* The value is used and all memory may have changed: nothing before it is optimised away or moved out of a loop. */
static inline void cbench_keep(int64_t value) { __asm__ volatile("" : : "r"(value) : "memory"); }

/* The table of the plugin in this library, which stays open; NULL if there is none. */
const reload_plugin *_Nullable cbench_open_plugin(const char *path);
/* A sink for an empty plugin, which writes nothing. */
extern const reload_sink cbench_no_sink;

/* A connection with one channel, used by one thread. Every function but the accessors returns false, or a negative value,
   on failure; cbench_error then says why, until the next call. */
typedef struct cbench_link cbench_link;

/* NULL only without memory. guest, guest, virtual host /, no heartbeats. */
cbench_link *_Nullable cbench_new(void);
bool cbench_connect(cbench_link *link, const char *host, int port);
void cbench_free(cbench_link *link);
const char *cbench_error(const cbench_link *link);

bool cbench_declare_exchange(cbench_link *link, const char *name, const char *type);
/* Exclusive: named by the broker, ends with the connection. Else durable, a stream or a classic queue.
   Returns the messages in it. */
int64_t cbench_declare_queue(cbench_link *link, const char *name, bool is_exclusive, bool is_stream);
/* The name of the queue that was declared last. */
const char *cbench_queue(const cbench_link *link);
bool cbench_bind(cbench_link *link, const char *queue, const char *exchange, const char *key);
bool cbench_delete_queue(cbench_link *link, const char *name);
bool cbench_delete_exchange(cbench_link *link, const char *name);

/* From now on cbench_flush waits until the broker has confirmed what was published. */
bool cbench_confirm(cbench_link *link);
/* Publishes a persistent request; `destination` goes into its header. Returns the time just before basic.publish. */
int64_t cbench_publish(
    cbench_link *link, const char *exchange, const char *key, const char *message_id, const char *_Nullable reply_to,
    const char *_Nullable destination, const uint8_t *body, size_t count);
bool cbench_flush(cbench_link *link);

/* Consumes without acknowledgements. */
bool cbench_consume(cbench_link *link, const char *queue);
/* Waits for a message; returns the time at which it was complete, 0 when none came in time. */
int64_t cbench_next(cbench_link *link, int64_t timeout_ms);
/* Of the message that came last. */
const char *cbench_correlation_id(const cbench_link *link);
const uint8_t *_Nullable cbench_body(const cbench_link *link, size_t *count);

#pragma clang assume_nonnull end

#endif
