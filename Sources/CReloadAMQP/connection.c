#include "connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct timeval milliseconds(int32_t value) {
    if (value < 1) value = 1; /* librabbitmq takes zero for "no limit" in some places */
    return (struct timeval){.tv_sec = value / 1000, .tv_usec = (value % 1000) * 1000};
}

creload_amqp_connection *creload_amqp_new(uint64_t body_limit) {
    creload_amqp_connection *connection = calloc(1, sizeof *connection);
    if (!connection) return NULL;
    connection->state = amqp_new_connection();
    if (!connection->state) {
        free(connection);
        return NULL;
    }
    connection->body_limit = body_limit;
    connection->error.operation = "";
    connection->error.text = connection->text;
    init_amqp_pool(&connection->outgoing, 4096);
    init_amqp_pool(&connection->detached, 4096);
    return connection;
}

void creload_amqp_free(creload_amqp_connection *connection) {
    amqp_destroy_connection(connection->state);
    free(connection->body);
    empty_amqp_pool(&connection->outgoing);
    empty_amqp_pool(&connection->detached);
    free(connection);
}

int creload_amqp_connect(creload_amqp_connection *connection, const char *host, int32_t port,
                         const creload_amqp_tls *tls, int32_t timeout_ms, int32_t stuck_ms) {
    amqp_socket_t *socket = NULL;
    if (tls) {
        socket = creload_amqp_tls_socket(connection, host, tls);
        if (!socket) return -1;
    } else {
        socket = amqp_tcp_socket_new(connection->state);
        if (!socket) return creload_amqp_fail_library(connection, "connect", AMQP_STATUS_NO_MEMORY);
    }
    struct timeval timeout = milliseconds(timeout_ms);
    int status = amqp_socket_open_noblock(socket, host, port, &timeout);
    if (status != AMQP_STATUS_OK) {
        if (tls && creload_amqp_explain_tls(connection, "connect", status)) return -1;
        return creload_amqp_fail_library(connection, "connect", status);
    }

    int fd = amqp_get_sockfd(connection->state);
    connection->peer_size = sizeof connection->peer;
    if (getpeername(fd, (struct sockaddr *)&connection->peer, &connection->peer_size)) connection->peer_size = 0;
    int off = 0;
    unsigned int stuck = stuck_ms > 0 ? (unsigned int)stuck_ms : 0;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof off);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &stuck, sizeof stuck);
    fcntl(fd, F_SETFD, fcntl(fd, F_GETFD) | FD_CLOEXEC);
    return 0;
}

static amqp_table_entry_t string_entry(const char *name, const char *value) {
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(name),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

static amqp_table_entry_t true_entry(const char *name) {
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(name),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
}

/* Whether the peer answers AMQP's first bytes with a TLS alert. librabbitmq takes that for the begin of a frame and
   reports the connection that is then reset, so it is asked once more, for a second at most. */
static bool speaks_tls(const creload_amqp_connection *connection) {
    static const uint8_t greeting[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    if (connection->peer_size == 0) return false;
    int fd = socket(connection->peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    uint8_t first = 0;
    connect(fd, (const struct sockaddr *)&connection->peer, connection->peer_size);
    if (poll(&ready, 1, 500) == 1 && send(fd, greeting, sizeof greeting, MSG_NOSIGNAL) == sizeof greeting) {
        ready.events = POLLIN;
        if (poll(&ready, 1, 500) == 1 && recv(fd, &first, 1, 0) != 1) first = 0;
    }
    close(fd);
    return first == 21; /* ContentType.alert, RFC 8446 5.1 */
}

int creload_amqp_login(creload_amqp_connection *connection, const char *virtual_host, const char *user,
                       const char *password, const char *connection_name, int32_t heartbeat_seconds,
                       int32_t handshake_timeout_ms, int32_t rpc_timeout_ms) {
    amqp_table_entry_t capabilities[] = {
        true_entry("consumer_cancel_notify"), true_entry("connection.blocked"),
        true_entry("publisher_confirms"),     true_entry("basic.nack"),
        true_entry("authentication_failure_close"),
    };
    amqp_table_entry_t properties[] = {
        string_entry("product", "swift-reload-agent"),
        string_entry("connection_name", connection_name),
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = sizeof capabilities / sizeof *capabilities,
                                   .entries = capabilities}}},
    };
    amqp_table_t table = {.num_entries = sizeof properties / sizeof *properties, .entries = properties};
    struct timeval handshake = milliseconds(handshake_timeout_ms);
    struct timeval rpc = milliseconds(rpc_timeout_ms);
    amqp_set_handshake_timeout(connection->state, &handshake);
    amqp_set_rpc_timeout(connection->state, &rpc);
    const char *operation = "connection.open";
    amqp_rpc_reply_t reply;
    if (password) {
        reply = amqp_login_with_properties(connection->state, virtual_host, AMQP_DEFAULT_MAX_CHANNELS,
                                           AMQP_DEFAULT_FRAME_SIZE, heartbeat_seconds, &table, AMQP_SASL_METHOD_PLAIN,
                                           user, password);
    } else {
        /* The broker takes the name from the certificate; librabbitmq takes an empty one for a lack of memory. */
        reply = amqp_login_with_properties(connection->state, virtual_host, AMQP_DEFAULT_MAX_CHANNELS,
                                           AMQP_DEFAULT_FRAME_SIZE, heartbeat_seconds, &table,
                                           AMQP_SASL_METHOD_EXTERNAL, *user ? user : "-");
    }
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && connection->handshake.is_tls &&
        creload_amqp_explain_tls(connection, operation, reply.library_error))
        return -1;
    if (creload_amqp_answered(connection, operation, reply)) return -1;
    connection->alive = true;
    /* A publisher may fill a header to the last byte of a frame, and a stream adds the offset to it: the broker sends that frame
       all the same, and librabbitmq would give up the connection, at the same message again and again. */
    int frame_max = amqp_get_frame_max(connection->state);
    connection->frame_max = (size_t)frame_max;
    int status = amqp_tune_connection(connection->state, amqp_get_channel_max(connection->state), 2 * frame_max,
                                      amqp_get_heartbeat(connection->state));
    if (status != AMQP_STATUS_OK) return creload_amqp_fail_library(connection, "connection.tune", status);
    return creload_amqp_open_channel(connection);
}

void creload_amqp_explain_login(creload_amqp_connection *connection) {
    const creload_amqp_error *error = &connection->error;
    if (connection->handshake.is_tls || error->origin != CRELOAD_AMQP_ORIGIN_LIBRARY) return;
    if (error->library_code == AMQP_STATUS_TIMEOUT || error->library_code == AMQP_STATUS_HEARTBEAT_TIMEOUT) return;
    if (speaks_tls(connection))
        creload_amqp_fail_tls(connection, error->operation, CRELOAD_AMQP_PROBLEM_IS_TLS,
                              "the port speaks TLS: use amqps://");
}

int creload_amqp_open_channel(creload_amqp_connection *connection) {
    if (!connection->alive) {
        return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_CONNECTION, "channel.open",
                                 "the connection is closed");
    }
    creload_amqp_release_event(connection);
    int limit = amqp_get_channel_max(connection->state);
    if (connection->last_channel == UINT16_MAX || (limit != 0 && connection->last_channel >= limit)) {
        return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_CONNECTION, "channel.open",
                                 "no channel number is left");
    }
    connection->channel = ++connection->last_channel;
    connection->confirming = false;
    connection->published = 0;
    connection->expecting = EXPECT_METHOD;
    amqp_channel_open(connection->state, connection->channel);
    return creload_amqp_answered(connection, "channel.open", amqp_get_rpc_reply(connection->state));
}

int creload_amqp_close(creload_amqp_connection *connection, int32_t timeout_ms) {
    if (!connection->alive) return 0;
    connection->alive = false;
    struct timeval timeout = milliseconds(timeout_ms);
    amqp_set_rpc_timeout(connection->state, &timeout);
    return creload_amqp_answered(connection, "connection.close", amqp_connection_close(connection->state,
                                 AMQP_REPLY_SUCCESS));
}

int creload_amqp_socket(const creload_amqp_connection *connection) { return amqp_get_sockfd(connection->state); }

int32_t creload_amqp_heartbeat(const creload_amqp_connection *connection) { return amqp_get_heartbeat(connection->state); }

bool creload_amqp_has_pending(const creload_amqp_connection *connection) {
    return connection->has_waiting_event || amqp_frames_enqueued(connection->state) ||
           amqp_data_in_buffer(connection->state);
}

const creload_amqp_error *creload_amqp_last_error(const creload_amqp_connection *connection) { return &connection->error; }
