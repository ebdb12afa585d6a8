#include "connection.h"

#include <string.h>

static int send_message(creload_amqp_connection *connection, const char *exchange, const char *routing_key,
                        bool mandatory, const uint8_t *body, size_t count) {
    amqp_basic_publish_t publish = {
        .exchange = amqp_cstring_bytes(exchange),
        .routing_key = amqp_cstring_bytes(routing_key),
        .mandatory = mandatory,
    };
    int status = amqp_send_method(connection->state, connection->channel, AMQP_BASIC_PUBLISH_METHOD, &publish);
    if (status != AMQP_STATUS_OK) return status;

    amqp_frame_t frame = {.frame_type = AMQP_FRAME_HEADER, .channel = connection->channel};
    frame.payload.properties.class_id = AMQP_BASIC_CLASS;
    frame.payload.properties.body_size = count;
    frame.payload.properties.decoded = &connection->properties;
    status = amqp_send_frame(connection->state, &frame);

    size_t most = connection->frame_max - 8;
    for (size_t sent = 0; status == AMQP_STATUS_OK && sent < count;) {
        size_t size = count - sent < most ? count - sent : most;
        frame = (amqp_frame_t){.frame_type = AMQP_FRAME_BODY, .channel = connection->channel};
        frame.payload.body_fragment = (amqp_bytes_t){.len = size, .bytes = (void *)(body + sent)};
        status = amqp_send_frame(connection->state, &frame);
        sent += size;
    }
    return status;
}

int creload_amqp_publish(creload_amqp_connection *connection, const char *exchange, const char *routing_key,
                         bool mandatory, bool persistent, const uint8_t *body, size_t count, uint64_t *sequence) {
    const char *operation = "basic.publish";
    int result = -1;
    connection->properties.delivery_mode = persistent ? AMQP_DELIVERY_PERSISTENT : AMQP_DELIVERY_NONPERSISTENT;
    connection->properties._flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
    if (strlen(exchange) > UINT8_MAX || strlen(routing_key) > UINT8_MAX) {
        connection->unusable = "an exchange name or routing key is longer than 255 bytes";
    } else if (connection->properties_size + 64 > connection->frame_max) {
        connection->unusable = "the message's headers are larger than a frame";
    }
    if (connection->unusable) {
        creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_SHIM, operation, connection->unusable);
    } else if (creload_amqp_require_channel(connection, operation) == 0) {
        int status = send_message(connection, exchange, routing_key, mandatory, body, count);
        if (status == AMQP_STATUS_OK) {
            if (connection->confirming) connection->published++;
            *sequence = connection->published;
            result = 0;
        } else {
            creload_amqp_fail_library(connection, operation, status);
        }
    }
    creload_amqp_clear_outgoing(connection);
    return result;
}
