"""What a user does with a deployment, the same on every cloud. Each returns its result in a few words, and those of the
runs also their execution ids; AssertionError if it went wrong."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

from localstack.gateway import Gateway
from localstack.servers import Servers

from noetl_serverless.cli.file_server import serve_folder

PLAYBOOKS = Path(__file__).resolve().parents[1] / "playbooks"
ITEMS = 1000
FAN_OUT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: squares, path: journey/squares}
workload: {items: 1}
workflow:
  - step: fan
    loop:
      in: "{{ range(workload['items']) | list }}"
      iterator: n
      spec: {mode: parallel, max_in_flight: 50}
    tool:
      kind: python
      input: {n: "{{ iter.n }}"}
      code: "result = {'square': n * n}"
    next: {arcs: [{step: sum}]}
  - step: sum
    tool:
      kind: python
      input: {squares: "{{ fan.results }}"}
      code: "result = {'count': len(squares), 'sum': sum(one['square'] for one in squares)}"
"""


def serve_flights() -> AbstractContextManager[str]:
    """The files that the flagship fetches, at the URL that is yielded."""
    return serve_folder(PLAYBOOKS / "data")


def flagship(gateway: Gateway, servers: Servers, files: AbstractContextManager[str]) -> tuple[str, str]:
    """playbooks/flight_delays.yaml, which fetches files, loads them into a database, and reports."""
    servers.offer_workspace(gateway)
    gateway.register((PLAYBOOKS / "flight_delays.yaml").read_text())
    with files as url:
        state = gateway.run("examples/flight_delays", {"data_url": url}, 180)
    assert state["status"] == "COMPLETED", state.get("error")
    result = state["result"]["data"]
    assert result["verdict"] == "alert" and result["rows_loaded"] == 4276, result
    return state["execution_id"], f"{result['rows_loaded']} flights, {result['because']}"


def fan_out(gateway: Gateway) -> tuple[str, str]:
    gateway.register(FAN_OUT)
    state = gateway.run("journey/squares", {"items": ITEMS}, 300)
    assert state["status"] == "COMPLETED", state.get("error")
    expected = {"count": ITEMS, "sum": sum(n * n for n in range(ITEMS))}
    assert state["result"]["data"] == expected, state["result"]
    return state["execution_id"], f"{ITEMS} items in {state['duration_seconds']:.1f} s"


def schedule(gateway: Gateway, patience: float) -> str:
    """A scheduled run, which is to start within `patience` seconds."""
    gateway.register((PLAYBOOKS / "hello.yaml").read_text())
    made = gateway.ask(
        "POST", "schedules", {"playbook_path": "examples/hello", "interval_seconds": 20, "name": "journey"}
    )
    began = time.monotonic()
    state = gateway.wait(_wait_for_run(gateway, made["schedule_id"], patience), 60)
    assert state["status"] == "COMPLETED", state.get("error")
    gateway.ask("DELETE", f"schedules/{made['schedule_id']}")
    return f"a scheduled run after {time.monotonic() - began:.0f} s"


def _wait_for_run(gateway: Gateway, schedule_id: str, patience: float) -> str:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        listed = gateway.ask("GET", f"schedules/{schedule_id}")
        for run in listed.get("runs", ()):
            if run.get("execution_id"):
                return str(run["execution_id"])
        time.sleep(2)
    raise AssertionError(f"no scheduled run in {patience:g} s")
