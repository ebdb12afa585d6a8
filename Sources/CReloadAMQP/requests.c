/* What is asked of the broker on the channel, apart from publishing. */
#include "connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

int creload_amqp_collect(creload_amqp_connection *connection, bool is_collecting) {
    int on = is_collecting;
    connection->is_collecting = is_collecting;
    setsockopt(amqp_get_sockfd(connection->state), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    return is_collecting ? 0 : creload_amqp_await(connection);
}

/* The table that was collected for this call. */
static amqp_table_t arguments(creload_amqp_connection *connection) {
    return connection->properties.headers;
}

/* Before a request: refuses what could not be collected. */
static int begin(creload_amqp_connection *connection, const char *operation) {
    if (connection->unusable) {
        creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_SHIM, operation, connection->unusable);
    } else if (creload_amqp_require_channel(connection, operation) == 0) {
        return 0;
    }
    creload_amqp_clear_outgoing(connection);
    return -1;
}

/* Sends a request, and does not wait for an answer. */
static int tell(creload_amqp_connection *connection, const char *operation, amqp_method_number_t id, void *method) {
    int status = amqp_send_method(connection->state, connection->channel, id, method);
    creload_amqp_clear_outgoing(connection);
    return status == AMQP_STATUS_OK ? 0 : creload_amqp_fail_library(connection, operation, status);
}

/* Sends a request. Its answer is waited for here, or in creload_amqp_collect() if nothing of it is wanted meanwhile. */
static int ask(creload_amqp_connection *connection, const char *operation, amqp_method_number_t id, void *method,
               amqp_method_number_t answer, const void **decoded) {
    if (connection->is_collecting) {
        if (decoded || connection->asked_count == MAX_ASKED) {
            creload_amqp_clear_outgoing(connection);
            return creload_amqp_fail(connection, CRELOAD_AMQP_ORIGIN_SHIM, operation,
                                     "it cannot be collected with others");
        }
        connection->asked[connection->asked_count++] = (creload_amqp_asked){operation, answer};
        return tell(connection, operation, id, method);
    }
    amqp_method_number_t answers[] = {answer, 0};
    amqp_rpc_reply_t reply = amqp_simple_rpc(connection->state, connection->channel, id, answers, method);
    creload_amqp_clear_outgoing(connection);
    if (creload_amqp_answered(connection, operation, reply)) return -1;
    if (decoded) *decoded = reply.reply.decoded;
    return 0;
}

int creload_amqp_declare_exchange(creload_amqp_connection *connection, const char *name, const char *type,
                                  bool passive, bool durable) {
    if (begin(connection, "exchange.declare")) return -1;
    amqp_exchange_declare_t declare = {.exchange = amqp_cstring_bytes(name),
                                       .type = amqp_cstring_bytes(type),
                                       .passive = passive,
                                       .durable = durable,
                                       .arguments = arguments(connection)};
    return ask(connection, "exchange.declare", AMQP_EXCHANGE_DECLARE_METHOD, &declare, AMQP_EXCHANGE_DECLARE_OK_METHOD,
               NULL);
}

int creload_amqp_declare_queue(creload_amqp_connection *connection, const char *name, bool passive, bool durable,
                               bool exclusive, bool auto_delete, creload_amqp_queue *declared) {
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
        *declared = (creload_amqp_queue){{ok->queue.bytes, ok->queue.len}, ok->message_count, ok->consumer_count};
    }
    return 0;
}

int creload_amqp_bind(creload_amqp_connection *connection, const char *queue, const char *exchange,
                      const char *routing_key) {
    if (begin(connection, "queue.bind")) return -1;
    amqp_queue_bind_t bind = {.queue = amqp_cstring_bytes(queue),
                              .exchange = amqp_cstring_bytes(exchange),
                              .routing_key = amqp_cstring_bytes(routing_key),
                              .arguments = arguments(connection)};
    return ask(connection, "queue.bind", AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD, NULL);
}

int creload_amqp_qos(creload_amqp_connection *connection, uint16_t prefetch) {
    if (begin(connection, "basic.qos")) return -1;
    amqp_basic_qos_t qos = {.prefetch_count = prefetch};
    return ask(connection, "basic.qos", AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD, NULL);
}

int creload_amqp_consume(creload_amqp_connection *connection, const char *queue, bool no_ack, bool exclusive,
                         creload_amqp_bytes *consumer_tag) {
    if (begin(connection, "basic.consume")) return -1;
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue),
                                    .no_ack = no_ack,
                                    .exclusive = exclusive,
                                    .arguments = arguments(connection)};
    const void *decoded;
    if (ask(connection, "basic.consume", AMQP_BASIC_CONSUME_METHOD, &consume, AMQP_BASIC_CONSUME_OK_METHOD, &decoded))
        return -1;
    const amqp_basic_consume_ok_t *ok = decoded;
    *consumer_tag = (creload_amqp_bytes){ok->consumer_tag.bytes, ok->consumer_tag.len};
    return 0;
}

int creload_amqp_consume_also(creload_amqp_connection *connection, const char *queue, const char *consumer_tag) {
    if (begin(connection, "basic.consume")) return -1;
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(queue),
                                    .consumer_tag = amqp_cstring_bytes(consumer_tag),
                                    .nowait = true,
                                    .arguments = arguments(connection)};
    return tell(connection, "basic.consume", AMQP_BASIC_CONSUME_METHOD, &consume);
}

int creload_amqp_cancel(creload_amqp_connection *connection, const char *consumer_tag) {
    if (begin(connection, "basic.cancel")) return -1;
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(consumer_tag), .nowait = true};
    return tell(connection, "basic.cancel", AMQP_BASIC_CANCEL_METHOD, &cancel);
}

int creload_amqp_select_confirms(creload_amqp_connection *connection) {
    if (begin(connection, "confirm.select")) return -1;
    amqp_confirm_select_t select = {0};
    if (ask(connection, "confirm.select", AMQP_CONFIRM_SELECT_METHOD, &select, AMQP_CONFIRM_SELECT_OK_METHOD, NULL))
        return -1;
    connection->confirming = true;
    connection->published = 0;
    return 0;
}

int creload_amqp_ack(creload_amqp_connection *connection, uint64_t tag, bool multiple) {
    if (creload_amqp_require_channel(connection, "basic.ack")) return -1;
    int status = amqp_basic_ack(connection->state, connection->channel, tag, multiple);
    return status == AMQP_STATUS_OK ? 0 : creload_amqp_fail_library(connection, "basic.ack", status);
}
