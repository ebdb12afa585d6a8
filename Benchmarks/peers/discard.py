"""A consumer of requests for other services: pika and json.loads, each one decided on by its destination."""

import argparse
import fnmatch
import json
import signal
import time

import pika


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

    def on_message(channel, method, properties, body):
        nonlocal seen, mine
        if fnmatch.fnmatchcase(name, json.loads(body)["destination"]):
            mine += 1
        channel.basic_ack(method.delivery_tag)
        seen += 1
        if seen == options.count:
            print(f"done {seen} {time.monotonic_ns()}", flush=True)

    connection = pika.BlockingConnection(pika.URLParameters(options.broker))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=options.prefetch)
    channel.basic_consume(options.queue, on_message)
    print(f"ready {time.monotonic_ns()}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
    channel.start_consuming()
    connection.close()


if __name__ == "__main__":
    main()
