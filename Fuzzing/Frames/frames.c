/*
 * Fuzzes the shim over librabbitmq with what a broker says: a login, and then frames made of the fuzzer's bytes.
 *
 * Client and broker are one thread. All that the broker says is in the socket before the client reads, and then the broker is
 * gone, so nothing ever waits. What the client says is drained and forgotten.
 *
 * An input is one byte of FLAGS, one byte for each call that the client makes (as many as the second byte says), and records.
 * Without RAW a record is
 *
 *     kind (1: method, 2: header, 3: body, others as they are), channel, length (two bytes), payload
 *
 * and becomes a frame that is right on the outside. Kinds above 127 repeat the payload up to 127 times in that many frames.
 */
#include "connection.h"

#include <amqp_tcp_socket.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum flags {
    RAW = 1,         /* the bytes as they are */
    NO_LOGIN = 2,    /* from the first byte on; otherwise a good login comes first */
    BODY_SIZES = 4,  /* the size in a header is that of the bodies that follow it */
    SMALL_LIMIT = 8, /* bodies over 64 bytes are oversized */
    CLOSE = 16,      /* the client says goodbye */
    EXTERNAL = 32,   /* the client logs in without a password */
};

/* ---- the broker's side */

typedef struct output {
    uint8_t *bytes;
    size_t count, capacity;
} output;

static const size_t most_output = 1 << 20;

static void add(output *out, const void *bytes, size_t count) {
    if (count > most_output - out->count) return;
    if (out->count + count > out->capacity) {
        out->capacity = (out->count + count) * 2;
        out->bytes = realloc(out->bytes, out->capacity);
        if (!out->bytes) abort();
    }
    if (count > 0) memcpy(out->bytes + out->count, bytes, count);
    out->count += count;
}

static void add_frame(output *out, uint8_t type, uint16_t channel, const void *payload, uint32_t count) {
    if (count + 8 > most_output - out->count) return;
    uint8_t head[7] = {type, channel >> 8, channel & 255, count >> 24, count >> 16, count >> 8, count};
    add(out, head, sizeof head);
    add(out, payload, count);
    add(out, "\xCE", 1);
}

#define METHOD(OUT, CHANNEL, TEXT) add_frame(OUT, AMQP_FRAME_METHOD, CHANNEL, TEXT, sizeof TEXT - 1)

static void add_login(output *out) {
    METHOD(out, 0, "\0\x0A\0\x0A\0\x09\0\0\0\0\0\0\0\x0EPLAIN EXTERNAL\0\0\0\x05" "en_US"); /* connection.start */
    /* connection.tune, with the smallest frames there are: a message of more than one frame is within reach then, and
       librabbitmq's buffers are small enough for the fast half of the address sanitizer's allocator. */
    METHOD(out, 0, "\0\x0A\0\x1E\x07\xFF\0\0\x10\0\0\x0A");
    METHOD(out, 0, "\0\x0A\0\x29\0");       /* connection.open-ok */
    METHOD(out, 1, "\0\x14\0\x0B\0\0\0\0"); /* channel.open-ok */
}

typedef struct record {
    uint8_t kind;
    uint16_t channel;
    uint32_t count;
    const uint8_t *payload;
} record;

static size_t take_record(const uint8_t *data, size_t size, record *record) {
    if (size < 4) return 0;
    record->kind = data[0];
    record->channel = data[1];
    record->count = data[2] << 8 | data[3];
    if (record->count > size - 4) record->count = size - 4;
    record->payload = data + 4;
    return 4 + record->count;
}

static uint64_t size_of_bodies(const uint8_t *data, size_t size) {
    uint64_t total = 0;
    record body;
    for (size_t used; (used = take_record(data, size, &body)) && (body.kind & 127) == AMQP_FRAME_BODY;) {
        total += (uint64_t)body.count * (body.kind > 127 ? body.count & 127 : 1);
        data += used;
        size -= used;
    }
    return total;
}

static void add_records(output *out, const uint8_t *data, size_t size, uint8_t flags) {
    record record;
    for (size_t used; (used = take_record(data, size, &record)); data += used, size -= used) {
        uint8_t kind = record.kind & 127;
        uint8_t header[12];
        const uint8_t *rest = data + used;
        size_t left = size - used;
        if (kind == AMQP_FRAME_HEADER && flags & BODY_SIZES && record.count >= sizeof header) {
            uint64_t bodies = size_of_bodies(rest, left);
            memcpy(header, record.payload, 4);
            for (int index = 0; index < 8; index++) header[4 + index] = bodies >> (56 - 8 * index);
            output payload = {0};
            add(&payload, header, sizeof header);
            add(&payload, record.payload + sizeof header, record.count - sizeof header);
            add_frame(out, kind, record.channel, payload.bytes, record.count);
            free(payload.bytes);
            continue;
        }
        for (int times = record.kind > 127 ? record.count & 127 : 1; times > 0; times--) {
            add_frame(out, kind, record.channel, record.payload, record.count);
        }
    }
}

/* ---- the client's side */

static uint64_t sum; /* what was read, so that the compiler does not leave it out */

static void must(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "frames: %s\n", what);
    abort();
}

static void read_bytes(creload_amqp_bytes bytes) {
    must(bytes.count == 0 || bytes.bytes, "a slice without bytes has a size");
    for (size_t index = 0; index < bytes.count; index++) sum += bytes.bytes[index];
}

static void read_event(const creload_amqp_connection *connection, const creload_amqp_event *event) {
    const creload_amqp_bytes all[] = {event->body, event->exchange, event->routing_key, event->consumer_tag, event->content_type,
                                 event->type, event->message_id, event->correlation_id, event->reply_to, event->app_id,
                                 event->user_id, event->expiration, event->reason};
    for (size_t index = 0; index < sizeof all / sizeof *all; index++) read_bytes(all[index]);
    for (int32_t index = -1; index <= event->header_count; index++) {
        creload_amqp_header header = creload_amqp_event_header(connection, index);
        read_bytes(header.name);
        read_bytes(header.string);
        must(header.kind == CRELOAD_AMQP_VALUE_STRING || !header.string.bytes, "a value that is no string has bytes");
        if (header.name.bytes) {
            must(creload_amqp_find_header(connection, header.name.bytes, header.name.count).name.bytes != NULL,
                 "a header is not found by its name");
        }
    }
    if (event->kind == CRELOAD_AMQP_EVENT_DELIVERY || event->kind == CRELOAD_AMQP_EVENT_RETURNED) {
        must(event->body.count == (event->oversized ? 0 : event->body_size), "a body of another size than announced");
    }
}

/* Reads until nothing is left. */
static int read_all(creload_amqp_connection *connection) {
    for (;;) {
        const creload_amqp_event *event = creload_amqp_next(connection);
        if (!event) return -1;
        if (event->kind == CRELOAD_AMQP_EVENT_NOTHING) return 0;
        read_event(connection, event);
        creload_amqp_has_pending(connection);
        if (event->kind == CRELOAD_AMQP_EVENT_DELIVERY && creload_amqp_ack(connection, event->tag, false)) return -1;
    }
}

/* Requests whose answers are waited for together. */
static int collect(creload_amqp_connection *connection, uint8_t number) {
    const char *const text = "x-queue-type";
    creload_amqp_bytes name;
    int result = creload_amqp_collect(connection, true);
    for (int count = number / 12; result == 0 && count >= 0; count--) {
        switch (count % 4) {
        case 0: result = creload_amqp_bind(connection, text, text, "#"); break;
        case 1: result = creload_amqp_declare_queue(connection, text, count & 8, true, false, false, NULL); break;
        case 2: result = creload_amqp_declare_exchange(connection, text, "topic", count & 8, true); break;
        case 3: result = count & 8 ? creload_amqp_consume(connection, text, false, false, &name) : creload_amqp_qos(connection, 1); break;
        }
    }
    int answered = creload_amqp_collect(connection, false);
    return result ? result : answered;
}

static int call(creload_amqp_connection *connection, uint8_t number) {
    creload_amqp_bytes name = {NULL, 0};
    creload_amqp_queue declared = {{NULL, 0}, 0, 0};
    uint64_t sequence = 0;
    const char *const text = "x-stream-offset";
    int result;
    switch (number % 12) {
    case 0:
        creload_amqp_add_string(connection, "x-queue-type", "stream", 6);
        result = creload_amqp_declare_queue(connection, text, false, true, false, false, &declared);
        name = declared.name;
        break;
    case 1:
        creload_amqp_add_integer(connection, text, number);
        result = creload_amqp_consume(connection, text, false, false, &name);
        break;
    case 2: result = creload_amqp_declare_exchange(connection, text, "fanout", false, true); break;
    case 3: result = creload_amqp_bind(connection, text, text, ""); break;
    case 4: result = creload_amqp_qos(connection, number); break;
    case 5: result = creload_amqp_cancel(connection, text); break;
    case 6: result = creload_amqp_select_confirms(connection); break;
    case 7:
        creload_amqp_add_bool(connection, text, true);
        creload_amqp_add_timestamp(connection, "t", number);
        creload_amqp_set_property(connection, CRELOAD_AMQP_MESSAGE_ID, text, number % 16);
        creload_amqp_set_timestamp(connection, number);
        result = creload_amqp_publish(connection, text, "", true, true, (const uint8_t *)text, number % 16, &sequence);
        break;
    case 8: result = creload_amqp_ack(connection, number, true); break;
    case 9: result = creload_amqp_open_channel(connection); break;
    case 10: result = collect(connection, number); break;
    default: {
        /* One step only, so that a request comes in the middle of what arrives. */
        const creload_amqp_event *event = creload_amqp_next(connection);
        if (event) read_event(connection, event);
        result = event ? 0 : -1;
    }
    }
    if (result == 0) read_bytes(name);
    return result;
}

/* 0 when the connection can be used again. */
static int recover(creload_amqp_connection *connection) {
    const creload_amqp_error *error = creload_amqp_last_error(connection);
    must(strlen(error->text) < sizeof connection->text && error->operation, "an error without words");
    if (error->origin == CRELOAD_AMQP_ORIGIN_SHIM) return 0;
    if (error->origin != CRELOAD_AMQP_ORIGIN_CHANNEL) {
        must(!connection->alive, "a connection lives on after its error");
        must(creload_amqp_next(connection) == NULL, "a dead connection has an event");
        return -1;
    }
    return creload_amqp_open_channel(connection);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return -1;
    uint8_t flags = data[0];
    size_t calls = data[1] % 8;
    if (calls > size - 2) calls = size - 2;
    const uint8_t *numbers = data + 2;
    data += 2 + calls;
    size -= 2 + calls;

    output out = {0};
    if (!(flags & NO_LOGIN)) add_login(&out);
    if (flags & RAW) {
        add(&out, data, size);
    } else {
        add_records(&out, data, size, flags);
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) abort();
    int room = 2 * most_output;
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    for (size_t sent = 0; sent < out.count;) {
        ssize_t count = send(ends[1], out.bytes + sent, out.count - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count <= 0) break; /* what does not fit is not said */
        sent += count;
    }
    shutdown(ends[1], SHUT_WR);
    free(out.bytes);

    creload_amqp_connection *connection = creload_amqp_new(flags & SMALL_LIMIT ? 64 : 1 << 20);
    amqp_tcp_socket_set_sockfd(amqp_tcp_socket_new(connection->state), ends[0]);
    const char *password = flags & EXTERNAL ? NULL : "guest";
    int result = creload_amqp_login(connection, "/", "guest", password, "fuzz", 10, 1000, 1000);
    for (size_t index = 0; index < calls; index++) {
        if (result && recover(connection)) break;
        result = call(connection, numbers[index]);
    }
    for (int tries = 0; tries < 3 && (result == 0 || recover(connection) == 0); tries++) result = read_all(connection);
    if (flags & CLOSE) creload_amqp_close(connection, 1000);
    creload_amqp_free(connection);
    close(ends[1]);
    return 0;
}
