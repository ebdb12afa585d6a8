#ifndef BARE_C_BROKER_H
#define BARE_C_BROKER_H

#include "program.h"

/* librabbitmq 0.12 moved its headers into a folder; 0.11 has them at the top. */
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

/* Every connection has this one channel. */
enum { CHANNEL = 1 };

typedef amqp_connection_state_t connection;

/* A queue's name is at most 255 bytes. */
typedef struct {
    char text[256];
} queue_name;

/* A connection with its channel open. Like all of these, it ends the process when the broker refuses. */
connection connect_broker(const options *options);

void declare_exchange(connection connection, const char *name, const char *type);

/* An exclusive auto-delete queue with a name made by the server, bound to a durable fanout exchange. */
queue_name declare_ephemeral(connection connection, const char *exchange);

/* A durable stream, kept 30 days and up to 1 GiB, bound to a durable fanout exchange. */
void declare_stream(connection connection, const char *name, const char *exchange);

/* Consumes with manual acks; offset is where in a stream, NULL for other queues. The time of consume-ok. */
int64_t consume(connection connection, const char *queue, uint16_t prefetch, const char *offset);

/* Whether a message is there without asking the system: in librabbitmq's buffer or among its queued frames. */
bool at_hand(connection connection);

/* The message that has begun to arrive; false if there is none. Sends the heartbeat when it is due. */
bool take_message(connection connection, amqp_envelope_t *envelope);

/* Waits for a message; false when the process is to stop. */
bool next_message(connection connection, const options *options, amqp_envelope_t *envelope);

void acknowledge(connection connection, uint64_t tag, bool multiple);

/* A persistent JSON message of type reload.status.v1, unconfirmed. */
void publish_reply(connection connection, amqp_bytes_t exchange, amqp_bytes_t routing_key, amqp_bytes_t correlation_id,
                   amqp_bytes_t body);

/* The request's message id, empty if it has none. */
amqp_bytes_t message_id(const amqp_envelope_t *envelope);

void disconnect(connection connection);

#endif
