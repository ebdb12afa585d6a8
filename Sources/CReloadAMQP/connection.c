#include "connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct timeval milliseconds(int32_t value) {
    if (value < 1) value = 1; /* librabbitmq takes zero for "no limit" in some places */
    return (struct timeval){.tv_sec = value / 1000, .tv_usec = (value % 1000) * 1000};
}

creload_connection *creload_new(uint64_t body_limit) {
    creload_connection *connection = calloc(1, sizeof *connection);
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

void creload_free(creload_connection *connection) {
    amqp_destroy_connection(connection->state);
    free(connection->body);
    empty_amqp_pool(&connection->outgoing);
    empty_amqp_pool(&connection->detached);
    free(connection);
}

int creload_fail_library(creload_connection *connection, const char *operation, int status) {
    /* After any error of the library its decoder and the socket are in an unknown state, or already closed. */
    connection->alive = false;
    creload_fail(connection, CRELOAD_ORIGIN_LIBRARY, operation, amqp_error_string2(status));
    connection->error.library_code = status;
    return -1;
}

int creload_fail(creload_connection *connection, creload_origin origin, const char *operation, const char *text) {
    if (origin == CRELOAD_ORIGIN_PROTOCOL) connection->alive = false;
    snprintf(connection->text, sizeof connection->text, "%s", text);
    connection->error.origin = origin;
    connection->error.operation = operation;
    connection->error.library_code = 0;
    connection->error.reply_code = 0;
    connection->error.problem = CRELOAD_PROBLEM_OTHER;
    connection->error.unread = (creload_bytes){NULL, 0};
    return -1;
}

int creload_fail_server(creload_connection *connection, const char *operation, amqp_method_t method) {
    creload_origin origin;
    amqp_bytes_t text;
    uint16_t code;
    if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = method.decoded;
        amqp_connection_close_ok_t ok = {0};
        origin = CRELOAD_ORIGIN_CONNECTION;
        text = close->reply_text;
        code = close->reply_code;
        connection->alive = false;
        amqp_send_method(connection->state, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    } else if (method.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = method.decoded;
        amqp_channel_close_ok_t ok = {0};
        origin = CRELOAD_ORIGIN_CHANNEL;
        text = close->reply_text;
        code = close->reply_code;
        amqp_send_method(connection->state, connection->channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
        connection->channel = 0;
        connection->expecting = EXPECT_METHOD;
    } else {
        return creload_fail(connection, CRELOAD_ORIGIN_PROTOCOL, operation, "unexpected answer of the broker");
    }
    creload_fail(connection, origin, operation, "");
    snprintf(connection->text, sizeof connection->text, "%.*s", (int)text.len, (const char *)text.bytes);
    connection->error.reply_code = code;
    return -1;
}

int creload_require_channel(creload_connection *connection, const char *operation) {
    if (!connection->alive) {
        return creload_fail(connection, CRELOAD_ORIGIN_CONNECTION, operation, "the connection is closed");
    }
    if (connection->channel == 0) {
        return creload_fail(connection, CRELOAD_ORIGIN_CHANNEL, operation, "the channel is closed");
    }
    return 0;
}

/* 0 when librabbitmq's last request got its answer. */
static int answered(creload_connection *connection, const char *operation, amqp_rpc_reply_t reply) {
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
        return 0;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        return creload_fail_library(connection, operation, reply.library_error);
    case AMQP_RESPONSE_SERVER_EXCEPTION:
        return creload_fail_server(connection, operation, reply.reply);
    case AMQP_RESPONSE_NONE:
        break;
    }
    return creload_fail_library(connection, operation, AMQP_STATUS_CONNECTION_CLOSED);
}

int creload_connect(creload_connection *connection, const char *host, int32_t port, const creload_tls *tls,
                    int32_t timeout_ms, int32_t stuck_ms) {
    amqp_socket_t *socket = NULL;
    if (tls) {
        socket = creload_tls_socket(connection, host, tls);
        if (!socket) return -1;
    } else {
        socket = amqp_tcp_socket_new(connection->state);
        if (!socket) return creload_fail_library(connection, "connect", AMQP_STATUS_NO_MEMORY);
    }
    struct timeval timeout = milliseconds(timeout_ms);
    int status = amqp_socket_open_noblock(socket, host, port, &timeout);
    if (status != AMQP_STATUS_OK) {
        if (tls && creload_explain_tls(connection, "connect", status)) return -1;
        return creload_fail_library(connection, "connect", status);
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
static bool speaks_tls(const creload_connection *connection) {
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

int creload_login(creload_connection *connection, const char *virtual_host, const char *user, const char *password,
                  const char *connection_name, int32_t heartbeat_seconds, int32_t handshake_timeout_ms,
                  int32_t rpc_timeout_ms) {
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
        creload_explain_tls(connection, operation, reply.library_error))
        return -1;
    if (answered(connection, operation, reply)) return -1;
    connection->alive = true;
    /* A publisher may fill a header to the last byte of a frame, and a stream adds the offset to it: the broker sends that frame
       all the same, and librabbitmq would give up the connection, at the same message again and again. */
    int frame_max = amqp_get_frame_max(connection->state);
    connection->frame_max = (size_t)frame_max;
    int status = amqp_tune_connection(connection->state, amqp_get_channel_max(connection->state), 2 * frame_max,
                                      amqp_get_heartbeat(connection->state));
    if (status != AMQP_STATUS_OK) return creload_fail_library(connection, "connection.tune", status);
    return creload_open_channel(connection);
}

void creload_explain_login(creload_connection *connection) {
    const creload_error *error = &connection->error;
    if (connection->handshake.is_tls || error->origin != CRELOAD_ORIGIN_LIBRARY) return;
    if (error->library_code == AMQP_STATUS_TIMEOUT || error->library_code == AMQP_STATUS_HEARTBEAT_TIMEOUT) return;
    if (speaks_tls(connection))
        creload_fail_tls(connection, error->operation, CRELOAD_PROBLEM_IS_TLS, "the port speaks TLS: use amqps://");
}

int creload_open_channel(creload_connection *connection) {
    if (!connection->alive) {
        return creload_fail(connection, CRELOAD_ORIGIN_CONNECTION, "channel.open", "the connection is closed");
    }
    creload_release_event(connection);
    int limit = amqp_get_channel_max(connection->state);
    if (connection->last_channel == UINT16_MAX || (limit != 0 && connection->last_channel >= limit)) {
        return creload_fail(connection, CRELOAD_ORIGIN_CONNECTION, "channel.open", "no channel number is left");
    }
    connection->channel = ++connection->last_channel;
    connection->confirming = false;
    connection->published = 0;
    connection->expecting = EXPECT_METHOD;
    amqp_channel_open(connection->state, connection->channel);
    return answered(connection, "channel.open", amqp_get_rpc_reply(connection->state));
}

int creload_close(creload_connection *connection, int32_t timeout_ms) {
    if (!connection->alive) return 0;
    connection->alive = false;
    struct timeval timeout = milliseconds(timeout_ms);
    amqp_set_rpc_timeout(connection->state, &timeout);
    return answered(connection, "connection.close", amqp_connection_close(connection->state, AMQP_REPLY_SUCCESS));
}

int creload_socket(const creload_connection *connection) { return amqp_get_sockfd(connection->state); }

int32_t creload_heartbeat(const creload_connection *connection) { return amqp_get_heartbeat(connection->state); }

bool creload_has_pending(const creload_connection *connection) {
    return connection->has_waiting_event || amqp_frames_enqueued(connection->state) ||
           amqp_data_in_buffer(connection->state);
}

const creload_error *creload_last_error(const creload_connection *connection) { return &connection->error; }

int creload_collect(creload_connection *connection, bool is_collecting) {
    int on = is_collecting;
    connection->is_collecting = is_collecting;
    setsockopt(creload_socket(connection), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    return is_collecting ? 0 : creload_await(connection);
}

/* The table that was collected for this call. */
static amqp_table_t arguments(creload_connection *connection) {
    return connection->properties.headers;
}

/* Before a request: refuses what could not be collected. */
static int begin(creload_connection *connection, const char *operation) {
    if (connection->unusable) {
        creload_fail(connection, CRELOAD_ORIGIN_SHIM, operation, connection->unusable);
    } else if (creload_require_channel(connection, operation) == 0) {
        return 0;
    }
    creload_clear_outgoing(connection);
    return -1;
}

/* Sends a request, and does not wait for an answer. */
static int tell(creload_connection *connection, const char *operation, amqp_method_number_t id, void *method) {
    int status = amqp_send_method(connection->state, connection->channel, id, method);
    creload_clear_outgoing(connection);
    return status == AMQP_STATUS_OK ? 0 : creload_fail_library(connection, operation, status);
}

/* Sends a request. Its answer is waited for here, or in creload_collect() if nothing of it is wanted meanwhile. */
static int ask(creload_connection *connection, const char *operation, amqp_method_number_t id, void *method,
               amqp_method_number_t answer, const void **decoded) {
    if (connection->is_collecting) {
        if (decoded || connection->asked_count == MAX_ASKED) {
            creload_clear_outgoing(connection);
            return creload_fail(connection, CRELOAD_ORIGIN_SHIM, operation, "it cannot be collected with others");
        }
        connection->asked[connection->asked_count++] = (creload_asked){operation, answer};
        return tell(connection, operation, id, method);
    }
    amqp_method_number_t answers[] = {answer, 0};
    amqp_rpc_reply_t reply = amqp_simple_rpc(connection->state, connection->channel, id, answers, method);
    creload_clear_outgoing(connection);
    if (answered(connection, operation, reply)) return -1;
    if (decoded) *decoded = reply.reply.decoded;
    return 0;
}

int creload_declare_exchange(creload_connection *connection, const char *name, const char *type, bool passive,
                             bool durable) {
    if (begin(connection, "exchange.declare")) return -1;
    amqp_exchange_declare_t declare = {.exchange = amqp_cstring_bytes(name),
                                       .type = amqp_cstring_bytes(type),
                                       .passive = passive,
                                       .durable = durable,
                                       .arguments = arguments(connection)};
    return ask(connection, "exchange.declare", AMQP_EXCHANGE_DECLARE_METHOD, &declare, AMQP_EXCHANGE_DECLARE_OK_METHOD,
               NULL);
}

int creload_declare_queue(creload_connection *connection, const char *name, bool passive, bool durable, bool exclusive,
                          bool auto_delete, creload_queue *declared) {
    if (begin(connection, "queue.declare")) return -1;
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes(name),
                                    .passive = passive,
                                    .durable = durable,
                                    .exclusive = exclusive,
                                    .auto_delete = auto_delete,
                                    .arguments = arguments(connection)};
    const void *decoded;
    if (ask(connection, "queue.declare", AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_QUEUE_DECLARE_OK_METHOD,
            declared ? &decoded : NULL))
        return -1;
    if (declared) {
        const amqp_queue_declare_ok_t *ok = decoded;
        *declared = (creload_queue){{ok->queue.bytes, ok->queue.len}, ok->message_count, ok->consumer_count};
    }
    return 0;
}

int creload_bind(creload_connection *connection, const char *queue, const char *exchange, const char *routing_key) {
    if (begin(connection, "queue.bind")) return -1;
    amqp_queue_bind_t bind = {.queue = amqp_cstring_bytes(queue),
                              .exchange = amqp_cstring_bytes(exchange),
                              .routing_key = amqp_cstring_bytes(routing_key),
                              .arguments = arguments(connection)};
    return ask(connection, "queue.bind", AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD, NULL);
}

int creload_qos(creload_connection *connection, uint16_t prefetch) {
    if (begin(connection, "basic.qos")) return -1;
    amqp_basic_qos_t qos = {.prefetch_count = prefetch};
    return ask(connection, "basic.qos", AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD, NULL);
}

int creload_consume(creload_connection *connection, const char *queue, bool no_ack, bool exclusive,
                    creload_bytes *consumer_tag) {
    if (begin(connection, "basic.consume")) return -1;
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue),
                                    .no_ack = no_ack,
                                    .exclusive = exclusive,
                                    .arguments = arguments(connection)};
    const void *decoded;
    if (ask(connection, "basic.consume", AMQP_BASIC_CONSUME_METHOD, &consume, AMQP_BASIC_CONSUME_OK_METHOD, &decoded))
        return -1;
    const amqp_basic_consume_ok_t *ok = decoded;
    *consumer_tag = (creload_bytes){ok->consumer_tag.bytes, ok->consumer_tag.len};
    return 0;
}

int creload_consume_also(creload_connection *connection, const char *queue, const char *consumer_tag) {
    if (begin(connection, "basic.consume")) return -1;
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue),
                                    .consumer_tag = amqp_cstring_bytes(consumer_tag),
                                    .nowait = true,
                                    .arguments = arguments(connection)};
    return tell(connection, "basic.consume", AMQP_BASIC_CONSUME_METHOD, &consume);
}

int creload_cancel(creload_connection *connection, const char *consumer_tag) {
    if (begin(connection, "basic.cancel")) return -1;
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(consumer_tag), .nowait = true};
    return tell(connection, "basic.cancel", AMQP_BASIC_CANCEL_METHOD, &cancel);
}

int creload_select_confirms(creload_connection *connection) {
    if (begin(connection, "confirm.select")) return -1;
    amqp_confirm_select_t select = {0};
    if (ask(connection, "confirm.select", AMQP_CONFIRM_SELECT_METHOD, &select, AMQP_CONFIRM_SELECT_OK_METHOD, NULL))
        return -1;
    connection->confirming = true;
    connection->published = 0;
    return 0;
}

int creload_ack(creload_connection *connection, uint64_t tag, bool multiple) {
    if (creload_require_channel(connection, "basic.ack")) return -1;
    int status = amqp_basic_ack(connection->state, connection->channel, tag, multiple);
    return status == AMQP_STATUS_OK ? 0 : creload_fail_library(connection, "basic.ack", status);
}

int creload_reject(creload_connection *connection, uint64_t tag, bool requeue) {
    if (creload_require_channel(connection, "basic.reject")) return -1;
    int status = amqp_basic_reject(connection->state, connection->channel, tag, requeue);
    return status == AMQP_STATUS_OK ? 0 : creload_fail_library(connection, "basic.reject", status);
}
