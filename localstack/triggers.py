"""What starts playbooks by itself, the same on every cloud: signed webhooks, objects, messages, ends of playbooks.

Each event comes three times and starts one execution; a webhook that is not right starts none.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localstack.gateway import Gateway

PATH, AFTER = "journey/orders", "journey/after_orders"
# what the webhook, the object and the message say
WEBHOOK, OBJECT, MESSAGE = 1, "in/2.csv", 3
TIMES = 3
SECONDS = 180.0
_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Those of one cloud. `url`: a bucket's; `queue` and `closed`: the keys of a trigger for messages that name a queue
    which the deployment may read, and one which it may not. `write`: an object, of which the deployment is told three
    times; `send`: a message, which is delivered three times; `tick`: lets the reconciler make a pass."""

    url: str
    queue: Mapping[str, str]
    closed: Mapping[str, str]
    write: Callable[[str], object]
    send: Callable[[bytes], object]
    tick: Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Sender:
    """Of webhooks, as Standard Webhooks describes it."""

    gateway: Gateway
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def secret(self) -> str:
        return "whsec_" + base64.b64encode(self.key).decode()

    def deliver(
        self, content: Any, *, id: str, signed_as: str | None = None, age: int = 0, trigger: str = f"{PATH}/hook"
    ) -> tuple[int, Any]:
        """The answer's status and document."""
        body, at = json.dumps(content).encode(), str(int(time.time()) - age)
        signed = f"{signed_as or id}.{at}.".encode() + body
        signature = base64.b64encode(hmac.digest(self.key, signed, "sha256")).decode()
        headers = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
        return self.gateway.deliver(trigger, body, headers)


def check(gateway: Gateway, sources: Sources) -> str:
    """AssertionError if an event starts none or several; what it came to, in a few words."""
    sender = _Sender(gateway)
    credential = {"name": "journey", "type": "webhook_secret", "data": {"secret": sender.secret}}
    gateway.ask("POST", "credentials", credential)
    for playbook in (_orders(sources), _AFTER):
        gateway.register(json.dumps(playbook))
    _refuse(sender)
    answers = [sender.deliver({"n": WEBHOOK}, id="m1") for _ in range(TIMES)]
    assert [(status, answer["duplicate"]) for status, answer in answers] == [(202, False), (202, True), (202, True)]
    assert len({answer["execution_id"] for _, answer in answers}) == 1, answers
    sources.write(OBJECT)
    sources.send(json.dumps({"n": MESSAGE}).encode())
    began = time.monotonic()
    _wait(gateway, sources.tick)
    for name in ("hook", "files", "queue"):
        trigger, events = _trigger(gateway, f"{PATH}/{name}")
        assert trigger["error"] is None, trigger
        assert [event["status"] for event in events] == ["started"], (name, events)
    closed, events = _trigger(gateway, f"{PATH}/closed")
    assert "cannot be read" in str(closed["error"]) and "denied" in str(closed["error"]).lower(), closed
    assert events == [], events
    gateway.ask("POST", f"triggers/{PATH}/closed/disable")
    return f"3 events, {TIMES} times each, and 3 ends started 6 executions within {time.monotonic() - began:.0f} s"


def _refuse(sender: _Sender) -> None:
    """Who sends it learns no reason."""
    somebody = _Sender(sender.gateway)
    for status, answer in (
        somebody.deliver({"n": 0}, id="forged"),
        # what was seen on its way, under another id
        sender.deliver({"n": 0}, id="replayed", signed_as="seen"),
        sender.deliver({"n": 0}, id="old", age=_HOUR),
        sender.deliver({"n": 0}, id="unknown", trigger=f"{PATH}/none"),
    ):
        assert (status, answer["code"]) == (401, "webhook.refused"), (status, answer)
    _, events = _trigger(sender.gateway, f"{PATH}/hook")
    assert events == [], events


def _wait(gateway: Gateway, tick: Callable[[], object]) -> None:
    """Until each of the three has started the one playbook, and the end of each of those the other."""
    expected = sorted(map(str, (WEBHOOK, OBJECT, MESSAGE)))
    deadline = time.monotonic() + SECONDS
    while True:
        tick()
        orders, after = (_results(gateway, path) for path in (PATH, AFTER))
        assert len(orders) <= 3 and len(after) <= 3, f"an event has started several: {orders}, {after}"
        if orders == after == expected:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{SECONDS:g} s have not been enough: {orders}, {after}; {_triggers(gateway)}")
        time.sleep(1)


def _results(gateway: Gateway, path: str) -> list[str]:
    """Of the executions that triggers have started, also of those that have not ended."""
    listed = gateway.ask("GET", f"executions?path={path}")
    assert all(one["principal"]["kind"] == "trigger" for one in listed), listed
    return sorted(str((one["result"] or {}).get("data")) for one in listed)


def _trigger(gateway: Gateway, reference: str) -> tuple[Any, Any]:
    return gateway.ask("GET", f"triggers/{reference}"), gateway.ask("GET", f"triggers/{reference}/events")["items"]


def _triggers(gateway: Gateway) -> Any:
    return gateway.ask("GET", "triggers")["items"]


def _orders(sources: Sources) -> dict[str, Any]:
    return {
        **_playbook(PATH),
        "triggers": [
            {"name": "hook", "kind": "webhook", "auth": "journey", "input": {"n": "{{ event.data.n }}"}},
            {"name": "files", "kind": "object", "url": sources.url, "suffix": ".csv"}
            | {"input": {"n": "{{ event.data.key }}"}},
            {"name": "queue", "kind": "message", **sources.queue, "input": {"n": "{{ event.data.n }}"}},
            {"name": "closed", "kind": "message", **sources.closed, "input": {"n": "{{ event.data.n }}"}},
        ],
    }


def _playbook(path: str) -> dict[str, Any]:
    """Its result is its input."""
    tool = {"kind": "python", "input": {"n": "{{ workload.n }}"}, "code": "result = n"}
    return {
        "apiVersion": "noetl.io/v2",
        "kind": "Playbook",
        "metadata": {"name": path.rpartition("/")[2], "path": path},
        "workload": {"n": None},
        "workflow": [{"step": "one", "tool": tool}],
    }


_AFTER = {
    **_playbook(AFTER),
    "triggers": [
        {"name": "ended", "kind": "playbook", "path": PATH, "input": {"n": "{{ event.data.result.data }}"}},
    ],
}
