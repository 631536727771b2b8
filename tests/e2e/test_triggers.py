"""Each event starts one execution: over the gateway, from NATS and a folder, though functions are killed in between."""

from __future__ import annotations

import asyncio
import base64
import hmac
import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import StreamConfig
from tests.e2e.faults import BrokenStack, broken_stack, eventually

pytestmark = pytest.mark.e2e

KEY = b"a secret of the shop, 32 bytes!!"
WEBHOOKS = 12
HOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: paid, path: triggers/paid}
triggers:
  - {name: hook, kind: webhook, auth: shop, when: "{{ event.data.n >= 0 }}", input: {n: "{{ event.data.n }}"}}
workload: {n: null}
workflow:
  - {step: one, tool: {kind: python, input: {n: "{{ workload.n }}"}, code: "result = n"}}
"""
AFTER = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: after, path: triggers/after}
triggers:
  - {name: paid, kind: playbook, path: triggers/paid, input: {n: "{{ event.data.result.data }}"}}
  - {name: queue, kind: message, source: nats, stream: ORDERS, input: {n: "{{ event.data.n }}"}}
  - {name: folder, kind: object, url: "file://FOLDER/", suffix: .csv, input: {n: "{{ event.data.key }}"}}
workload: {n: null}
workflow:
  - {step: one, tool: {kind: noop}}
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[BrokenStack]:
    with broken_stack(lease=3) as stack:
        secret = {
            "name": "shop",
            "type": "webhook_secret",
            "data": {"secret": "whsec_" + base64.b64encode(KEY).decode()},
        }
        stack.call("POST", "/api/credentials", secret)
        stack.register(HOOK)
        yield stack


def deliver(stack: BrokenStack, n: int, *, key: bytes = KEY, age: int = 0) -> int:
    """The status of one delivery; 0 if there was no answer."""
    body, id, at = json.dumps({"n": n}).encode(), f"m{n}", str(int(time.time()) - age)
    signature = base64.b64encode(hmac.digest(key, f"{id}.{at}.".encode() + body, "sha256")).decode()
    headers = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
    url = f"{stack.running['gateway_url']}/hooks/triggers/paid/hook"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST"), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0


def received(stack: BrokenStack, n: int) -> bool:
    return deliver(stack, n) == 202


def workloads(stack: BrokenStack, path: str) -> list[Any]:
    rows = stack.query("SELECT workload->'n' FROM noetl.execution WHERE path = :path ORDER BY execution_id", path=path)
    return [row[0] for row in rows]


def test_webhooks_start_one_execution_each_though_the_control_plane_is_killed(stack: BrokenStack) -> None:
    assert deliver(stack, -1, key=b"of somebody else") == 401
    assert deliver(stack, -2, age=3600) == 401
    dice = random.Random(7)
    killed: list[int | None] = []
    stack.register(
        AFTER.replace("  - {name: queue", "  # - {name: queue").replace("  - {name: folder", "  # - {name: folder")
    )
    for n in range(WEBHOOKS):
        # three times, and until it has been received: as senders do
        with ThreadPoolExecutor() as threads:
            deliveries = [threads.submit(deliver, stack, n) for _ in range(3)]
            if n % 2:
                time.sleep(dice.random() / 50)
                killed += [stack.kill("control_plane server" if n % 4 == 1 else "reconciler server", dice)]
        if 202 not in [delivery.result() for delivery in deliveries]:
            eventually(partial(received, stack, n))
    assert all(killed)
    eventually(lambda: len(workloads(stack, "triggers/paid")) >= WEBHOOKS)
    eventually(lambda: len(workloads(stack, "triggers/after")) >= WEBHOOKS)
    # an execution is there before its event says so
    count = "SELECT status, count(*) FROM noetl.trigger_event GROUP BY 1"
    eventually(lambda: {status for status, _ in stack.query(count)} == {"started"})
    for path in ("triggers/paid", "triggers/after"):
        assert sorted(workloads(stack, path)) == list(range(WEBHOOKS)), f"not each event has started one {path}"


def test_messages_and_files_start_one_execution_each(stack: BrokenStack, tmp_path: Path) -> None:
    # the stack may run as another user
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o011)

    async def publish(numbers: range) -> None:
        client = await nats.connect(stack.running["nats_url"])
        context = client.jetstream()
        await context.add_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
        for n in numbers:
            await context.publish("orders.new", json.dumps({"n": n}).encode())
        await client.close()

    asyncio.run(publish(range(0)))
    stack.register(AFTER.replace("FOLDER", str(tmp_path)).replace("kind: noop", "kind: noop "))
    before = len(workloads(stack, "triggers/after"))
    asyncio.run(publish(range(100, 120)))
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("x")
    stack.kill("reconciler server", random.Random(7))
    eventually(lambda: len(workloads(stack, "triggers/after")) >= before + 23)
    assert stack.call("GET", "/api/triggers/triggers/after/queue")["error"] is None
    new = workloads(stack, "triggers/after")[before:]
    assert sorted(map(str, new)) == sorted([*(str(n) for n in range(100, 120)), "0.csv", "1.csv", "2.csv"])


def test_triggers_are_managed_from_the_command_line(stack: BrokenStack) -> None:
    hook = "triggers/paid/hook"
    listed = stack.ask("trigger", "list", "--path", "triggers/paid")
    assert [(one["name"], one["effective"]) for one in listed] == [("hook", True)]
    assert "standard" in stack("trigger", "list").out
    assert stack.ask("trigger", "disable", hook)["enabled"] is False
    assert deliver(stack, 1000) == 409
    assert "is enabled" in stack("trigger", "enable", hook).out
    assert stack.ask("trigger", "fire", hook, "--set", "n=5", "--dry-run")["input"] == {"n": 5}
    wrong = stack("trigger", "fire", hook, "--id", "wrong")
    assert (wrong.status, "line 6" in wrong.out) == (1, True)
    assert "wrong" in stack("trigger", "events", hook, "--status", "dead").out
    assert stack("trigger", "event", hook, "wrong").json["event"]["data"] == {}
    assert "is started within seconds" in stack("trigger", "retry", hook, "wrong").out
    eventually(lambda: stack.ask("trigger", "events", hook, "--status", "dead"))
    assert stack.ask("trigger", "drop", hook, "wrong")["status"] == "dropped"
    assert stack("trigger", "get", "nothing").status == 2
