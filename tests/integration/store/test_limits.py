"""Limits of commands and executions, kept by PostgreSQL and by the in-memory store alike."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.orchestrator.start import new_root
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.ports import EventStore
from noetl_serverless.protocol import CommandKey, Held
from noetl_serverless.records import Claimant, CommitResult, Lease
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.testing.catalog import MemoryCatalogEntry
from noetl_serverless.testing.event_store import MemoryEventStore

NOW = time.time_ns() // 1_000_000
HOUR = 3600


def plan_of(step: str = "", executor: str = "", items: str = "[1, 2, 3, 4]", name: str = "t") -> tuple[str, Plan]:
    text = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: {name}, path: t/{name}}}
executor: {{spec: {{weight: 10{executor}}}}}
workflow:
  - step: each
    loop: {{in: "{{{{ {items} }}}}", iterator: x, spec: {{mode: parallel}}}}
    spec: {{{step}}}
    tool: {{kind: noop}}
    next: {{arcs: [{{step: b}}]}}
  - {{step: b, tool: {{kind: noop}}}}
"""
    return text, load_plan(text)


@pytest.fixture(params=["postgres", "memory"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    if request.param == "memory":
        yield MemoryEventStore(time.time)
        return
    database = Database(request.getfixturevalue("migrated_url"), 4)
    yield PostgresEventStore(database)
    await database.close()


async def begin(log: EventStore, made: tuple[str, Plan]) -> tuple[str, CommitResult]:
    text, plan = made
    entry = MemoryCatalogEntry(catalog_id=5, path=plan.path, version=1, hash=plan.hash, content=text)
    opening = new_root(entry, plan, {}, NOW, None)
    turn = Transition(opening.execution, plan)
    turn.apply(opening.fact)
    result = await log.commit([turn.to_commit(opening.row)])
    return opening.execution.execution_id, result


async def claim(log: EventStore, room: int = 100, worker: str = "w", lease: float = 30.0) -> list[Lease]:
    return await log.claim(Claimant(worker, "shared", lease, room), None)


async def claim_named(log: EventStore, named: list[tuple[str, CommandKey]], room: int = 100) -> list[Lease]:
    return await log.claim(Claimant("w", "shared", 30.0, room), [key for _, key in named])


async def end(log: EventStore, plan: Plan, lease: Lease, worker: str = "w") -> CommitResult:
    """Report the command."""
    execution = (await log.load([lease.execution_id]))[lease.execution_id]
    turn = Transition(execution, plan, worker)
    command = execution.state.commands[lease.command_id]
    names: dict[str, Any] = {"step": lease.step, "generation": lease.generation, "command_id": lease.command_id}
    if command.frame is None:
        fact = Event(e.CALL_DONE, NOW, **names, payload={"data": 1})
    else:
        _, start, stop, _ = command.frame
        payload = {"start": start, "end": stop, "ok": stop - start, "failed": 0, "data": [1] * (stop - start)}
        fact = Event(e.FRAME_COMMITTED, NOW, **names, payload=payload)
    turn.apply(fact, (lease.command_id, lease.fence))
    result = await log.commit([turn.to_commit()])
    assert result.committed, "the report was refused"
    return result


def names(leases: list[Lease]) -> list[str]:
    return [lease.command_id for lease in leases]


CONCURRENCY = "concurrency: {key: api, limit: 2}"


async def test_no_more_are_claimed_than_may_run_at_once(log: EventStore) -> None:
    text, plan = plan_of(CONCURRENCY)
    _, issued = await begin(log, (text, plan))
    assert issued.pending == [], "a limited command was announced as any other"
    assert len(issued.startable) == 3, "as many as may begin, and one more"
    first = await claim(log)
    assert names(first) == ["each#1.0", "each#1.1"]
    assert await claim(log) == []
    assert await claim_named(log, issued.startable) == []
    ended = await end(log, plan, first[0])
    assert [key.command_id for _, key in ended.startable][:1] == ["each#1.2"]
    assert names(await claim_named(log, ended.startable)) == ["each#1.2"]
    assert await claim(log) == []


async def test_playbooks_that_name_one_key_share_it_and_each_keeps_its_own_limit(log: EventStore) -> None:
    one = plan_of("concurrency: {key: api, limit: 1}", name="one")
    three = plan_of("concurrency: {key: api, limit: 3}", name="three")
    await begin(log, one)
    assert len(await claim(log)) == 1
    await begin(log, three)
    taken = await claim(log)
    assert len(taken) == 2, "three of the key in all"
    await end(log, three[1], taken[0])
    assert [lease.execution_id for lease in await claim(log)] == [taken[0].execution_id]


async def test_what_is_given_back_or_runs_out_waits_for_its_limit_again(log: EventStore) -> None:
    await begin(log, plan_of("concurrency: {limit: 1}"))
    [lease] = await claim(log)
    assert len(await log.release_leases("w", [Held.of(lease)])) == 1
    [again] = await claim(log, lease=-1.0)
    assert again.command_id == lease.command_id
    assert len(await log.expire_leases(5, 100)) == 1
    assert await log.pools_with_pending(-1.0) == [], "it is limited, and not pending"
    assert len(await claim(log)) == 1


async def test_the_slots_of_a_cancelled_execution_are_free(log: EventStore) -> None:
    made = plan_of(CONCURRENCY)
    id, _ = await begin(log, made)
    await begin(log, made)
    assert len(await claim(log)) == 2
    execution = (await log.load([id]))[id]
    turn = Transition(execution, None)
    turn.apply(Event(e.CANCELLED, NOW, payload={"reason": "enough"}))
    await log.commit([turn.to_commit()])
    assert len((await log.startable(10)).commands) == 3
    assert len(await claim(log)) == 2


async def test_no_more_begin_in_a_window_than_the_rate_allows(log: EventStore) -> None:
    text, plan = plan_of(f"rate: {{key: api, per: {HOUR}, limit: 3}}")
    _, issued = await begin(log, (text, plan))
    assert len(issued.startable) == 4
    first = await claim(log)
    assert len(first) == 3
    # what has ended has begun all the same
    for lease in first:
        result = await end(log, plan, lease)
    assert result.startable == []
    assert await claim(log) == []
    found = await log.startable(10)
    assert found.commands == []
    assert found.next_start == pytest.approx(HOUR, abs=60)


async def test_a_command_that_is_claimed_again_counts_again(log: EventStore) -> None:
    await begin(log, plan_of(f"rate: {{per: {HOUR}, limit: 2}}", items="[1]"))
    for _ in range(2):
        [lease] = await claim(log)
        await log.release_leases("w", [Held.of(lease)])
    assert await claim(log) == []


async def test_a_window_ends_exactly_after_its_time(log: EventStore) -> None:
    await begin(log, plan_of("rate: {per: 0.2, limit: 2}"))
    # from before the first began until after another has
    begun: list[tuple[float, float]] = []
    while len(begun) < 4:
        before = time.monotonic()
        begun += [(before, time.monotonic()) for _ in await claim(log)]
    assert begun[0][0] == begun[1][0]
    assert begun[2][1] - begun[0][0] > 0.19, "a third one began within the window"


async def test_the_first_commands_of_executions_wait_for_a_slot_of_their_playbook(log: EventStore) -> None:
    made = plan_of(executor=", concurrency: {limit: 1}")
    first, issued = await begin(log, made)
    second, _ = await begin(log, made)
    assert [key.execution_id for _, key in issued.startable] == [first] * 4
    leases = await claim(log)
    assert {lease.execution_id for lease in leases} == {first}
    assert len(leases) == 4, "an execution that has begun is not limited any more"
    for lease in leases:
        result = await end(log, made[1], lease)
    assert [key.command_id for _, key in result.pending] == ["b#1"], "it is pending as any other"
    [last] = await claim(log)
    assert last.execution_id == first
    ended = await end(log, made[1], last)
    assert {key.execution_id for _, key in ended.startable} == {second}
    assert {lease.execution_id for lease in await claim(log)} == {second}


async def test_what_is_issued_after_a_wait_may_begin_at_once_as_its_execution_has(log: EventStore) -> None:
    text = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
executor: {spec: {concurrency: {limit: 1}}}
workflow:
  - {step: hold, tool: {kind: wait, signal: go}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: noop}}
"""
    plan = load_plan(text)
    id, _ = await begin(log, (text, plan))
    [lease] = await claim(log)
    names: dict[str, Any] = {"step": lease.step, "generation": lease.generation, "command_id": lease.command_id}
    wait = {"signal": "go", "resumes": False}
    facts: list[tuple[Event, tuple[str, int] | None]] = [
        (Event(e.CALL_PARKED, NOW, **names, payload={"wait": wait, "resume": {}}), (lease.command_id, lease.fence)),
        (Event(e.SIGNAL_RECEIVED, NOW, payload={"signal": "go"}), None),
    ]
    for fact, closes in facts:
        turn = Transition((await log.load([id]))[id], plan, "w" if closes else None)
        turn.apply(fact, closes)
        result = await log.commit([turn.to_commit()])
        assert result.committed
    assert [(pool, key.command_id) for pool, key in result.startable] == [("shared", "b#1")]
    assert [lease.command_id for lease in await claim_named(log, result.startable)] == ["b#1"]


async def test_executions_begin_no_faster_than_the_rate_of_their_playbook(log: EventStore) -> None:
    made = plan_of(executor=f", rate: {{key: starts, per: {HOUR}, limit: 2}}", items="[1]")
    ids = [(await begin(log, made))[0] for _ in range(3)]
    assert {lease.execution_id for lease in await claim(log)} == set(ids[:2])
    assert await claim(log) == []


async def test_a_command_that_may_not_begin_holds_up_none_behind_it(log: EventStore) -> None:
    await begin(log, plan_of("concurrency: {key: full, limit: 1}"))
    assert len(await claim(log)) == 1
    free, _ = await begin(log, plan_of("concurrency: {key: free, limit: 1}", name="free"))
    assert [lease.execution_id for lease in await claim(log)] == [free]


async def test_limited_and_other_commands_each_get_their_part_of_the_room(log: EventStore) -> None:
    other, _ = await begin(log, plan_of(name="other"))
    limited, _ = await begin(log, plan_of("concurrency: {limit: 4}"))
    leases = await claim(log, 4)
    assert sorted(lease.execution_id for lease in leases) == sorted([limited] * 2 + [other] * 2)
    assert sorted(lease.execution_id for lease in await claim(log, 100)) == sorted([limited] * 2 + [other] * 2)


async def test_neither_kind_has_all_claims_of_one_command(log: EventStore) -> None:
    items = "range(40) | list"
    other, _ = await begin(log, plan_of(name="other", items=items))
    limited, _ = await begin(log, plan_of("concurrency: {limit: 100}", items=items))
    found = {(await claim(log, 1))[0].execution_id for _ in range(14)}
    assert found == {other, limited}


async def test_a_commit_leases_no_limited_command(log: EventStore) -> None:
    text, plan = plan_of("concurrency: {limit: 1}")
    entry = MemoryCatalogEntry(catalog_id=5, path=plan.path, version=1, hash=plan.hash, content=text)
    opening = new_root(entry, plan, {}, NOW, None)
    turn = Transition(opening.execution, plan)
    turn.apply(opening.fact)
    result = await log.commit([turn.to_commit(opening.row)], replace(Claimant("w", "shared", 30.0, 10)))
    assert result.leases == []
    assert len(result.startable) == 2


async def test_pending_work_tells_of_limited_commands(log: EventStore) -> None:
    assert not (await log.pending_work(0.0)).has_limited_commands
    await begin(log, plan_of("concurrency: {limit: 1}"))
    assert (await log.pending_work(0.0)).has_limited_commands
