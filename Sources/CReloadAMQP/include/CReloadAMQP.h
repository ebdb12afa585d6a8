/*
 * One AMQP 0-9-1 connection with one open channel, over librabbitmq, written to be called from Swift.
 *
 * librabbitmq cannot be used from Swift as it is: its login functions are C-variadic, its results are unions, and its
 * message functions block without limit. This shim adds what is missing and nothing more.
 *
 * Threads: none of these functions may run at the same time as another on the same connection.
 * Results: 0 is success, -1 a failure that creload_amqp_last_error() describes. Strings in are UTF-8 and need to live only
 * during the call; pointers out live until the next call on the same connection.
 */
#ifndef CRELOAD_AMQP_H
#define CRELOAD_AMQP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#pragma clang assume_nonnull begin
#define CRELOAD_AMQP_ENUM __attribute__((enum_extensibility(closed)))
#define CRELOAD_AMQP_NULLABLE _Nullable
#else
#define CRELOAD_AMQP_ENUM
#define CRELOAD_AMQP_NULLABLE
#endif

/* Opaque, so that librabbitmq's own types stay out of Swift. */
typedef struct creload_amqp_connection creload_amqp_connection;

/* Who found the failure; librabbitmq spreads this over three result types. */
typedef enum CRELOAD_AMQP_ENUM creload_amqp_origin {
    CRELOAD_AMQP_ORIGIN_LIBRARY = 1,    /* librabbitmq: socket, timeouts, heartbeats, undecodable data */
    CRELOAD_AMQP_ORIGIN_CONNECTION = 2, /* the broker closed the connection, which was answered; or it is closed already */
    CRELOAD_AMQP_ORIGIN_CHANNEL = 3,    /* the broker closed the channel, which was answered; or it is closed already */
    CRELOAD_AMQP_ORIGIN_PROTOCOL = 4,   /* the broker sent frames in an order that AMQP does not allow */
    CRELOAD_AMQP_ORIGIN_SHIM = 5,       /* a message or argument that cannot be sent; nothing was */
    CRELOAD_AMQP_ORIGIN_TLS = 6,        /* TLS or one of its files; `problem` says what */
} creload_amqp_origin;

/* What is wrong with a TLS connection, or for the want of one. */
typedef enum CRELOAD_AMQP_ENUM creload_amqp_problem {
    CRELOAD_AMQP_PROBLEM_OTHER = 0,                 /* the text says what */
    CRELOAD_AMQP_PROBLEM_FILE = 1,                  /* a CA, certificate or key file is missing, unreadable or no PEM */
    CRELOAD_AMQP_PROBLEM_KEY = 2,                   /* the key does not belong to the certificate */
    CRELOAD_AMQP_PROBLEM_AUTHORITY = 3,             /* no CA that is trusted here vouches for the broker */
    CRELOAD_AMQP_PROBLEM_EXPIRED = 4,               /* the broker's certificate, or its CA's, is not valid now */
    CRELOAD_AMQP_PROBLEM_HOST_NAME = 5,             /* the broker's certificate is for another name */
    CRELOAD_AMQP_PROBLEM_NOT_TLS = 6,               /* the port answers, but not with TLS */
    CRELOAD_AMQP_PROBLEM_IS_TLS = 7,                /* the port speaks TLS, and the client did not */
    CRELOAD_AMQP_PROBLEM_VERSION = 8,               /* no TLS version that both take */
    CRELOAD_AMQP_PROBLEM_NO_CERTIFICATE = 9,        /* the broker wants a client certificate */
    CRELOAD_AMQP_PROBLEM_CERTIFICATE_REFUSED = 10,  /* the broker does not take the client's certificate */
} creload_amqp_problem;

/* A slice; `bytes` is NULL when the value is absent. */
typedef struct creload_amqp_bytes {
    const uint8_t *CRELOAD_AMQP_NULLABLE bytes;
    size_t count;
} creload_amqp_bytes;

/* Everything that is known about the last failure. */
typedef struct creload_amqp_error {
    creload_amqp_origin origin;
    int32_t library_code;  /* amqp_status_enum, 0 when the library did not fail */
    uint16_t reply_code;   /* AMQP reply code of the broker's close, else 0 */
    creload_amqp_problem problem; /* of CRELOAD_AMQP_ORIGIN_TLS */
    const char *operation; /* the AMQP method or step that failed, such as "queue.declare" */
    const char *text;      /* the broker's reply text, or the library's or the shim's sentence */
    creload_amqp_bytes unread;  /* consumer tag of a message whose header cannot be decoded: it was acknowledged unread */
} creload_amqp_error;

/* The string properties of basic messages that the protocol uses. */
typedef enum CRELOAD_AMQP_ENUM creload_amqp_property {
    CRELOAD_AMQP_CONTENT_TYPE = 0,
    CRELOAD_AMQP_TYPE = 1,
    CRELOAD_AMQP_MESSAGE_ID = 2,
    CRELOAD_AMQP_CORRELATION_ID = 3,
    CRELOAD_AMQP_REPLY_TO = 4,
    CRELOAD_AMQP_APP_ID = 5,
    CRELOAD_AMQP_USER_ID = 6,
    CRELOAD_AMQP_EXPIRATION = 7,
} creload_amqp_property;

typedef enum CRELOAD_AMQP_ENUM creload_amqp_event_kind {
    CRELOAD_AMQP_EVENT_NOTHING = 0, /* all that has arrived is handled */
    CRELOAD_AMQP_EVENT_DELIVERY = 1,
    CRELOAD_AMQP_EVENT_RETURNED = 2,  /* a mandatory message that no queue took; its confirm follows */
    CRELOAD_AMQP_EVENT_CONFIRMED = 3, /* basic.ack of the broker */
    CRELOAD_AMQP_EVENT_REFUSED = 4,   /* basic.nack of the broker */
    CRELOAD_AMQP_EVENT_CANCELLED = 5, /* the broker ended the consumer, for example because its queue was deleted */
    CRELOAD_AMQP_EVENT_BLOCKED = 6,
    CRELOAD_AMQP_EVENT_UNBLOCKED = 7,
} creload_amqp_event_kind;

/* One thing that the broker said. */
typedef struct creload_amqp_event {
    creload_amqp_event_kind kind;
    uint64_t tag;       /* delivery tag, or the sequence number of a confirm */
    bool multiple;      /* a confirm for `tag` and all before it */
    bool redelivered;
    bool oversized;     /* the body was over the limit; its bytes were skipped, never stored */
    bool has_timestamp;
    uint64_t timestamp; /* seconds since 1970 */
    uint64_t body_size; /* bytes on the wire */
    creload_amqp_bytes body;
    creload_amqp_bytes exchange;
    creload_amqp_bytes routing_key;
    creload_amqp_bytes consumer_tag;
    creload_amqp_bytes content_type, type, message_id, correlation_id, reply_to, app_id, user_id, expiration;
    uint16_t reply_code;  /* of a returned message */
    creload_amqp_bytes reason; /* reply text of a returned message, or why the connection is blocked */
    int32_t header_count;
} creload_amqp_event;

typedef enum CRELOAD_AMQP_ENUM creload_amqp_value_kind {
    CRELOAD_AMQP_VALUE_STRING = 0,
    CRELOAD_AMQP_VALUE_INTEGER = 1,
    CRELOAD_AMQP_VALUE_BOOL = 2,
    CRELOAD_AMQP_VALUE_OTHER = 3, /* nested tables, arrays, floating point, decimals, nothing, integers over INT64_MAX */
} creload_amqp_value_kind;

typedef struct creload_amqp_header {
    creload_amqp_bytes name;
    creload_amqp_value_kind kind;
    creload_amqp_bytes string;
    int64_t integer; /* also the bool, and a timestamp's seconds */
} creload_amqp_header;

/* An unconnected connection; NULL only without memory. Swift frees it with creload_amqp_free() in one place. */
creload_amqp_connection *CRELOAD_AMQP_NULLABLE creload_amqp_new(uint64_t body_limit);
/* Closes the socket, without a word to the broker, and frees everything. */
void creload_amqp_free(creload_amqp_connection *connection);

/* How to speak TLS 1.2 or newer. */
typedef struct creload_amqp_tls {
    const char *CRELOAD_AMQP_NULLABLE ca_file;          /* PEM; NULL for the system's */
    const char *CRELOAD_AMQP_NULLABLE certificate_file; /* PEM with its chain, of the client */
    const char *CRELOAD_AMQP_NULLABLE key_file;         /* PEM; NULL when it is in `certificate_file` */
    const char *CRELOAD_AMQP_NULLABLE server_name;      /* what the broker's certificate is for; NULL for the host */
    bool is_unverified;                            /* any certificate will do */
} creload_amqp_tls;

/* Resolves `host` and connects within `timeout_ms` (the look-up itself has the resolver's own limits), with TLS unless
   `tls` is NULL. `stuck_ms` becomes TCP_USER_TIMEOUT: librabbitmq's write path can otherwise wait for ever on a broker
   that no longer reads. Keepalive is off, because heartbeats do its work. */
int creload_amqp_connect(creload_amqp_connection *connection, const char *host, int32_t port,
                         const creload_amqp_tls *CRELOAD_AMQP_NULLABLE tls, int32_t timeout_ms, int32_t stuck_ms);
/* Logs in with PLAIN, or without a `password` with EXTERNAL, and opens a channel. The capabilities that amqp_login()
   never announces are announced here; without them a broker drops a consumer silently. `rpc_timeout_ms` bounds every
   later call that waits for an answer. */
int creload_amqp_login(creload_amqp_connection *connection, const char *virtual_host, const char *user,
                       const char *CRELOAD_AMQP_NULLABLE password, const char *connection_name,
                       int32_t heartbeat_seconds, int32_t handshake_timeout_ms, int32_t rpc_timeout_ms);
/* After a login that failed: if the port speaks TLS, the last error says so from now on. For that it is asked once more, for a
   second at most; not after an interruption, which does not end it. */
void creload_amqp_explain_login(creload_amqp_connection *connection);
/* Opens a new channel in place of one that the broker closed. */
int creload_amqp_open_channel(creload_amqp_connection *connection);
/* Says connection.close and waits at most `timeout_ms` for the answer. */
int creload_amqp_close(creload_amqp_connection *connection, int32_t timeout_ms);

/* The socket for poll(), -1 when there is none. */
int creload_amqp_socket(const creload_amqp_connection *connection);
/* The heartbeat in seconds that both sides agreed on; 0 means none. */
int32_t creload_amqp_heartbeat(const creload_amqp_connection *connection);
/* Whether creload_amqp_next() has work that poll() on the socket would not show, because an earlier call read it. */
bool creload_amqp_has_pending(const creload_amqp_connection *connection);
/* What the last function that returned -1 or NULL complained of. */
const creload_amqp_error *creload_amqp_last_error(const creload_amqp_connection *connection);

/* These fill the argument table, or the headers, of the next declare, bind, consume or publish call, which empties it. */
void creload_amqp_add_string(creload_amqp_connection *connection, const char *name, const char *value, size_t count);
void creload_amqp_add_integer(creload_amqp_connection *connection, const char *name, int64_t value);
void creload_amqp_add_bool(creload_amqp_connection *connection, const char *name, bool value);
void creload_amqp_add_timestamp(creload_amqp_connection *connection, const char *name, uint64_t seconds);
/* Sets one property of the next published message. */
void creload_amqp_set_property(creload_amqp_connection *connection, creload_amqp_property property, const char *value,
                               size_t count);
void creload_amqp_set_timestamp(creload_amqp_connection *connection, uint64_t seconds);

/* From `true` until `false` the kernel collects what is sent (TCP_CORK): several messages with three frames each, or several
   requests, then go out as one segment, and the broker wakes up once. `false` also waits for the answers to the requests, in
   their order. Its failure is that of the first one that was refused or not answered; the broker does nothing of what
   follows one that it refuses. No message may come between the answers: no consumer is there yet, and none of what was published
   waits for its confirm. */
int creload_amqp_collect(creload_amqp_connection *connection, bool is_collecting);

/* What the broker says about a queue. */
typedef struct creload_amqp_queue {
    creload_amqp_bytes name;
    uint32_t messages;  /* ready for delivery */
    uint32_t consumers;
} creload_amqp_queue;

int creload_amqp_declare_exchange(creload_amqp_connection *connection, const char *name, const char *type,
                                  bool passive, bool durable);
/* An empty `name` asks for one made by the broker; the name comes back in `declared`. Only without `declared` it can be
   collected. */
int creload_amqp_declare_queue(creload_amqp_connection *connection, const char *name, bool passive, bool durable,
                               bool exclusive, bool auto_delete, creload_amqp_queue *CRELOAD_AMQP_NULLABLE declared);
int creload_amqp_bind(creload_amqp_connection *connection, const char *queue, const char *exchange,
                      const char *routing_key);
int creload_amqp_qos(creload_amqp_connection *connection, uint16_t prefetch);
/* The consumer's tag is made by the broker and comes back in `consumer_tag`. It cannot be collected. */
int creload_amqp_consume(creload_amqp_connection *connection, const char *queue, bool no_ack, bool exclusive,
                         creload_amqp_bytes *consumer_tag);
/* Starts one more consumer, whose tag is the caller's, and ends one, without waiting for an answer: meanwhile librabbitmq would
   decode messages for the others, and creload_amqp_next() alone knows what to do with one that cannot be. A refusal comes from there. */
int creload_amqp_consume_also(creload_amqp_connection *connection, const char *queue, const char *consumer_tag);
int creload_amqp_cancel(creload_amqp_connection *connection, const char *consumer_tag);
int creload_amqp_select_confirms(creload_amqp_connection *connection);

/* Sends one message; `sequence` is its number for confirms. Not amqp_basic_publish(): when a heartbeat is overdue, that
   function waits for ever for a byte from the broker. */
int creload_amqp_publish(creload_amqp_connection *connection, const char *exchange, const char *routing_key,
                         bool mandatory, bool persistent, const uint8_t *CRELOAD_AMQP_NULLABLE body, size_t count,
                         uint64_t *sequence);
int creload_amqp_ack(creload_amqp_connection *connection, uint64_t tag, bool multiple);

/* The next thing that the broker said, without waiting; NULL is a failure. It also sends a heartbeat that is due and
   notices when the broker's are missing, so it must be called at least once in half a heartbeat.
   amqp_consume_message() and amqp_read_message() are not used: they block in the middle of a message. */
const creload_amqp_event *CRELOAD_AMQP_NULLABLE creload_amqp_next(creload_amqp_connection *connection);
/* Header number `index` of the event that creload_amqp_next() returned last. */
creload_amqp_header creload_amqp_event_header(const creload_amqp_connection *connection, int32_t index);
/* The header called `name` of that event; with `name.bytes` NULL when there is none. Of several the
   first: where the broker sets a header that the publisher has written twice, as `x-stream-offset` of a stream, it replaces
   the first and leaves the other. */
creload_amqp_header creload_amqp_find_header(const creload_amqp_connection *connection, const uint8_t *name,
                                             size_t count);

/* An eventfd, with which another thread ends a poll(); Swift's C library module does not have it. -1 when the process has
   no descriptor left. It is closed with close(). */
int creload_amqp_wake_open(void);
/* Makes it readable; from any thread. */
void creload_amqp_wake_signal(int descriptor);
/* Makes it unreadable again. */
void creload_amqp_wake_clear(int descriptor);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#endif
