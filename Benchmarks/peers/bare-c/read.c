#include "broker.h"

/* Reads a stream from its beginning. */
void read_stream(const options *options) {
    connection connection = connect_broker(options);
    say("ready %lld", (long long)consume(connection, options->stream, options->prefetch, "first"));

    int64_t count = 0;
    amqp_envelope_t envelope;
    while (next_message(connection, options, &envelope)) {
        acknowledge(connection, envelope.delivery_tag, false);
        amqp_destroy_envelope(&envelope);
        if (++count == options->count) say("done %lld %lld", (long long)count, (long long)now());
    }
    disconnect(connection);
}
