#include "broker.h"

/* Waits for messages that do not come: wakes up for heartbeats only. */
void idle(const options *options) {
    connection connection = connect_broker(options);
    queue_name queue = declare_ephemeral(connection, options->exchange);
    say("ready %lld", (long long)consume(connection, queue.text, options->prefetch, NULL));

    amqp_envelope_t envelope;
    while (next_message(connection, options, &envelope)) {
        acknowledge(connection, envelope.delivery_tag, false);
        amqp_destroy_envelope(&envelope);
    }
    disconnect(connection);
}
