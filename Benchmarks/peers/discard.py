"""A consumer of requests for other services: pika and json.loads, each one decided on by its destination."""

import argparse
import fnmatch
import json
import signal
import sys
import time

import pika
from pika.exceptions import ConnectionClosedByClient


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True, metavar="URL")
    parser.add_argument("--queue", required=True)
    parser.add_argument("--count", required=True, type=int)
    parser.add_argument("--destination", required=True, metavar="NAME", help="service:instance of this process")
    parser.add_argument("--prefetch", type=int, default=250)
    options = parser.parse_args()
    name = options.destination
    seen = mine = 0
    failure = None

    def on_message(channel, method, properties, body):
        nonlocal seen, mine
        if fnmatch.fnmatchcase(name, json.loads(body)["destination"]):
            mine += 1
        channel.basic_ack(method.delivery_tag)
        seen += 1
        if seen == options.count:
            print(f"done {seen} {time.monotonic_ns()}", flush=True)

    def on_connection_open(connection):
        connection.channel(on_open_callback=on_channel_open)

    def on_channel_open(channel):
        channel.add_on_close_callback(on_channel_closed)
        channel.basic_qos(prefetch_count=options.prefetch)
        channel.basic_consume(options.queue, on_message, callback=on_consuming)

    def on_consuming(_):
        print(f"ready {time.monotonic_ns()}", flush=True)

    def on_channel_closed(channel, reason):
        nonlocal failure
        if channel.connection.is_open:  # the broker refused something
            failure = reason
            channel.connection.close()

    def on_closed(connection, reason):
        nonlocal failure
        if not isinstance(reason, ConnectionClosedByClient):
            failure = reason
        connection.ioloop.stop()

    connection = pika.SelectConnection(
        pika.URLParameters(options.broker),
        on_open_callback=on_connection_open,
        on_open_error_callback=on_closed,
        on_close_callback=on_closed,
    )
    signal.signal(signal.SIGTERM, lambda *_: connection.ioloop.add_callback_threadsafe(connection.close))
    connection.ioloop.start()
    if failure is not None:
        sys.exit(f"discard.py: {failure!r}")


if __name__ == "__main__":
    main()
