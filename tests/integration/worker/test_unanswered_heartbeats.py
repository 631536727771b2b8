"""A control plane that hears no heartbeats: whatever outlives its lease is stopped, and nothing more of it begins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.integration.worker.chains import PIPELINED, Adder, chain
from tests.integration.worker.conftest import WorkerHarness, own
from tests.integration.worker.stack import Stack

from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import HeartbeatRequest, ReportRequest

RETRIES = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - step: work
    tool:
      kind: python
      code: ""
      input: {n: "{{ workload.n }}"}
      spec: {policy: {rules: [{when: "{{ true }}", then: {do: retry, attempts: 999, backoff: fixed, delay: 0.02}}]}}
"""


async def unanswered(request: HeartbeatRequest, *, timeout: float) -> Any:
    raise Unavailable("the control plane does not answer")


async def test_what_runs_is_stopped_when_its_lease_is_over(harness: WorkerHarness) -> None:
    stopped: list[float] = []
    loop = asyncio.get_running_loop()

    async def run(n: Any) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(loop.time())

    harness.tool.behave = run
    harness.plane.hang.add("heartbeat")
    await harness.send("a")
    began = loop.time()
    summary = await harness.worker(lease=0.5).drain(20)
    assert (summary["lost"], harness.plane.outcomes) == (1, [])
    assert 0.5 <= stopped[0] - began < 2.5, "it outlived its lease"


async def test_no_attempt_begins_after_the_lease(harness: WorkerHarness) -> None:
    began: list[float] = []
    loop = asyncio.get_running_loop()
    harness.plane.plans["h"] = RETRIES
    harness.tool.behave = lambda n: began.append(loop.time())
    harness.plane.hang.add("heartbeat")
    await harness.send("a")
    start = loop.time()
    # long enough for a busy machine to begin within it
    summary = await harness.worker(lease=2.0).drain(10)
    assert summary["lost"] == 1
    assert len(began) > 2
    assert began[-1] - start < 3.0, "it went on after its lease"


async def test_what_waits_for_its_turn_after_the_others_is_let_go(harness: WorkerHarness) -> None:
    harness.plane.hang.add("heartbeat")
    held = asyncio.Event()

    async def hold(n: Any) -> Any:
        await held.wait()

    harness.tool.behave = hold
    last = harness.plane.command("last", own("last"), delivery=5)
    await harness.send("a")
    await harness.notifier.publish("shared", harness.plane.add(last))
    summary = await harness.worker(lease=0.5).drain(20)
    assert (summary["lost"], harness.tool.ran) == (1, ["a"])
    assert harness.plane.outcomes == []


async def test_one_heartbeat_in_vain_leaves_time_for_another(harness: WorkerHarness) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(2.5)

    harness.tool.behave = slowly
    harness.plane.hang.add("heartbeat")
    await harness.send("a")
    draining = asyncio.create_task(harness.worker(lease=1.5).drain(20))
    # the first is sent after a third of the lease, and given up after another
    await eventually(lambda: harness.tool.ran)
    await asyncio.sleep(0.7)
    harness.plane.hang.clear()
    summary = await draining
    assert (summary["lost"], summary["done"]) == (0, 1)


async def test_what_a_report_brought_long_after_it_was_sent_is_given_back(harness: WorkerHarness) -> None:
    """Its lease began when the report was sent, for all the worker knows."""
    harness.plane.follow = lambda outcome: [harness.plane.command("b", "7")] if outcome.command_id == "a" else []
    harness.plane.hold["report"] = asyncio.Event()
    await harness.send("a", execution="7")
    draining = asyncio.create_task(harness.worker(lease=0.5).drain(20))
    await eventually(lambda: harness.plane.reports)
    await asyncio.sleep(0.6)
    harness.plane.hold.pop("report").set()
    await draining
    ends = [(each.command_id, each.fence, each.status) for each in harness.plane.outcomes]
    # given out anew, it may have come to this worker
    assert ends[:2] == [("a", 1, "done"), ("b", 1, "released")]
    assert set(ends[2:]) <= {("b", 2, "done")}


async def test_a_speculative_run_stops_with_the_lease_and_what_ended_before_is_reported(
    tmp_path: Path, tool: Adder
) -> None:
    stack = Stack(tmp_path, lambda kind: tool)
    stack.client.heartbeat = unanswered  # type: ignore[method-assign]
    worker = stack.another(stack.client, lease=0.5)
    tool.gates["s3"] = asyncio.Event()
    late = asyncio.Event()

    async def keep(request: ReportRequest) -> None:
        await late.wait()

    stack.client.meanwhile = keep
    stack.catalog.add("t/t", PIPELINED + chain(5))
    id = (await stack.orchestrator.start(path="t/t")).execution_id
    drain = asyncio.create_task(worker.drain(20))
    await eventually(lambda: "s3#1" in tool.ran)
    await asyncio.sleep(2.0)
    assert worker._drain is not None
    assert not worker._drain.slots.running, "it outlived the lease of what it follows from"
    tool.gates.clear()
    assert "s4#1" not in tool.ran
    # the reports come through: the lease was not given to another
    late.set()
    await drain
    await worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert tool.count() == {"s1#1": 1, "s2#1": 1, "s3#1": 2, "s4#1": 1, "s5#1": 1}
    await worker.close()
