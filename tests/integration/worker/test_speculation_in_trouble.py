"""Pipelined durability when answers, leases and workers get lost: nothing is lost with them, nothing decided twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.eventually import eventually
from tests.integration.worker.chains import MIXED, PIPELINED, Adder, chain, done, issued, pipelined
from tests.integration.worker.stack import Direct, Stack

from noetl_serverless.engine import events as e
from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import ClaimRequest, ReportRequest
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit


@pytest.mark.parametrize("lost", [1, 2, 5])
async def test_a_lost_answer_loses_nothing_and_repeats_nothing(stack: Stack, tool: Adder, lost: int) -> None:
    stack.client.lose = lost
    state = await stack.run(PIPELINED + chain(40))

    assert (state.status, state.outcomes["s40"]["data"]) == ("completed", {"n": 40})
    assert set(issued(stack, state.execution_id).values()) == {1}
    assert set(tool.count().values()) == {1}


async def test_all_answers_lost(stack: Stack, tool: Adder) -> None:
    stack.client.lose = 1000
    state = await stack.run(PIPELINED + MIXED)

    assert state.status == "completed"
    assert set(issued(stack, state.execution_id).values()) == {1}


async def test_a_speculative_run_ends_when_its_lease_went_to_another_worker(stack: Stack, tool: Adder) -> None:
    other: Any = None
    tool.gates["s4"] = asyncio.Event()

    async def steal(request: ReportRequest) -> None:
        nonlocal other
        if request.worker_id != stack.worker.id or other is not None:
            return
        # the lease of the first is over, and the reconciler gives it to another worker
        for row in stack.log.commands.values():
            row.lease_until = 0.0
        await stack.orchestrator._event_store.expire_leases(5, 10)
        other = asyncio.create_task(stack.another(Direct(stack.orchestrator, stack.log)).drain(20, sweep=True))
        await eventually(lambda: tool.count()["s1#1"] == 2)
        tool.gates.pop("s4").set()

    stack.client.meanwhile = steal
    state = await stack.run(PIPELINED + chain(12))
    summary = await other

    assert (state.status, state.outcomes["s12"]["data"]) == ("completed", {"n": 12})
    assert set(issued(stack, state.execution_id).values()) == {1}
    assert summary["done"] + (await stack.worker.drain(1))["done"] <= 12
    # nothing of what the first had run ahead got into the log
    workers = {event.payload["meta"]["worker"] for event in done(stack, state.execution_id)}
    assert stack.worker.id not in workers
    assert tool.count()["s4#1"] == 2


async def test_a_heartbeat_without_a_lease_stops_the_speculative_run(tmp_path: Path, tool: Adder) -> None:
    stack = Stack(tmp_path, lambda kind: tool)
    worker = stack.another(stack.client, lease=0.3)
    tool.gates["s3"] = asyncio.Event()
    stack.catalog.add("t/t", PIPELINED + chain(5))
    id = (await stack.orchestrator.start(path="t/t")).execution_id
    drain = asyncio.create_task(worker.drain(20))
    await eventually(lambda: "s3#1" in tool.ran and ("s3#1" in [key[1] for key in stack.log.commands]))
    # somebody else's now
    for row in stack.log.commands.values():
        row.fence += 1
    summary = await drain
    assert summary["lost"] == 1
    tool.gates.clear()
    for row in stack.log.commands.values():
        row.lease_until = 0.0
    await stack.log.expire_leases(5, 10)
    await worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert tool.count()["s3#1"] == 2
    await worker.close()


async def test_a_control_plane_that_decides_otherwise_is_obeyed(stack: Stack, tool: Adder) -> None:
    """It routes to `right`, where the worker's playbook says `left`."""
    body = """
    workflow:
      - {step: a, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: WHERE}]}}
      - {step: left, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: end}]}}
      - {step: right, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: end}]}}
      - {step: end, tool: {kind: python, code: "", input: {n: 1}}}
    """
    other = stack.catalog.add("t/other", pipelined(body.replace("WHERE", "left")))
    left = stack.worker.plans._compile(other.content)
    stack.worker.plans._compile = lambda text: left if "path: t/t" in text else None  # type: ignore[assignment, return-value]
    state = await stack.run(pipelined(body.replace("WHERE", "right")))

    assert state.status == "completed"
    assert set(state.outcomes) == {"a", "right", "end"}
    assert "left#1" in tool.ran
    assert "left#1" not in issued(stack, state.execution_id)


async def test_a_step_that_was_issued_with_something_else_is_run_again_with_that(stack: Stack, tool: Adder) -> None:
    body = """
    workload: {add: 5}
    workflow:
      - step: a
        tool: {kind: python, code: "", input: {n: 1}}
        set: {ctx.x: "{{ workload.add + FIX }}"}
        next: {arcs: [{step: b}]}
      - {step: b, tool: {kind: python, code: "", input: {n: "{{ ctx.x }}"}}, next: {arcs: [{step: c}]}}
      - {step: c, tool: {kind: python, code: "", input: {n: "{{ b.n }}"}}}
    """
    other = stack.catalog.add("t/other", pipelined(body.replace("FIX", "100")))
    wrong = stack.worker.plans._compile(other.content)
    stack.worker.plans._compile = lambda text: wrong
    state = await stack.run(pipelined(body.replace("FIX", "0")))

    assert state.outcomes["c"]["data"] == {"n": 7}
    assert tool.count()["b#1"] == 2
    assert set(issued(stack, state.execution_id).values()) == {1}


async def test_a_busy_execution_is_reported_through_its_inbox(
    stack: Stack, tool: Adder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is always taken: the first outcome lies in the inbox, and the rest follows under the next lease."""
    moved: list[int] = []
    commit = stack.log.commit

    async def losing(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        if len(moved) < 2 and any(part.closes for part in parts):
            moved.append(1)
            execution = stack.log.executions[parts[0].execution.execution_id]
            execution.head += 1
            try:
                return await commit(parts, claimant)
            finally:
                execution.head -= 1
        return await commit(parts, claimant)

    monkeypatch.setattr(stack.log, "commit", losing)
    state = await stack.run(PIPELINED + chain(20))

    assert (state.status, state.outcomes["s20"]["data"]) == ("completed", {"n": 20})
    assert len(moved) == 2
    assert set(issued(stack, state.execution_id).values()) == {1}
    assert set(tool.count().values()) == {1}


async def test_cancelling_stops_the_speculative_run(stack: Stack, tool: Adder) -> None:
    tool.gates["s5"] = asyncio.Event()
    stack.catalog.add("t/t", PIPELINED + chain(100))
    id = (await stack.orchestrator.start(path="t/t")).execution_id
    drain = asyncio.create_task(stack.worker.drain(20))
    await eventually(lambda: (id, "s5#1") in stack.log.commands)
    await stack.orchestrator.controls.cancel(id, "enough")
    tool.gates["s5"].set()
    await drain

    assert (await stack.state(id)).status == "cancelled"
    assert stack.types(id)[-1] == e.CANCELLED
    assert len(tool.ran) < 100


async def test_when_the_control_plane_is_gone_the_run_is_left_to_others(stack: Stack, tool: Adder) -> None:
    down = True

    async def refuse(request: ReportRequest) -> None:
        if down:
            raise Unavailable("down")

    stack.client.meanwhile = refuse
    stack.catalog.add("t/t", PIPELINED + chain(10))
    id = (await stack.orchestrator.start(path="t/t")).execution_id
    summary = await stack.worker.drain(2)
    assert (summary["done"], summary["more"], summary["unreported"] > 0) == (0, True, True)
    down = False
    for row in stack.log.commands.values():
        row.lease_until = 0.0
    await stack.log.expire_leases(5, 10)
    await stack.worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert set(issued(stack, id).values()) == {1}


@pytest.mark.parametrize("answered", [500, 503, None])
async def test_a_control_plane_that_stumbles_for_a_moment_costs_no_step(
    stack: Stack, tool: Adder, answered: int | None
) -> None:
    failures = 3

    async def stumble(request: ReportRequest) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("stumbled", doubtful=True, answered=answered)

    stack.client.meanwhile = stumble
    state = await stack.run(PIPELINED + chain(20))

    assert (state.status, state.outcomes["s20"]["data"]) == ("completed", {"n": 20})
    assert set(issued(stack, state.execution_id).values()) == {1}
    if answered is None:
        assert set(tool.count().values()) == {1}, "what had run ahead was thrown away, and run again"


async def test_an_execution_that_cannot_be_reported_does_not_hold_up_the_others(tmp_path: Path, tool: Adder) -> None:
    stack = Stack(tmp_path, lambda kind: tool)
    stack.catalog.add("t/t", PIPELINED + chain(8))
    ids = [(await stack.orchestrator.start(path="t/t")).execution_id for _ in range(6)]

    async def unreportable(request: ReportRequest) -> None:
        await asyncio.sleep(0.01)
        if any(outcome.execution_id == ids[0] for outcome in request.outcomes):
            raise Unavailable("it stumbles over one of them", doubtful=True, answered=500)

    stack.client.meanwhile = unreportable
    worker = stack.another(stack.client, lease=0.6)
    started = asyncio.get_running_loop().time()
    summary = await worker.drain(60)
    took = asyncio.get_running_loop().time() - started
    states = [await stack.state(id) for id in ids]

    assert {state.status for state in states[1:]} == {"completed"}
    assert states[0].status == "running"
    assert (summary["unreported"], summary["more"]) == (1, True)
    assert took < 30, "the worker tried for as long as it had time"
    await worker.close()
    await stack.worker.close()


async def test_a_worker_that_stops_reports_what_it_has_and_hands_the_rest_back(tmp_path: Path, tool: Adder) -> None:
    stack = Stack(tmp_path, lambda kind: tool)
    tool.gates["s6"] = asyncio.Event()
    stack.catalog.add("t/t", PIPELINED + chain(10))
    id = (await stack.orchestrator.start(path="t/t")).execution_id
    worker = stack.another(stack.client)
    worker._grace = 0.05
    drain = asyncio.create_task(worker.drain(20))
    await eventually(lambda: "s6#1" in tool.ran)
    worker.stop()
    await drain
    state = await stack.state(id)
    assert state.outcomes["s5"]["data"] == {"n": 5}
    assert list(state.commands) == ["s6#1"]
    (row,) = stack.log.commands.values()
    assert row.status == "pending"
    tool.gates.clear()
    await stack.worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert {name for name, count in tool.count().items() if count > 1} == {"s6#1"}
    await worker.close()
    await stack.worker.close()


async def test_no_speculative_run_follows_a_second_delivery(stack: Stack) -> None:
    """So that a later step which kills its worker is known by its own deliveries."""
    stack.catalog.add("t/t", PIPELINED + chain(3))
    await stack.orchestrator.start(path="t/t")
    first = (await stack.orchestrator.claim(ClaimRequest(worker_id="w", limit=1))).commands[0]
    stack.log.commands[(first.execution_id, first.command_id)].lease_until = 0.0
    await stack.log.expire_leases(5, 10)
    again = (await stack.orchestrator.claim(ClaimRequest(worker_id="w", limit=1))).commands[0]

    assert first.ahead is not None
    assert (again.delivery, again.ahead) == (2, None)
