#ifndef BARE_C_PROGRAM_H
#define BARE_C_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

/* What the command line says. Each command uses what it needs of it. */
typedef struct options {
    const char *host;
    int port;
    int heartbeat; /* seconds */
    const char *exchange;
    const char *status_exchange;
    const char *queue;
    const char *stream;
    bool from_stream; /* --kind stream */
    bool ack_multiple;
    uint16_t prefetch;
    int64_t count;
    int connections;
    const char *instance_prefix;
} options;

void receive(const options *options);
void discard(const options *options);
void fanout(const options *options);
void read_stream(const options *options);
void idle(const options *options);

/* Set by SIGTERM and SIGINT, which also make stop_fd readable: whoever sleeps in poll wakes up. */
bool stopping(void);
extern int stop_fd;

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t now(void);

/* One line on standard output with one write(2). */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line on standard error and exit status 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
