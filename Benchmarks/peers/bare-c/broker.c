#include "broker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static void check_status(const char *operation, int status) {
    if (status != AMQP_STATUS_OK) fail("%s: %s", operation, amqp_error_string2(status));
}

static _Noreturn void fail_closed(const char *operation, amqp_method_t method) {
    if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = method.decoded;
        fail("%s: %d %.*s", operation, close->reply_code, (int)close->reply_text.len,
             (const char *)close->reply_text.bytes);
    }
    if (method.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = method.decoded;
        fail("%s: %d %.*s", operation, close->reply_code, (int)close->reply_text.len,
             (const char *)close->reply_text.bytes);
    }
    fail("%s: unexpected method %s", operation, amqp_method_name(method.id));
}

static void check(const char *operation, amqp_rpc_reply_t reply) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) fail_closed(operation, reply.reply);
    check_status(operation, reply.library_error);
    fail("%s: no answer", operation);
}

connection connect_broker(const options *options) {
    connection connection = amqp_new_connection();
    amqp_socket_t *socket = connection ? amqp_tcp_socket_new(connection) : NULL;
    if (!socket) fail("connect: no memory");
    check_status("connect", amqp_socket_open(socket, options->host, options->port));
    check("login", amqp_login(connection, "/", AMQP_DEFAULT_MAX_CHANNELS, AMQP_DEFAULT_FRAME_SIZE, options->heartbeat,
                              AMQP_SASL_METHOD_PLAIN, "guest", "guest"));
    amqp_channel_open(connection, CHANNEL);
    check("channel.open", amqp_get_rpc_reply(connection));
    return connection;
}

void declare_exchange(connection connection, const char *name, const char *type) {
    amqp_exchange_declare(connection, CHANNEL, amqp_cstring_bytes(name), amqp_cstring_bytes(type), false, true, false,
                          false, amqp_empty_table);
    check("exchange.declare", amqp_get_rpc_reply(connection));
}

static void bind_queue(connection connection, const char *queue, const char *exchange) {
    amqp_queue_bind(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange), amqp_empty_bytes,
                    amqp_empty_table);
    check("queue.bind", amqp_get_rpc_reply(connection));
}

queue_name declare_ephemeral(connection connection, const char *exchange) {
    declare_exchange(connection, exchange, "fanout");
    const amqp_queue_declare_ok_t *queue =
        amqp_queue_declare(connection, CHANNEL, amqp_empty_bytes, false, false, true, true, amqp_empty_table);
    check("queue.declare", amqp_get_rpc_reply(connection));
    queue_name name;
    snprintf(name.text, sizeof name.text, "%.*s", (int)queue->queue.len, (const char *)queue->queue.bytes);
    bind_queue(connection, name.text, exchange);
    return name;
}

static amqp_table_entry_t text_entry(const char *key, const char *value) {
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

void declare_stream(connection connection, const char *name, const char *exchange) {
    declare_exchange(connection, exchange, "fanout");
    amqp_table_entry_t entries[] = {
        text_entry("x-queue-type", "stream"),
        text_entry("x-max-age", "30D"),
        {.key = amqp_cstring_bytes("x-max-length-bytes"),
         .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = (int64_t)1 << 30}},
    };
    amqp_table_t arguments = {.num_entries = sizeof entries / sizeof *entries, .entries = entries};
    amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(name), false, true, false, false, arguments);
    check("queue.declare", amqp_get_rpc_reply(connection));
    bind_queue(connection, name, exchange);
}

int64_t consume(connection connection, const char *queue, uint16_t prefetch, const char *offset) {
    amqp_table_entry_t entry;
    amqp_table_t arguments = amqp_empty_table;
    if (offset) {
        entry = text_entry("x-stream-offset", offset);
        arguments = (amqp_table_t){.num_entries = 1, .entries = &entry};
    }
    amqp_basic_qos(connection, CHANNEL, 0, prefetch, false);
    check("basic.qos", amqp_get_rpc_reply(connection));
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, false, false, false,
                       arguments);
    int64_t time = now();
    check("basic.consume", amqp_get_rpc_reply(connection));
    return time;
}

bool at_hand(connection connection) { return amqp_data_in_buffer(connection) || amqp_frames_enqueued(connection); }

bool take_message(connection connection, amqp_envelope_t *envelope) {
    /* Memory of the message before. The envelope owns what is in it. */
    amqp_maybe_release_buffers_on_channel(connection, CHANNEL);
    struct timeval at_once = {0, 0}; /* NULL would mean: wait for ever */
    amqp_rpc_reply_t reply = amqp_consume_message(connection, envelope, &at_once, 0);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return true;
    if (reply.library_error == AMQP_STATUS_TIMEOUT) return false;
    if (reply.library_error == AMQP_STATUS_UNEXPECTED_STATE) {
        /* Another method than a delivery: the broker closes. */
        amqp_frame_t frame;
        check_status("receive", amqp_simple_wait_frame(connection, &frame));
        if (frame.frame_type == AMQP_FRAME_METHOD) fail_closed("receive", frame.payload.method);
    }
    check("receive", reply);
    return false;
}

bool next_message(connection connection, const options *options, amqp_envelope_t *envelope) {
    struct pollfd fds[] = {{.fd = amqp_get_sockfd(connection), .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
    while (!stopping()) {
        /* The broker's heartbeat comes each half of the interval, and is the moment to send ours. A little longer than
           that half, so that one wake-up does for both. */
        if (!at_hand(connection) && poll(fds, 2, options->heartbeat * 600) < 0 && errno != EINTR) {
            fail("poll: %s", strerror(errno));
        }
        if (take_message(connection, envelope)) return true;
    }
    return false;
}

void acknowledge(connection connection, uint64_t tag, bool multiple) {
    check_status("basic.ack", amqp_basic_ack(connection, CHANNEL, tag, multiple));
}

void publish_reply(connection connection, amqp_bytes_t exchange, amqp_bytes_t routing_key, amqp_bytes_t correlation_id,
                   amqp_bytes_t body) {
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                  AMQP_BASIC_TYPE_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .correlation_id = correlation_id,
        .type = amqp_cstring_bytes("reload.status.v1"),
    };
    check_status("basic.publish", amqp_basic_publish(connection, CHANNEL, exchange, routing_key, false, false,
                                                     &properties, body));
}

amqp_bytes_t message_id(const amqp_envelope_t *envelope) {
    const amqp_basic_properties_t *properties = &envelope->message.properties;
    return properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG ? properties->message_id : amqp_empty_bytes;
}

void disconnect(connection connection) {
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}
