"""The hot-update consumer that the project began with, in Python 3: pika and importlib.reload."""

import argparse
import importlib
import json
import signal
import sys
import time

import pika


def update(request):
    """Imports the module that the request names, or reloads it."""
    name = request["model_path"]
    if request.get("is_append_path") and request["physical_path"] not in sys.path:
        sys.path.append(request["physical_path"])
    module = sys.modules.get(name)
    if module is None:
        importlib.invalidate_caches()  # the file may be newer than this process
        importlib.import_module(name)
    else:
        importlib.reload(module)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True, metavar="URL")
    parser.add_argument("--exchange", required=True)
    parser.add_argument("--reply", action="store_true", help="answer requests that have a reply_to")
    options = parser.parse_args()

    def on_message(channel, method, properties, body):
        update(json.loads(body))
        done = time.monotonic_ns()
        if options.reply and properties.reply_to:
            channel.basic_publish(
                exchange="",
                routing_key=properties.reply_to,
                body=b'{"state":"applied"}',
                properties=pika.BasicProperties(
                    content_type="application/json",
                    delivery_mode=2,
                    correlation_id=properties.message_id,
                    type="reload.status.v1",
                ),
            )
        print(f"got {properties.message_id} {done}", flush=True)
        channel.basic_ack(method.delivery_tag)

    connection = pika.BlockingConnection(pika.URLParameters(options.broker))
    channel = connection.channel()
    channel.exchange_declare(options.exchange, exchange_type="fanout", durable=True)
    queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
    channel.queue_bind(queue, options.exchange)
    channel.basic_consume(queue, on_message)
    print(f"ready {time.monotonic_ns()}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
    channel.start_consuming()
    connection.close()


if __name__ == "__main__":
    main()
