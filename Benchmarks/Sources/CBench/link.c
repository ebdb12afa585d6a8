#include "CBench.h"

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

/* Messages that may be unconfirmed. */
#define BATCH 4096

struct cbench_link {
    amqp_connection_state_t state;
    bool confirms;
    /* Of the batch: how many, how many of them confirmed, and which. `before` were published in earlier ones. */
    uint64_t before, published, confirmed;
    bool is_confirmed[BATCH];
    amqp_envelope_t envelope;
    bool has_envelope;
    char queue[256], correlation_id[256], error[512];
};

cbench_link *cbench_new(void) { return calloc(1, sizeof(cbench_link)); }

const char *cbench_error(const cbench_link *link) { return link->error; }
const char *cbench_queue(const cbench_link *link) { return link->queue; }
const char *cbench_correlation_id(const cbench_link *link) { return link->correlation_id; }

static void copy(char *to, size_t size, amqp_bytes_t from) {
    size_t count = from.len < size ? from.len : size - 1;
    if (count) memcpy(to, from.bytes, count);
    to[count] = 0;
}

static bool fail(cbench_link *link, const char *operation, int status) {
    snprintf(link->error, sizeof link->error, "%s: %s", operation, amqp_error_string2(status));
    return false;
}

static bool check(cbench_link *link, const char *operation, amqp_rpc_reply_t reply) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return true;
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) return fail(link, operation, reply.library_error);
    char text[256] = "an answer that was not expected";
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        copy(text, sizeof text, ((amqp_channel_close_t *)reply.reply.decoded)->reply_text);
    } else if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        copy(text, sizeof text, ((amqp_connection_close_t *)reply.reply.decoded)->reply_text);
    }
    snprintf(link->error, sizeof link->error, "%s: %s", operation, text);
    return false;
}

static bool answered(cbench_link *link, const char *operation) {
    bool is_ok = check(link, operation, amqp_get_rpc_reply(link->state));
    amqp_maybe_release_buffers(link->state);
    return is_ok;
}

bool cbench_connect(cbench_link *link, const char *host, int port) {
    link->state = amqp_new_connection();
    amqp_socket_t *socket = link->state ? amqp_tcp_socket_new(link->state) : NULL;
    if (!socket) return fail(link, "connect", AMQP_STATUS_NO_MEMORY);
    int status = amqp_socket_open(socket, host, port);
    if (status != AMQP_STATUS_OK) return fail(link, "connect", status);
    if (!check(
            link, "login",
            amqp_login(link->state, "/", 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest")))
        return false;
    amqp_channel_open(link->state, 1);
    return answered(link, "channel.open");
}

void cbench_free(cbench_link *link) {
    if (link->has_envelope) amqp_destroy_envelope(&link->envelope);
    if (link->state) {
        amqp_connection_close(link->state, AMQP_REPLY_SUCCESS);
        amqp_destroy_connection(link->state);
    }
    free(link);
}

bool cbench_declare_exchange(cbench_link *link, const char *name, const char *type) {
    amqp_exchange_declare(
        link->state, 1, amqp_cstring_bytes(name), amqp_cstring_bytes(type), 0, 1, 0, 0, amqp_empty_table);
    return answered(link, "exchange.declare");
}

int64_t cbench_declare_queue(cbench_link *link, const char *name, bool is_exclusive, bool is_stream) {
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-queue-type")};
    entry.value.kind = AMQP_FIELD_KIND_UTF8;
    entry.value.value.bytes = amqp_cstring_bytes("stream");
    amqp_table_t arguments = {.num_entries = is_stream, .entries = &entry};
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(
        link->state, 1, is_exclusive ? amqp_empty_bytes : amqp_cstring_bytes(name), 0, !is_exclusive, is_exclusive,
        is_exclusive, arguments);
    int64_t count = -1;
    if (ok) {
        copy(link->queue, sizeof link->queue, ok->queue);
        count = ok->message_count;
    }
    return answered(link, "queue.declare") ? count : -1;
}

bool cbench_bind(cbench_link *link, const char *queue, const char *exchange, const char *key) {
    amqp_queue_bind(
        link->state, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange), amqp_cstring_bytes(key),
        amqp_empty_table);
    return answered(link, "queue.bind");
}

bool cbench_delete_queue(cbench_link *link, const char *name) {
    amqp_queue_delete(link->state, 1, amqp_cstring_bytes(name), 0, 0);
    return answered(link, "queue.delete");
}

bool cbench_delete_exchange(cbench_link *link, const char *name) {
    amqp_exchange_delete(link->state, 1, amqp_cstring_bytes(name), 0);
    return answered(link, "exchange.delete");
}

bool cbench_confirm(cbench_link *link) {
    amqp_confirm_select(link->state, 1);
    link->confirms = true;
    return answered(link, "confirm.select");
}

int64_t cbench_publish(
    cbench_link *link, const char *exchange, const char *key, const char *message_id, const char *reply_to,
    const char *destination, const uint8_t *body, size_t count) {
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x-reload-destination")};
    entry.value.kind = AMQP_FIELD_KIND_UTF8;
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                  AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .message_id = amqp_cstring_bytes(message_id),
        .correlation_id = amqp_cstring_bytes(message_id),
        .type = amqp_cstring_bytes("reload.request.v1"),
        .timestamp = (uint64_t)time(NULL),
    };
    if (reply_to) {
        properties._flags |= AMQP_BASIC_REPLY_TO_FLAG;
        properties.reply_to = amqp_cstring_bytes(reply_to);
    }
    if (destination) {
        entry.value.value.bytes = amqp_cstring_bytes(destination);
        properties._flags |= AMQP_BASIC_HEADERS_FLAG;
        properties.headers = (amqp_table_t){.num_entries = 1, .entries = &entry};
    }
    amqp_bytes_t bytes = {.len = count, .bytes = (void *)body};
    if (link->confirms && link->published == BATCH && !cbench_flush(link)) return -1;
    int64_t before = cbench_now();
    int status = amqp_basic_publish(
        link->state, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), 0, 0, &properties, bytes);
    if (status != AMQP_STATUS_OK) {
        fail(link, "basic.publish", status);
        return -1;
    }
    if (link->confirms) link->published++;
    return before;
}

static void confirm(cbench_link *link, uint64_t tag) {
    if (tag <= link->before || tag > link->before + link->published || link->is_confirmed[tag - link->before - 1]) return;
    link->is_confirmed[tag - link->before - 1] = true;
    link->confirmed++;
}

bool cbench_flush(cbench_link *link) {
    while (link->confirmed < link->published) {
        amqp_frame_t frame;
        struct timeval patience = {.tv_sec = 30};
        int status = amqp_simple_wait_frame_noblock(link->state, &frame, &patience);
        if (status != AMQP_STATUS_OK) return fail(link, "waiting for confirms", status);
        if (frame.frame_type == AMQP_FRAME_METHOD) {
            if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
                return fail(link, "waiting for confirms", AMQP_STATUS_UNEXPECTED_STATE);
            amqp_basic_ack_t *ack = frame.payload.method.decoded;
            for (uint64_t tag = ack->multiple ? link->before + 1 : ack->delivery_tag; tag <= ack->delivery_tag; tag++)
                confirm(link, tag);
        }
        amqp_maybe_release_buffers(link->state);
    }
    link->before += link->published;
    link->published = link->confirmed = 0;
    memset(link->is_confirmed, 0, sizeof link->is_confirmed);
    return true;
}

bool cbench_consume(cbench_link *link, const char *queue) {
    amqp_basic_consume(link->state, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
    return answered(link, "basic.consume");
}

int64_t cbench_next(cbench_link *link, int64_t timeout_ms) {
    if (link->has_envelope) amqp_destroy_envelope(&link->envelope);
    link->has_envelope = false;
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    amqp_maybe_release_buffers(link->state);
    amqp_rpc_reply_t reply = amqp_consume_message(link->state, &link->envelope, &timeout, 0);
    int64_t now = cbench_now();
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && reply.library_error == AMQP_STATUS_TIMEOUT) return 0;
    if (!check(link, "basic.deliver", reply)) return -1;
    link->has_envelope = true;
    amqp_basic_properties_t *properties = &link->envelope.message.properties;
    copy(
        link->correlation_id, sizeof link->correlation_id,
        properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG ? properties->correlation_id : amqp_empty_bytes);
    return now;
}

const uint8_t *cbench_body(const cbench_link *link, size_t *count) {
    *count = link->has_envelope ? link->envelope.message.body.len : 0;
    return link->has_envelope ? link->envelope.message.body.bytes : NULL;
}
