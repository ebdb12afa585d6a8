#include "broker.h"

/* Tells of each message as soon as it is complete, and answers those that ask for it. */
void receive(const options *options) {
    connection connection = connect_broker(options);
    int64_t ready;
    if (options->from_stream) {
        declare_stream(connection, options->stream, options->exchange);
        ready = consume(connection, options->stream, options->prefetch, "next");
        /* RabbitMQ sends consume-ok before it looks where "next" is, and answers this after: what is published once the
           line below is out, arrives. */
        declare_exchange(connection, options->exchange, "fanout");
    } else {
        queue_name queue = declare_ephemeral(connection, options->exchange);
        ready = consume(connection, queue.text, options->prefetch, NULL);
    }
    say("ready %lld", (long long)ready);

    amqp_envelope_t envelope;
    while (next_message(connection, options, &envelope)) {
        int64_t time = now();
        amqp_bytes_t id = message_id(&envelope);
        const amqp_basic_properties_t *properties = &envelope.message.properties;
        if (properties->_flags & AMQP_BASIC_REPLY_TO_FLAG) {
            publish_reply(connection, amqp_empty_bytes, properties->reply_to, id,
                          amqp_cstring_bytes("{\"state\":\"applied\"}"));
        }
        say("got %.*s %lld", (int)id.len, (const char *)id.bytes, (long long)time);
        acknowledge(connection, envelope.delivery_tag, false);
        amqp_destroy_envelope(&envelope);
    }
    disconnect(connection);
}
