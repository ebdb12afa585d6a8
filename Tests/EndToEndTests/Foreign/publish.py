"""Publishes a config and prints how the fleet answers. Written from docs/wire.md alone.

usage: publish.py URL SERVICE MODULE FILE ANSWERS
Exit status: 0 all good, 1 some not, 3 too few answers within 30 seconds.
"""
import base64, json, sys, time, uuid
import pika

url, service, module, file, awaited = sys.argv[1:]
now, request_id, answers = time.time(), str(uuid.uuid4()), {}
request = {
    "protocol": "reload.request.v1", "operation": "apply", "origin": "publish.py", "destination": f"{service}:*",
    "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
    "modules": [{"name": module, "kind": "config", "revision": int(now * 1000),
                 "inline": base64.b64encode(open(file, "rb").read()).decode()}],
}
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.confirm_delivery()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "reload.status", service.replace(".", "_") + ".*.*")
channel.basic_publish("reload.control", "", json.dumps(request), pika.BasicProperties(
    message_id=request_id, timestamp=int(now), delivery_mode=2, headers={"x-reload-destination": f"{service}:*"}),
    mandatory=True)
for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
    if time.time() > now + 30:
        sys.exit(3)
    report = json.loads(body or "{}")
    if report.get("request") == request_id and report["state"] != "applying":
        state = report["state"]
    elif request_id in report.get("superseded", []):
        state = "superseded"
    else:
        continue
    answers[report["service"], report["instance"]] = state in ("applied", "unchanged", "validated")
    print(report["service"], report["instance"], state, report["code"])
    if len(answers) == int(awaited):
        sys.exit(0 if all(answers.values()) else 1)
