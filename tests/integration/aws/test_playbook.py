"""Whole playbooks through the handlers, under the official runtime client."""

from __future__ import annotations

from typing import Any

from tests.e2e.stack import PLAYBOOKS

from .conftest import Deploy

FAN_OUT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: wide, path: t/wide}
workload: {count: 100}
workflow:
  - step: each
    loop:
      in: "{{ range(workload.count) | list }}"
      iterator: n
      spec: {mode: parallel, max_in_flight: 32}
    tool:
      kind: python
      input: {n: "{{ iter.n }}"}
      code: "result = n * n"
    next: {arcs: [{step: total, when: "{{ event.name == 'loop.done' }}"}]}
  - step: total
    tool:
      kind: python
      input: {squares: "{{ each.results }}"}
      code: "result = {'total': sum(squares), 'count': len(squares)}"
"""


def text(name: str) -> str:
    return (PLAYBOOKS / name).read_text()


def data(done: dict[str, Any]) -> Any:
    assert done["status"] == "COMPLETED", done.get("error") or done
    return done["result"]["data"]


def test_steps_at_once_and_their_join(deploy: Deploy) -> None:
    assert data(deploy().run(text("fan_out.yaml"))) == {"total": 31, "largest": 9, "share": 0.29}


def test_a_loop_over_a_hundred_items(deploy: Deploy) -> None:
    assert data(deploy().run(FAN_OUT)) == {"total": 328350, "count": 100}


def test_duckdb_runs_in_the_pool_that_has_it_and_reads_a_large_result_from_s3(deploy: Deploy) -> None:
    deployment = deploy()
    found = data(deployment.run(text("big_result.yaml"), {"rows": 20_000}))
    assert found["rows"] == 20_000
    assert found["bytes"] > 1_000_000
    assert deployment["worker_data"].invocations > 0
    stored = deployment.s3.list_objects_v2(Bucket="noetl-results", Prefix="results/")
    assert stored["KeyCount"] > 0


def test_a_timer_between_two_ticks_of_the_schedule_fires_when_it_is_due(deploy: Deploy) -> None:
    """EventBridge's schedules go by the minute; the queue of the reconciler knows seconds."""
    deployment = deploy(tick=3600.0)
    execution = deployment.begin(text("timer.yaml"))
    assert data(deployment.wait(execution))["attempt"] == 2
    assert "timer.fired" in {event["event_type"] for event in deployment.events(execution)}


def test_connections_survive_that_the_functions_stand_still(deploy: Deploy) -> None:
    deployment = deploy(freezes=True)
    for _ in range(3):
        data(deployment.run(text("hello.yaml")))
    assert deployment["control_plane"].failures == []
    assert deployment["worker"].failures == []
