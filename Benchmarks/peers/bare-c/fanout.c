#include "broker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

/* A login is several round trips, mostly of waiting. */
enum { CONNECTING_THREADS = 8, EVENTS = 256 };

typedef struct {
    connection connection;
    char routing_key[256];
} member;

typedef struct {
    const options *options;
    member *members;
    atomic_int next;
} fleet;

static void *connect_members(void *context) {
    fleet *fleet = context;
    const options *options = fleet->options;
    for (int index; !stopping() && (index = atomic_fetch_add(&fleet->next, 1)) < options->connections;) {
        member *member = &fleet->members[index];
        snprintf(member->routing_key, sizeof member->routing_key, "bench.%s%d.applied", options->instance_prefix,
                 index);
        member->connection = connect_broker(options);
        queue_name queue = declare_ephemeral(member->connection, options->exchange);
        consume(member->connection, queue.text, options->prefetch, NULL);
    }
    return NULL;
}

static void connect_all(fleet *fleet) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    connection first = connect_broker(fleet->options);
    declare_exchange(first, fleet->options->status_exchange, "topic");
    disconnect(first);
    pthread_t threads[CONNECTING_THREADS];
    for (int index = 0; index < CONNECTING_THREADS; index++) {
        int error = pthread_create(&threads[index], NULL, connect_members, fleet);
        if (error) fail("pthread_create: %s", strerror(error));
    }
    for (int index = 0; index < CONNECTING_THREADS; index++) pthread_join(threads[index], NULL);
}

/* As large as a report of one module. */
static amqp_bytes_t reply_body(void) {
    static char body[601];
    int start = snprintf(body, sizeof body, "{\"state\":\"applied\",\"filler\":\"");
    memset(body + start, '.', sizeof body - 1 - (size_t)start);
    memcpy(body + sizeof body - 3, "\"}", 3);
    return amqp_cstring_bytes(body);
}

static void answer(const member *member, const options *options, amqp_bytes_t body) {
    amqp_envelope_t envelope;
    /* What is left in the socket is in the next events of epoll. */
    do {
        if (!take_message(member->connection, &envelope)) return;
        publish_reply(member->connection, amqp_cstring_bytes(options->status_exchange),
                      amqp_cstring_bytes(member->routing_key), message_id(&envelope), body);
        acknowledge(member->connection, envelope.delivery_tag, false);
        amqp_destroy_envelope(&envelope);
    } while (at_hand(member->connection));
}

/* Many consumers in one process, with a connection each, that answer every request. */
void fanout(const options *options) {
    fleet fleet = {.options = options, .members = calloc((size_t)options->connections, sizeof(member))};
    if (!fleet.members) fail("no memory");
    connect_all(&fleet);

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, stop_fd, &event) < 0) fail("epoll: %s", strerror(errno));
    amqp_bytes_t body = reply_body();
    for (int index = 0; !stopping() && index < options->connections; index++) {
        member *member = &fleet.members[index];
        event.data.ptr = member;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, amqp_get_sockfd(member->connection), &event) < 0) {
            fail("epoll_ctl: %s", strerror(errno));
        }
    }
    if (!stopping()) say("ready %lld", (long long)now());
    /* Frames that came with the answers of the login are in no event of epoll. */
    int64_t interval = (int64_t)options->heartbeat * 500000000, next_round = now();
    while (!stopping()) {
        int64_t left = next_round - now();
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, left > 0 ? (int)(left / 1000000 + 1) : 0);
        if (count < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
        for (int index = 0; index < count; index++) {
            if (events[index].data.ptr) answer(events[index].data.ptr, options, body);
        }
        if (now() >= next_round) {
            for (int index = 0; index < options->connections; index++) answer(&fleet.members[index], options, body);
            next_round = now() + interval;
        }
    }
    for (int index = 0; index < options->connections; index++) {
        if (fleet.members[index].connection) disconnect(fleet.members[index].connection);
    }
    free(fleet.members);
}
