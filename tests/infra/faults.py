"""Faults that every host survives: the same two bodies run on a laptop, on Lambda and on Cloud Run."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from tests import serving

# seconds: of a lease, of the clock's next minute, of a cold start beside other loads
PATIENCE = 180.0
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: faults, path: faults/chain}
workload: {url: ""}
workflow:
  - step: before
    tool: {kind: python, code: "result = {'n': 20}"}
    next: {arcs: [{step: asks}]}
  - step: asks
    tool: {kind: http, endpoint: "{{ workload.url }}"}
    next: {arcs: [{step: after}]}
  - step: after
    tool:
      kind: python
      input: {n: "{{ before.n }}", more: "{{ asks.data.n }}"}
      code: "result = {'sum': n + more}"
"""
STEPS = ("before", "asks", "after")


class Host(Protocol):
    """A deployment of the engine, as its user sees it, and the two faults."""

    def register(self, text: str) -> None: ...

    def begin(self, path: str, workload: Mapping[str, Any]) -> str:
        """The id of a new execution."""
        ...

    def wait(self, execution_id: str, patience: float) -> dict[str, Any]:
        """The execution, once it has ended."""
        ...

    def events(self, execution_id: str) -> list[dict[str, Any]]: ...

    def kill_workers(self) -> int:
        """End the processes that run a worker, without a warning; returns how many there were."""
        ...

    def without_notifications(self) -> AbstractContextManager[None]:
        """While it lasts, no worker is told of a command; AssertionError at its end if none was lost."""
        ...


class Service:
    """Answers {"n": 22}, but the first request only when it is released."""

    def __init__(self) -> None:
        self.requests = 0
        self.requested = threading.Event()
        self.released = threading.Event()


@contextmanager
def service() -> Iterator[tuple[Service, str]]:
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            is_first = state.requests == 1
            state.requested.set()
            if is_first:
                state.released.wait(PATIENCE)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"n": 22}')

        def log_message(self, *args: Any) -> None:
            return None

    with serving.serving(Handler) as url:
        try:
            yield state, url
        finally:
            state.released.set()


def check_kill(host: Host) -> str:
    """A worker that dies with a step under way: the step is run again, and no other."""
    host.register(PLAYBOOK)
    with service() as (state, url):
        execution_id = host.begin("faults/chain", {"url": url})
        assert state.requested.wait(PATIENCE), "the step was not started"
        began = time.monotonic()
        killed = host.kill_workers()
        assert killed, "there was no worker to kill"
        ended = host.wait(execution_id, PATIENCE)
        state.released.set()
        assert state.requests >= 2, "the step was not run again"
    _check_whole(host, execution_id, ended)
    return f"{killed} killed, ended {time.monotonic() - began:.0f} s later"


def check_lost_notification(host: Host) -> str:
    """A command of which no worker was told: it is found, and run."""
    host.register(PLAYBOOK)
    with service() as (state, url):
        state.released.set()
        state.requests = 1
        with host.without_notifications():
            execution_id = host.begin("faults/chain", {"url": url})
            # all that would tell a worker has been sent, and lost
            time.sleep(2)
        began = time.monotonic()
        ended = host.wait(execution_id, PATIENCE)
    _check_whole(host, execution_id, ended)
    return f"ended {time.monotonic() - began:.0f} s later"


def _check_whole(host: Host, execution_id: str, ended: Mapping[str, Any]) -> None:
    assert ended["status"] == "COMPLETED", ended
    assert ended["result"]["data"] == {"sum": 42}, ended["result"]
    outcomes = Counter(event["step"] for event in host.events(execution_id) if event["event_type"] == "call.done")
    assert outcomes == dict.fromkeys(STEPS, 1), "each step is decided once"
