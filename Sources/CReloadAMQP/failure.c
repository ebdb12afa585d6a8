/* How an operation ended. */
#include "connection.h"

#include <stdio.h>

int creload_amqp_fail_library(creload_amqp_connection *connection, const char *operation, int status) {
    /* After any error of the library its decoder and the socket are in an unknown state, or already closed. */
    connection->alive = false;
    creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_LIBRARY, operation, amqp_error_string2(status));
    connection->error.library_code = status;
    return -1;
}

int creload_amqp_fail(creload_amqp_connection *connection, creload_amqp_origin origin, const char *operation,
                      const char *text) {
    if (origin == CRELOAD_AMQP_ORIGIN_PROTOCOL) connection->alive = false;
    snprintf(connection->text, sizeof connection->text, "%s", text);
    connection->error.origin = origin;
    connection->error.operation = operation;
    connection->error.library_code = 0;
    connection->error.reply_code = 0;
    connection->error.problem = CRELOAD_AMQP_PROBLEM_OTHER;
    connection->error.unread = (creload_amqp_bytes){NULL, 0};
    return -1;
}

int creload_amqp_fail_server(creload_amqp_connection *connection, const char *operation, amqp_method_t method) {
    creload_amqp_origin origin;
    amqp_bytes_t text;
    uint16_t code;
    if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = method.decoded;
        amqp_connection_close_ok_t ok = {0};
        origin = CRELOAD_AMQP_ORIGIN_CONNECTION;
        text = close->reply_text;
        code = close->reply_code;
        connection->alive = false;
        amqp_send_method(connection->state, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    } else if (method.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = method.decoded;
        amqp_channel_close_ok_t ok = {0};
        origin = CRELOAD_AMQP_ORIGIN_CHANNEL;
        text = close->reply_text;
        code = close->reply_code;
        amqp_send_method(connection->state, connection->channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
        connection->channel = 0;
        connection->expecting = EXPECT_METHOD;
    } else {
        return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_PROTOCOL, operation,
                                 "unexpected answer of the broker");
    }
    creload_amqp_fail(connection, origin, operation, "");
    snprintf(connection->text, sizeof connection->text, "%.*s", (int)text.len, (const char *)text.bytes);
    connection->error.reply_code = code;
    return -1;
}

int creload_amqp_require_channel(creload_amqp_connection *connection, const char *operation) {
    if (!connection->alive) {
        return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_CONNECTION, operation, "the connection is closed");
    }
    if (connection->channel == 0) {
        return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_CHANNEL, operation, "the channel is closed");
    }
    return 0;
}

int creload_amqp_answered(creload_amqp_connection *connection, const char *operation, amqp_rpc_reply_t reply) {
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
        return 0;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        return creload_amqp_fail_library(connection, operation, reply.library_error);
    case AMQP_RESPONSE_SERVER_EXCEPTION:
        return creload_amqp_fail_server(connection, operation, reply.reply);
    case AMQP_RESPONSE_NONE:
        break;
    }
    return creload_amqp_fail_library(connection, operation, AMQP_STATUS_CONNECTION_CLOSED);
}
