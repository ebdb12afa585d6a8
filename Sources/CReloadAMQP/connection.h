/* What the files of this shim share. */
#ifndef CRELOAD_CONNECTION_H
#define CRELOAD_CONNECTION_H

#include "CReloadAMQP.h"

/* By path: CRabbitMQ is a module for Swift, and offers C no folder of headers. */
#include "../CRabbitMQ/shim.h"

#include <sys/socket.h>

#define MAX_ENTRIES 64
#define MAX_ASKED 16

typedef enum assembly { EXPECT_METHOD, EXPECT_HEADER, EXPECT_BODY } assembly;

/* What OpenSSL told on the way to a TLS connection; librabbitmq reduces it to four numbers. */
typedef struct creload_amqp_handshake {
    bool is_tls;
    bool has_certificate;      /* of the client */
    bool is_certificate_asked; /* for, and there was none */
    int alert;                 /* the last fatal one of the broker, else -1 */
    long verified;             /* X509_V_OK, or the first thing that is wrong with the broker's certificate */
    char server_name[256];     /* what the broker's certificate has to be for */
    bool is_address;           /* that is an IP address */
} creload_amqp_handshake;

/* A request that was sent while requests are collected. */
typedef struct creload_amqp_asked {
    const char *operation;
    amqp_method_number_t answer;
} creload_amqp_asked;

struct creload_amqp_connection {
    amqp_connection_state_t state;
    bool alive;                  /* logged in, and neither side has closed */
    amqp_channel_t channel;      /* the open channel; 0 when there is none */
    amqp_channel_t last_channel; /* numbers are not used again: frames of a closed channel may still be on their way */
    size_t frame_max;            /* bytes of the largest frame that both sides agreed on; librabbitmq takes larger ones */
    bool confirming;
    uint64_t published; /* messages sent since confirm.select */

    bool is_collecting;
    creload_amqp_asked asked[MAX_ASKED]; /* in the order in which the broker answers */
    size_t asked_count;

    creload_amqp_error error;
    char text[512];

    struct sockaddr_storage peer; /* whom creload_amqp_connect() reached */
    socklen_t peer_size;
    creload_amqp_handshake handshake;

    /* What creload_add_... and creload_set_... collected; its strings live in `outgoing`. */
    amqp_pool_t outgoing;
    amqp_table_entry_t entries[MAX_ENTRIES];
    amqp_basic_properties_t properties;
    size_t properties_size; /* upper bound of their encoded form */
    const char *unusable;

    /* The message that is arriving, or the event that was returned last. */
    assembly expecting;
    uint64_t body_limit;
    creload_amqp_event event;
    creload_amqp_event connection_event; /* of channel 0, which may speak in the middle of a message */
    bool has_waiting_event;         /* that one came between answers, and creload_amqp_next() is to return it */
    amqp_table_t headers;
    /* A message of one frame is used where librabbitmq put it. Of a longer one, method and header are copied into
       `detached`, so that librabbitmq's buffers can be given back after each fragment. */
    amqp_pool_t detached;
    bool is_detached;
    uint8_t *body;
    uint64_t received;
};

/* What the files offer one another. Each uses only those above it. */

/* failure.c: each records the failure and returns -1. */
int creload_amqp_fail_library(creload_amqp_connection *connection, const char *operation, int status);
int creload_amqp_fail(creload_amqp_connection *connection, creload_amqp_origin origin, const char *operation,
                      const char *text);
/* Answers and records connection.close or channel.close. */
int creload_amqp_fail_server(creload_amqp_connection *connection, const char *operation, amqp_method_t method);
/* 0 when librabbitmq's last request got its answer. */
int creload_amqp_answered(creload_amqp_connection *connection, const char *operation, amqp_rpc_reply_t reply);
/* 0 when the connection and its channel can be used. */
int creload_amqp_require_channel(creload_amqp_connection *connection, const char *operation);

/* tls.c: the same for a text as printf() makes it. */
int creload_amqp_fail_tls(creload_amqp_connection *connection, const char *operation, creload_amqp_problem problem,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Says why there is no TLS connection, as far as OpenSSL told; 0 when it told nothing. */
int creload_amqp_explain_tls(creload_amqp_connection *connection, const char *operation, int status);
/* An unconnected socket that will speak TLS; NULL is a failure that was recorded. */
amqp_socket_t *creload_amqp_tls_socket(creload_amqp_connection *connection, const char *host,
                                       const creload_amqp_tls *tls);

/* outgoing.c: empties what was collected for the next call. */
void creload_amqp_clear_outgoing(creload_amqp_connection *connection);

/* events.c: waits for the answers to the requests that were collected. */
int creload_amqp_await(creload_amqp_connection *connection);
/* Gives back the memory of the last event. */
void creload_amqp_release_event(creload_amqp_connection *connection);

#endif
