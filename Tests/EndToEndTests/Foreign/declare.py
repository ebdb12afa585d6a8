"""Declares the exchanges and queues of the table in docs/wire.md. A broker refuses what is there in another way.

usage: declare.py URL PAGE
"""
import re, sys
import pika

url, page = sys.argv[1:]
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
for line in open(page, encoding="utf-8"):
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    if len(cells) != 5 or not re.fullmatch(r"`reload\.[a-z]+`", cells[0]):
        continue
    name, kind = cells[0].strip("`"), cells[1].split(", ")
    if kind[0] == "exchange":
        channel.exchange_declare(name, kind[1], durable="durable" in kind)
    else:
        found = re.findall(r"`(x-[a-z-]+)` = (?:`([^`]+)`|(\d+))", cells[2])
        arguments = {key: text or int(number) for key, text, number in found}
        channel.queue_declare(name, durable="durable" in kind, arguments=arguments)
        exchange, key = (re.findall("`([^`]+)`", cells[3]) + [""])[:2]
        channel.queue_bind(name, exchange, key)
    print(kind[0], name)
