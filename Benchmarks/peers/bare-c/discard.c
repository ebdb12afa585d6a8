#include "broker.h"

/* Of --ack multiple: so many messages at most wait for one acknowledgement. */
enum { MOST_PENDING = 50 };

/* Reads each message into memory and acknowledges it, unread. */
void discard(const options *options) {
    connection connection = connect_broker(options);
    say("ready %lld", (long long)consume(connection, options->queue, options->prefetch, NULL));

    int64_t count = 0;
    int pending = 0;
    amqp_envelope_t envelope;
    while (next_message(connection, options, &envelope)) {
        pending++;
        if (!options->ack_multiple || pending == MOST_PENDING || pending == options->prefetch || !at_hand(connection)) {
            acknowledge(connection, envelope.delivery_tag, pending > 1);
            pending = 0;
        }
        amqp_destroy_envelope(&envelope);
        if (++count == options->count) say("done %lld %lld", (long long)count, (long long)now());
    }
    disconnect(connection);
}
