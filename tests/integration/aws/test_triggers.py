"""Triggers on the functions of AWS: a webhook over the gateway, an object, a message, the end of another playbook."""

from __future__ import annotations

import base64
import hmac
import json
import time
from contextlib import closing
from typing import Any

from tests.eventually import committed, while_progressing
from tests.infra.deployment import Answer, Deployment

from noetl_serverless.store.connection import connect

from .conftest import Deploy

KEY = b"a secret of the shop, 32 bytes!!"
TEXT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: aws/t}
triggers:
  - {name: hook, kind: webhook, auth: shop, input: {n: "{{ event.data.n }}"}}
  - {name: files, kind: object, url: "s3://orders/in/", suffix: .csv, input: {n: "{{ event.data.key }}"}}
  - {name: queue, kind: message, source: sqs, queue: orders, input: {n: "{{ event.data.n }}"}}
workload: {n: null}
workflow:
  - {step: one, tool: {kind: python, input: {n: "{{ workload.n }}"}, code: "result = n"}}
"""
AFTER = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: after, path: aws/after}
triggers:
  - {name: ended, kind: playbook, path: aws/t, input: {n: "{{ event.data.result.data }}"}}
workload: {n: null}
workflow:
  - {step: one, tool: {kind: noop}}
"""


def workloads(url: str) -> dict[str, list[Any]]:
    """By the path of the playbook that was started."""
    found: dict[str, list[Any]] = {"aws/t": [], "aws/after": []}
    with closing(connect(url)) as connection:
        for path, n in connection.run("SELECT path, workload->'n' FROM noetl.execution") or ():
            found[path].append(n)
    return {path: sorted(numbers, key=str) for path, numbers in found.items()}


def deliver(deployment: Deployment, n: int, *, key: bytes = KEY, age: int = 0, signed: int | None = None) -> Answer:
    """The webhook whose id has that number, signed as if it had another."""
    body, at = json.dumps({"n": n}), str(int(time.time()) - age)
    signature = base64.b64encode(hmac.digest(key, f"m{signed or n}.{at}.{body}".encode(), "sha256")).decode()
    headers = {"webhook-id": f"m{n}", "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
    return deployment.request("POST", "/hooks/aws/t/hook", {"n": n}, function="gateway", headers=headers)


def test_each_event_starts_one_execution_however_often_it_is_delivered(deploy: Deploy, postgres_url: str) -> None:
    deployment = deploy()
    orders = deployment.sqs.create_queue(QueueName="orders")["QueueUrl"]
    secret = {"name": "shop", "type": "webhook_secret", "data": {"secret": "whsec_" + base64.b64encode(KEY).decode()}}
    assert deployment.request("POST", "/api/credentials", secret).status == 200
    deployment.register(TEXT)
    deployment.register(AFTER)

    answers = [deliver(deployment, 1) for _ in range(3)]
    assert [(answer.status, answer.body["duplicate"]) for answer in answers] == [
        (202, False),
        (202, True),
        (202, True),
    ]
    forged, replayed, old = (
        deliver(deployment, 2, key=b"of somebody else"),
        deliver(deployment, 3, signed=1),
        deliver(deployment, 4, age=3600),
    )
    for refused in (forged, replayed, old):
        assert (refused.status, refused.body["code"]) == (401, "webhook.refused")

    def written(key: str) -> str:
        s3 = {"bucket": {"name": "orders"}, "object": {"key": key, "size": 1, "eTag": "e", "sequencer": "1"}}
        record = {"eventName": "ObjectCreated:Put", "eventTime": "2025-07-01T12:00:00Z", "s3": s3}
        return json.dumps({"TopicArn": "arn", "Message": json.dumps({"Records": [record]})})

    for key in ("in/a.csv", "in/a.csv", "in/b.txt", "out/c.csv", "in/d.csv"):
        deployment.sqs.send_message(QueueUrl=deployment.queues["reconciler"], MessageBody=written(key))
    deployment.sqs.send_message(QueueUrl=orders, MessageBody='{"n": 7}')

    started = [1, 7, "in/a.csv", "in/d.csv"]
    expected = {"aws/t": started, "aws/after": started}
    lasts = while_progressing(lambda: committed(postgres_url), 60.0)
    while (found := workloads(postgres_url)) != expected and lasts():
        time.sleep(0.2)
    assert found == expected, deployment.log()[-4000:]
