"""Prints which instances are present and what they run. Written from docs/wire.md alone.

usage: present.py URL
"""
import json, sys
from datetime import datetime, timezone
import pika

fleet = {}
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
channel.basic_qos(prefetch_count=200)
start = {"x-stream-offset": "900s"}
for method, _, body in channel.consume("reload.reports", arguments=start, inactivity_timeout=1):
    if not method:
        break
    channel.basic_ack(method.delivery_tag)
    try:
        report = json.loads(body)
        key = ".".join(report[part].replace(".", "_") for part in ("service", "instance", "state"))
        sender = report["service"], report["instance"]
        age = datetime.now(timezone.utc) - datetime.fromisoformat(report["at"].replace("Z", "+00:00"))
        modules = {module["name"]: module["running"]["revision"] for module in report["modules"] if "running" in module}
    except (ValueError, KeyError, TypeError, AttributeError):
        continue
    if key != method.routing_key or report["service"] == "reloadctl":
        continue
    interval = report.get("report_interval_ms", 30000)
    before = {} if report["state"] in ("online", "offline") else fleet.get(sender, (False, {}))[1]
    is_there = report["state"] != "offline" and age.total_seconds() < 3 * interval / 1000
    fleet[sender] = is_there, before | modules
for (service, instance), (is_there, modules) in sorted(fleet.items()):
    if is_there:
        print(service, instance, *(f"{name}={revision}" for name, revision in sorted(modules.items())))
