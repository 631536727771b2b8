"""Whole playbooks by three direct workers, each with an orchestrator and a database role for workers, beside control
planes and reconcilers that have the database as its owner."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pg8000.exceptions import DatabaseError
from tests.integration.concurrency.harness import Harness
from tests.integration.concurrency.test_together import CHAIN, LOOP, PARENT

from noetl_serverless.engine import events as e
from noetl_serverless.protocol import Held
from noetl_serverless.store.connection import sqlstate
from noetl_serverless.store.queries import load

HANDED_DOWN = """
workflow:
  - step: below
    tool: {kind: playbook, path: t/echo, input: {n: 5}}
    next: {arcs: [{step: last}]}
  - {step: last, tool: {kind: python, code: "", input: {n: "{{ below.n }}"}}}
"""
ECHO = """
workload: {n: 0}
workflow: [{step: only, tool: {kind: python, code: "", input: {n: "{{ workload.n }}"}}}]
"""
RETRIED = """
workflow:
  - step: flaky
    tool:
      kind: python
      code: ""
      input: {n: 1}
      spec:
        policy:
          rules: [{when: "{{ _attempt < 3 }}", then: {do: retry, attempts: 3, backoff: fixed, delay: DELAY}}]
    next: {arcs: [{step: last}]}
  - {step: last, tool: {kind: python, code: "", input: {n: 2}}}
"""
TURNS = """
workflow:
  - {step: begin, tool: {kind: noop}, set: {ctx.i: "{{ 0 }}"}, next: {arcs: [{step: turn}]}}
  - step: turn
    tool: {kind: python, code: "", input: {i: "{{ ctx.i + 1 }}"}}
    set: {ctx.i: "{{ output.data.i }}"}
    next: {arcs: [{step: turn, when: "{{ ctx.i < 40 }}"}]}
"""
IN_ORDER = LOOP.replace("mode: parallel, max_in_flight: 8", "mode: sequential")
PIPELINED = "executor: {spec: {durability: pipelined}}" + CHAIN
FORK = """
workflow:
  - step: a
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}, {step: d}]}
  - {step: b, tool: {kind: noop}}
  - {step: c, tool: {kind: noop}}
  - {step: d, tool: {kind: noop}}
"""
MISSING_CHILD = "workflow: [{step: below, tool: {kind: playbook, path: t/nothing}}]"
LARGE = """
workflow:
  - step: make
    tool: {kind: python, code: "", input: {text: "{{ 'x' * 200000 }}"}}
    next: {arcs: [{step: below}]}
  - {step: below, tool: {kind: playbook, path: t/echo, input: {n: "{{ make.text }}"}}}
"""


@pytest.fixture
async def workers(postgres_url: str, worker_url: str, tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(postgres_url, tmp_path, worker_url)
    yield harness
    await harness.close()


async def run(workers: Harness, *paths: str) -> list[str]:
    ids = [await workers.start(path) for path in paths]
    await workers.settle(ids)
    return ids


async def types(workers: Harness, id: str) -> list[str]:
    return [event.type for event in await workers.events(id)]


async def test_what_many_do_at_once_is_done_once(workers: Harness) -> None:
    for path, body in (("t/chain", CHAIN), ("t/loop", LOOP), ("t/parent", PARENT)):
        await workers.add(path, body)
    ids = await run(workers, *[path for path in ("t/chain", "t/loop", "t/parent") for _ in range(4)])

    assert workers.findings() == []
    assert [id for id in ids if not await workers.events(id, e.COMPLETED)] == []
    assert {key: times for key, times in workers.tool.ran.items() if times > 1} == {}


@pytest.mark.parametrize("body", [TURNS, IN_ORDER, PIPELINED, HANDED_DOWN, LARGE, RETRIED.replace("DELAY", "0.01")])
async def test_a_playbook_runs_to_its_end(workers: Harness, body: str) -> None:
    await workers.add("t/echo", ECHO)
    await workers.add("t/main", body)
    (id,) = await run(workers, "t/main")
    assert (await types(workers, id))[-1] == e.COMPLETED, (await workers.events(id))[-1]
    assert workers.findings() == []


async def test_a_retry_waits_for_its_timer(workers: Harness) -> None:
    await workers.add("t/main", RETRIED.replace("DELAY", "6"))
    id = await workers.start("t/main")
    while not (timers := (await workers.planes[0].log.load([id]))[id].state.timers):
        await asyncio.gather(*(worker.drain(5, sweep=True) for worker in workers.workers))
    for name, timer in list(timers.items()):
        step, _, generation = timer.key.rpartition("#")
        assert await workers.planes[0].orchestrator.fire_timer(id, name, step, int(generation))
    for worker in workers.workers:
        await worker.drain(5, sweep=True)
    assert e.TIMER_FIRED in await types(workers, id)
    await workers.planes[0].orchestrator.controls.cancel(id, "enough")
    assert workers.findings() == []


async def test_a_playbook_that_does_not_exist_fails_its_step(workers: Harness) -> None:
    await workers.add("t/main", MISSING_CHILD)
    (id,) = await run(workers, "t/main")
    assert (await workers.events(id))[-1].type == e.FAILED
    error = (await workers.planes[0].log.load([id]))[id].state.error
    assert error is not None and error["code"] == "child.not_found"


async def test_what_is_cancelled_while_it_runs_stays_cancelled(workers: Harness) -> None:
    await workers.add("t/chain", CHAIN)
    await workers.add("t/parent", PARENT)
    id = await workers.start("t/parent")
    workers.tool.let_go.clear()
    draining = asyncio.create_task(workers.workers[0].drain(5, sweep=True))
    await workers.tool.waiting.wait()
    _, cancelled = await workers.planes[0].orchestrator.controls.cancel(id, "enough")
    assert len(cancelled) > 1, "no child was running"
    workers.tool.let_go.set()
    await draining
    await workers.settle(cancelled)
    assert (await workers.events(id))[-1].type == e.CANCELLED
    assert workers.findings() == []


async def test_a_report_that_loses_its_race_twice_goes_through_the_inbox(workers: Harness) -> None:
    await workers.add("t/fork", FORK)
    id = await workers.start("t/fork")
    slow, quick, _ = workers.direct
    assert await quick.tell((await quick.claim())[0]) == "accepted"
    late, *others = await slow.claim()

    async def overtake() -> None:
        assert await quick.tell(others.pop()) == "accepted"

    slow.log.first = [overtake, overtake]
    assert await slow.tell(late) == "accepted"
    assert slow.log.handed_in == 1
    await workers.settle([id])
    assert workers.findings() == []


async def test_leases_are_extended_recovered_and_released(workers: Harness) -> None:
    await workers.add("t/chain", CHAIN)
    id = await workers.start("t/chain")
    plane = workers.direct[0]
    (command,) = await plane.claim("w", limit=1)
    assert [again.command_id for again in await plane.claim("w", recover=True)] == [command.command_id]
    held = [Held.of(command)]
    assert len(await plane.log.extend_leases("w", held, 30)) == 1
    assert len(await plane.log.release_leases("w", held)) == 1
    await workers.settle([id])
    assert workers.findings() == []


@pytest.mark.parametrize("topic", ["credentials", "schedules", "maintenance", "archive"])
async def test_what_is_none_of_its_business_is_refused(workers: Harness, topic: str) -> None:
    """Every statement of the control plane and the reconciler that names a table."""
    database = workers.direct[0].database
    refused = []
    for name, sql in load(topic).items():
        values = dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", sql))
        if "noetl." in sql:
            with pytest.raises(DatabaseError) as caught:
                await database.run(sql, **values)
            refused.append((name, sqlstate(caught.value)))
    assert {name for name, state in refused if state != "42501"} == set()
