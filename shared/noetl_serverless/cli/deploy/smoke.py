"""Checks whether a deployment works: its probes, a chain of steps, and a loop that takes many workers."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ...plurals import counted
from ..client import Client
from ..contexts import Context
from ..failure import Failure

PATH = "noetl/smoke"
PLAYBOOK = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: smoke, path: {PATH}}}
workload: {{items: 100}}
workflow:
  - step: begin
    tool: {{kind: python, input: {{items: "{{{{ workload.items }}}}"}}, code: "result = {{'items': items}}"}}
    next: {{arcs: [{{step: each}}]}}
  - step: each
    loop:
      in: "{{{{ range(begin.items) | list }}}}"
      iterator: n
      spec: {{mode: parallel, max_in_flight: 64}}
    tool: {{kind: python, input: {{n: "{{{{ iter.n }}}}"}}, code: "result = n * n"}}
    next: {{arcs: [{{step: end, when: "{{{{ event.name == 'loop.done' }}}}"}}]}}
  - step: end
    tool:
      kind: python
      input: {{squares: "{{{{ each.results }}}}"}}
      code: "result = {{'count': len(squares), 'total': sum(squares)}}"
"""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    seconds: float
    detail: str = ""


def smoke(context: Context, client: Client, items: int, report: Callable[[Check], None]) -> list[Check]:
    """Run the checks; calls `report` after each one and returns all of them."""
    checks: list[Check] = []

    def run(name: str, work: Callable[[], str]) -> None:
        started = time.monotonic()
        try:
            detail, ok = work(), True
        except Failure as failure:
            detail, ok = failure.detail, False
        checks.append(Check(name, ok, time.monotonic() - started, detail))
        report(checks[-1])

    run("control plane answers", lambda: _status(client.get("/livez")))
    run("control plane is ready", lambda: _status(client.get("/readyz")))
    if context.gateway_url:
        run("gateway answers", lambda: _probe(context.gateway_url, "/livez"))
        run("gateway is ready", lambda: _probe(context.gateway_url, "/readyz"))
    run("a playbook runs", lambda: _playbook(client, items))
    return checks


def _status(body: dict[str, str]) -> str:
    return str(body["status"])


def _probe(url: str, path: str) -> str:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=60)
    try:
        connection.request("GET", parts.path.rstrip("/") + path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"{url} does not answer: {error}") from error
    finally:
        connection.close()
    if status != 200:
        raise Failure(f"{url}{path} returned status {status}")
    return "ok"


def _playbook(client: Client, items: int) -> str:
    client.register(PLAYBOOK)
    execution_id = client.execute(PATH, None, {"items": items})
    for _ in client.follow(execution_id):
        pass
    entry = client.execution(execution_id)
    if entry["status"] != "COMPLETED":
        raise Failure(f"execution {execution_id} ended with status {entry['status']}: {entry.get('error')}")
    found = (entry.get("result") or {}).get("data")
    expected = {"count": items, "total": sum(n * n for n in range(items))}
    if found != expected:
        raise Failure(f"execution {execution_id} returned {found}; expected {expected}")
    return f"{counted(items, 'item')} in {float(entry.get('duration_seconds') or 0):.1f} s (execution {execution_id})"
