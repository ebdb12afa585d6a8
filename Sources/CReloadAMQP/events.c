#include "connection.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

void creload_amqp_release_event(creload_amqp_connection *connection) {
    /* Half a message may still point into librabbitmq's buffers. */
    if (connection->expecting != EXPECT_METHOD) return;
    free(connection->body);
    connection->body = NULL;
    connection->headers = amqp_empty_table;
    memset(&connection->event, 0, sizeof connection->event);
    if (connection->is_detached) {
        recycle_amqp_pool(&connection->detached);
        connection->is_detached = false;
    }
    if (connection->channel != 0) amqp_maybe_release_buffers_on_channel(connection->state, connection->channel);
}

static creload_amqp_bytes view(amqp_bytes_t bytes) { return (creload_amqp_bytes){bytes.bytes, bytes.len}; }

static void detach(creload_amqp_connection *connection, creload_amqp_bytes *bytes) {
    if (!bytes->bytes || bytes->count == 0) return;
    void *copy = amqp_pool_alloc(&connection->detached, bytes->count);
    if (copy) {
        memcpy(copy, bytes->bytes, bytes->count);
    } else {
        bytes->count = 0;
    }
    bytes->bytes = copy;
}

/* Points the event at decoded properties. */
static void use_properties(creload_amqp_connection *connection, const amqp_basic_properties_t *properties) {
    creload_amqp_event *event = &connection->event;
    amqp_flags_t flags = properties->_flags;
    static uint8_t empty;
#define GET(FIELD, FLAG)                                             \
    if (flags & (FLAG)) {                                            \
        event->FIELD = view(properties->FIELD);                      \
        if (!event->FIELD.bytes) event->FIELD.bytes = &empty;        \
    }
    GET(content_type, AMQP_BASIC_CONTENT_TYPE_FLAG)
    GET(type, AMQP_BASIC_TYPE_FLAG)
    GET(message_id, AMQP_BASIC_MESSAGE_ID_FLAG)
    GET(correlation_id, AMQP_BASIC_CORRELATION_ID_FLAG)
    GET(reply_to, AMQP_BASIC_REPLY_TO_FLAG)
    GET(app_id, AMQP_BASIC_APP_ID_FLAG)
    GET(user_id, AMQP_BASIC_USER_ID_FLAG)
    GET(expiration, AMQP_BASIC_EXPIRATION_FLAG)
#undef GET
    if (flags & AMQP_BASIC_TIMESTAMP_FLAG) {
        event->has_timestamp = true;
        event->timestamp = properties->timestamp;
    }
    if (flags & AMQP_BASIC_HEADERS_FLAG) {
        connection->headers = properties->headers;
        event->header_count = properties->headers.num_entries;
    }
}

static int malformed(creload_amqp_connection *connection, const char *text) {
    return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_PROTOCOL, "receive", text);
}

/* The functions below return 1 when the event is complete, 0 when more frames are needed, -1 on failure. */

static int take_header(creload_amqp_connection *connection, const amqp_frame_t *frame) {
    creload_amqp_event *event = &connection->event;
    if (frame->payload.properties.class_id != AMQP_BASIC_CLASS) {
        return malformed(connection, "content header of another class than basic");
    }
    event->body_size = frame->payload.properties.body_size;
    event->oversized = event->body_size > connection->body_limit;
    connection->received = 0;
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;

    if (event->body_size > connection->frame_max - 8) {
        connection->is_detached = true;
        detach(connection, &event->exchange);
        detach(connection, &event->routing_key);
        detach(connection, &event->consumer_tag);
        detach(connection, &event->reason);
        creload_amqp_bytes raw = view(frame->payload.properties.raw);
        detach(connection, &raw);
        void *decoded = NULL;
        int status = amqp_decode_properties(AMQP_BASIC_CLASS, &connection->detached,
                                            (amqp_bytes_t){raw.count, (void *)raw.bytes}, &decoded);
        if (status != AMQP_STATUS_OK) return creload_amqp_fail_library(connection, "receive", status);
        properties = decoded;
        if (!event->oversized && !(connection->body = malloc(event->body_size))) {
            return creload_amqp_fail_library(connection, "receive", AMQP_STATUS_NO_MEMORY);
        }
        amqp_maybe_release_buffers_on_channel(connection->state, connection->channel);
    }
    use_properties(connection, properties);
    connection->expecting = EXPECT_BODY;
    if (event->body_size > 0) return 0;
    connection->expecting = EXPECT_METHOD;
    return 1;
}

static int take_body(creload_amqp_connection *connection, amqp_bytes_t fragment) {
    creload_amqp_event *event = &connection->event;
    if (fragment.len > event->body_size - connection->received) {
        return malformed(connection, "more body bytes than the header announced");
    }
    if (fragment.len == event->body_size && !connection->is_detached) {
        if (!event->oversized) event->body = view(fragment);
    } else if (!event->oversized) {
        if (!connection->body && !(connection->body = malloc(event->body_size))) {
            return creload_amqp_fail_library(connection, "receive", AMQP_STATUS_NO_MEMORY);
        }
        memcpy(connection->body + connection->received, fragment.bytes, fragment.len);
        event->body = (creload_amqp_bytes){connection->body, event->body_size};
    }
    connection->received += fragment.len;
    if (connection->is_detached) amqp_maybe_release_buffers_on_channel(connection->state, connection->channel);
    if (connection->received < event->body_size) return 0;
    connection->expecting = EXPECT_METHOD;
    return 1;
}

static int confirmed(creload_amqp_connection *connection, creload_amqp_event_kind kind, uint64_t tag, bool multiple) {
    connection->event.kind = kind;
    connection->event.tag = tag;
    connection->event.multiple = multiple;
    return 1;
}

static int take_method(creload_amqp_connection *connection, amqp_method_t method) {
    creload_amqp_event *event = &connection->event;
    switch (method.id) {
    case AMQP_BASIC_DELIVER_METHOD: {
        const amqp_basic_deliver_t *deliver = method.decoded;
        event->kind = CRELOAD_AMQP_EVENT_DELIVERY;
        event->tag = deliver->delivery_tag;
        event->redelivered = deliver->redelivered;
        event->exchange = view(deliver->exchange);
        event->routing_key = view(deliver->routing_key);
        event->consumer_tag = view(deliver->consumer_tag);
        connection->expecting = EXPECT_HEADER;
        return 0;
    }
    case AMQP_BASIC_RETURN_METHOD: {
        const amqp_basic_return_t *returned = method.decoded;
        event->kind = CRELOAD_AMQP_EVENT_RETURNED;
        event->reply_code = returned->reply_code;
        event->reason = view(returned->reply_text);
        event->exchange = view(returned->exchange);
        event->routing_key = view(returned->routing_key);
        connection->expecting = EXPECT_HEADER;
        return 0;
    }
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = method.decoded;
        return confirmed(connection, CRELOAD_AMQP_EVENT_CONFIRMED, ack->delivery_tag, ack->multiple);
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = method.decoded;
        return confirmed(connection, CRELOAD_AMQP_EVENT_REFUSED, nack->delivery_tag, nack->multiple);
    }
    case AMQP_BASIC_CANCEL_METHOD:
        event->kind = CRELOAD_AMQP_EVENT_CANCELLED;
        event->consumer_tag = view(((const amqp_basic_cancel_t *)method.decoded)->consumer_tag);
        return 1;
    case AMQP_CHANNEL_FLOW_METHOD: {
        /* RabbitMQ uses TCP back-pressure instead; the answer keeps another broker content. */
        amqp_channel_flow_ok_t ok = {.active = ((const amqp_channel_flow_t *)method.decoded)->active};
        int status = amqp_send_method(connection->state, connection->channel, AMQP_CHANNEL_FLOW_OK_METHOD, &ok);
        return status == AMQP_STATUS_OK ? 0 : creload_amqp_fail_library(connection, "channel.flow", status);
    }
    case AMQP_CHANNEL_CLOSE_METHOD:
        return creload_amqp_fail_server(connection, "receive", method);
    default:
        return malformed(connection, "unexpected method on the channel");
    }
}

static int take_channel_frame(creload_amqp_connection *connection, const amqp_frame_t *frame) {
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        /* A close may cut a message short. */
        if (connection->expecting != EXPECT_METHOD && frame->payload.method.id != AMQP_CHANNEL_CLOSE_METHOD) {
            return malformed(connection, "a method in the middle of a message");
        }
        return take_method(connection, frame->payload.method);
    case AMQP_FRAME_HEADER:
        if (connection->expecting != EXPECT_HEADER) return malformed(connection, "a content header without a message");
        return take_header(connection, frame);
    case AMQP_FRAME_BODY:
        if (connection->expecting != EXPECT_BODY) return malformed(connection, "a body frame without a header");
        return take_body(connection, frame->payload.body_fragment);
    default:
        return malformed(connection, "unknown kind of frame");
    }
}

static int take_connection_frame(creload_amqp_connection *connection, const char *operation,
                                 const amqp_frame_t *frame) {
    if (frame->frame_type != AMQP_FRAME_METHOD) return malformed(connection, "content on channel 0");
    creload_amqp_event_kind kind;
    creload_amqp_bytes reason = {NULL, 0};
    switch (frame->payload.method.id) {
    case AMQP_CONNECTION_BLOCKED_METHOD:
        kind = CRELOAD_AMQP_EVENT_BLOCKED;
        reason = view(((const amqp_connection_blocked_t *)frame->payload.method.decoded)->reason);
        break;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        kind = CRELOAD_AMQP_EVENT_UNBLOCKED;
        break;
    case AMQP_CONNECTION_CLOSE_METHOD:
        return creload_amqp_fail_server(connection, operation, frame->payload.method);
    default:
        return malformed(connection, "unexpected method on channel 0");
    }
    connection->connection_event = (creload_amqp_event){.kind = kind, .reason = reason};
    return 1;
}

static int64_t milliseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* librabbitmq cannot decode the header of the message that is arriving (from 0.14 on, a table in a hundred others is enough),
   and nothing can be read from the connection any more. The broker would deliver the message again for ever: so it is acknowledged,
   and the broker gets a second to come to that before the connection is torn down. */
static void acknowledge_unread(creload_amqp_connection *connection) {
    if (amqp_basic_ack(connection->state, connection->channel, connection->event.tag, false) != AMQP_STATUS_OK) return;
    connection->error.unread = connection->event.consumer_tag;
    struct pollfd end = {.fd = amqp_get_sockfd(connection->state), .events = POLLIN};
    char rest[4096];
    shutdown(end.fd, SHUT_WR);
    int64_t start = milliseconds_now();
    do {
        if (poll(&end, 1, 1000) != 1 || recv(end.fd, rest, sizeof rest, MSG_DONTWAIT) <= 0) break;
    } while (milliseconds_now() - start < 2000);
}

/* A frame of another channel than the open one: 1 when it is an event of the connection. */
static int take_other_frame(creload_amqp_connection *connection, const char *operation, const amqp_frame_t *frame) {
    if (frame->channel == 0) return take_connection_frame(connection, operation, frame);
    if (frame->channel > connection->last_channel) {
        return malformed(connection, "a frame on a channel that was never opened");
    }
    /* Sent before the broker closed that channel. */
    amqp_maybe_release_buffers_on_channel(connection->state, frame->channel);
    return 0;
}

/* Waits for the answer to one request that was collected. */
static int await(creload_amqp_connection *connection, creload_amqp_asked asked) {
    /* Each has the time that it has when it is sent alone. */
    const struct timeval *limit = amqp_get_rpc_timeout(connection->state);
    int64_t deadline = milliseconds_now() + limit->tv_sec * 1000 + limit->tv_usec / 1000;
    for (;;) {
        amqp_frame_t frame;
        int64_t left = deadline - milliseconds_now();
        struct timeval time = {left / 1000, left % 1000 * 1000};
        int status = AMQP_STATUS_TIMEOUT;
        if (left > 0) status = amqp_simple_wait_frame_noblock(connection->state, &frame, &time);
        if (status != AMQP_STATUS_OK) return creload_amqp_fail_library(connection, asked.operation, status);
        if (frame.channel == connection->channel) {
            if (frame.frame_type != AMQP_FRAME_METHOD) {
                return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_PROTOCOL, asked.operation,
                                         "a message instead of an answer");
            }
            if (frame.payload.method.id == asked.answer) return 0;
            return creload_amqp_fail_server(connection, asked.operation, frame.payload.method);
        }
        int result = take_other_frame(connection, asked.operation, &frame);
        if (result < 0) return -1;
        if (result > 0) {
            connection->has_waiting_event = true;
            connection->connection_event.reason = (creload_amqp_bytes){NULL, 0}; /* it does not last until then */
        }
    }
}

int creload_amqp_await(creload_amqp_connection *connection) {
    size_t count = connection->alive ? connection->asked_count : 0;
    connection->asked_count = 0;
    for (size_t i = 0; i < count; i++)
        if (await(connection, connection->asked[i])) return -1;
    return 0;
}

const creload_amqp_event *creload_amqp_next(creload_amqp_connection *connection) {
    if (creload_amqp_require_channel(connection, "receive")) return NULL;
    creload_amqp_release_event(connection);
    if (connection->has_waiting_event) {
        connection->has_waiting_event = false;
        return &connection->connection_event;
    }
    static const creload_amqp_event nothing = {.kind = CRELOAD_AMQP_EVENT_NOTHING};
    for (;;) {
        struct timeval now = {0, 0}; /* NULL would mean: wait for ever */
        amqp_frame_t frame;
        int status = amqp_simple_wait_frame_noblock(connection->state, &frame, &now);
        if (status == AMQP_STATUS_TIMEOUT) return &nothing;
        if (status != AMQP_STATUS_OK) {
            creload_amqp_fail_library(connection, "receive", status);
            if (status == AMQP_STATUS_BAD_AMQP_DATA && connection->expecting == EXPECT_HEADER &&
                connection->event.kind == CRELOAD_AMQP_EVENT_DELIVERY)
                acknowledge_unread(connection);
            return NULL;
        }
        int result = 0;
        const creload_amqp_event *event = &connection->event;
        if (frame.channel == connection->channel) {
            result = take_channel_frame(connection, &frame);
        } else {
            result = take_other_frame(connection, "receive", &frame);
            event = &connection->connection_event;
        }
        if (result < 0) return NULL;
        if (result > 0) return event;
    }
}

creload_amqp_header creload_amqp_event_header(const creload_amqp_connection *connection, int32_t index) {
    creload_amqp_header header = {.kind = CRELOAD_AMQP_VALUE_OTHER};
    if (index < 0 || index >= connection->headers.num_entries) return header;
    const amqp_table_entry_t *entry = &connection->headers.entries[index];
    const amqp_field_value_t *field = &entry->value;
    header.name = view(entry->key);
    header.kind = CRELOAD_AMQP_VALUE_INTEGER;
    switch (field->kind) {
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        header.kind = CRELOAD_AMQP_VALUE_STRING;
        header.string = view(field->value.bytes);
        break;
    case AMQP_FIELD_KIND_BOOLEAN:
        header.kind = CRELOAD_AMQP_VALUE_BOOL;
        header.integer = field->value.boolean != 0;
        break;
    case AMQP_FIELD_KIND_I8:
        header.integer = field->value.i8;
        break;
    case AMQP_FIELD_KIND_U8:
        header.integer = field->value.u8;
        break;
    case AMQP_FIELD_KIND_I16:
        header.integer = field->value.i16;
        break;
    case AMQP_FIELD_KIND_U16:
        header.integer = field->value.u16;
        break;
    case AMQP_FIELD_KIND_I32:
        header.integer = field->value.i32;
        break;
    case AMQP_FIELD_KIND_U32:
        header.integer = field->value.u32;
        break;
    case AMQP_FIELD_KIND_I64:
        header.integer = field->value.i64;
        break;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        header.integer = (int64_t)field->value.u64;
        if (field->value.u64 > INT64_MAX) header.kind = CRELOAD_AMQP_VALUE_OTHER;
        break;
    default:
        header.kind = CRELOAD_AMQP_VALUE_OTHER;
        break;
    }
    return header;
}

creload_amqp_header creload_amqp_find_header(const creload_amqp_connection *connection, const uint8_t *name,
                                             size_t count) {
    int32_t index = 0;
    for (; index < connection->headers.num_entries; index++) {
        amqp_bytes_t key = connection->headers.entries[index].key;
        if (key.len == count && memcmp(key.bytes, name, count) == 0) break;
    }
    return creload_amqp_event_header(connection, index);
}
