"""Reports: each command counts once, under the fence it was claimed with, whatever else stands in the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.engine import events as e
from noetl_serverless.errors import Unavailable
from noetl_serverless.limits import INLINE_BYTES, PAYLOAD_BYTES, WORKLOAD_BYTES
from noetl_serverless.records import (
    Claimant,
    CommitResult,
    ExecutionCommit,
    LoadedExecution,
    ReportedFact,
    UnstorableCommit,
)

PAY = """
- {step: pay, tool: {kind: noop}, next: {arcs: [{step: after}]}}
- {step: after, tool: {kind: noop}}
"""


async def reclaimed(engine: Engine) -> tuple[Any, Any]:
    """One command, claimed twice by one worker: its lease ran out between."""
    (first,) = await engine.claim()
    engine.seconds += 60
    await engine.log.expire_leases(5, 10)
    (second,) = await engine.claim()
    assert second.fence > first.fence
    return first, second


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_two_reports_of_one_command_the_one_with_the_present_fence_counts(
    engine: Engine, order: tuple[int, int]
) -> None:
    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    both = await reclaimed(engine)
    reports = [done(both[0], "old"), done(both[1], "new")]
    answer = await engine.report(*(reports[place] for place in order))
    assert [answer.results[place].status for place in order] == ["stale", "accepted"]
    (fact,) = [event for event in engine.memory.executions[id].events if event.type == e.CALL_DONE]
    assert fact.payload["data"] == "new"
    assert engine.types(id).count(e.ISSUED) == 2, "what follows was decided twice"


async def test_of_two_reports_left_in_the_inbox_one_counts_too(engine: Engine, monkeypatch: Any) -> None:
    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    first, second = await reclaimed(engine)
    monkeypatch.setattr("noetl_serverless.orchestrator.reports.MAX_ATTEMPTS", 0)
    answer = await engine.report(done(first, "old"), done(second, "new"))
    assert [result.status for result in answer.results] == ["stale", "accepted"]
    assert engine.types(id).count(e.CALL_DONE) == 1


async def test_the_next_holder_learns_of_the_leases_that_ran_out(engine: Engine) -> None:
    engine.catalog.add("t/t", PAY)
    await engine.start()
    first, second = await reclaimed(engine)
    assert first.lost is None
    (lost,) = second.lost
    assert (lost["worker"], lost["delivery"]) == ("w-1", 1)
    assert lost["lease_until"] - lost["claimed_at"] == 30_000


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ({"set": {"x": "y" * INLINE_BYTES}}, "set.x"),
        ({"extra": {"http": {"text": "y" * INLINE_BYTES}}}, "extra"),
        ({"meta": {"trace": "y" * INLINE_BYTES}}, "meta"),
        ({"data": 2**64}, "64 bits"),
        ({"data": {"a": ["x\0"]}}, "data.a[0]"),
        ({"status": "parked", "child": {"path": "t/t", "payload": {"x": "y" * WORKLOAD_BYTES}}}, "child.payload"),
        ({"status": "deferred", "delay": -1.0}, "delay"),
        ({"status": "deferred", "delay": 1e300}, "delay"),
    ],
)
async def test_an_outcome_with_a_part_that_cannot_be_stored_fails_its_step_alone(
    engine: Engine, part: dict[str, Any], rule: str
) -> None:
    engine.catalog.add("t/t", PAY)
    ids = [await engine.start(), await engine.start()]
    bad, good = await engine.claim()
    answer = await engine.report(done(bad, **part), done(good, 1))
    assert [result.status for result in answer.results] == ["refused", "accepted"]
    assert rule in (answer.results[0].detail or "")
    failed = next(id for id in ids if id == bad.execution_id)
    assert engine.status(failed) == "FAILED"
    assert engine.memory.executions[failed].events[-1].payload["error"]["code"] == "outcome.refused"
    assert engine.status(good.execution_id) == "RUNNING"


async def test_a_large_payload_of_a_worker_that_knows_no_references_is_taken_whole(engine: Engine) -> None:
    engine.catalog.add("t/t", PAY)
    engine.catalog.add("t/child", PAY)
    id = await engine.start()
    (command,) = await engine.claim()
    given = {"text": "x" * PAYLOAD_BYTES}
    answer = await engine.report(done(command, status="parked", child={"path": "t/child", "payload": given}))
    assert [result.status for result in answer.results] == ["accepted"]
    (child,) = await engine.log.running_descendants(id)
    assert (await engine.orchestrator.state(child)).workload == given


async def test_an_error_that_is_too_large_keeps_its_most_important_parts(engine: Engine) -> None:
    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    (command,) = await engine.claim()
    error = {"kind": "tool", "code": "boom", "message": "m" * 50_000, "retryable": False, "trace": "t" * 50_000}
    await engine.report(done(command, status="error", error=error))
    kept = engine.memory.executions[id].events[-1].payload["error"]
    assert (kept["code"], len(kept["message"]), kept["truncated"]) == ("boom", 2000, True)


FORK = """
- {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: one}, {step: two}]}}
- {step: one, tool: {kind: noop}, next: {arcs: [{step: after}]}}
- {step: two, tool: {kind: noop}}
- {step: after, tool: {kind: noop}}
"""


async def forked(engine: Engine) -> tuple[str, Any, Any]:
    engine.catalog.add("t/t", FORK)
    id = await engine.start()
    (split,) = await engine.claim()
    one, two = (await engine.report(done(split), capacity=5)).commands
    return id, one, two


async def test_who_lost_the_race_leaves_out_what_is_held_no_more(engine: Engine) -> None:
    id, one, two = await forked(engine)
    commit, append = engine.memory.committing, engine.memory.appending
    tries: list[int] = []
    left: list[Any] = []

    async def race(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        tries.append(len(parts))
        if len(tries) > 1:
            return await commit(parts, claimant)
        # meanwhile a lease ran out, and went to another worker
        engine.memory.commands.lease((id, two.command_id), "w-2", engine.seconds + 30)
        return CommitResult(frozenset(), [], [], [])

    async def note(facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        left.extend(facts)
        return await append(facts)

    engine.memory.committing, engine.memory.appending = race, note
    engine.seconds += 20
    answer = await engine.report(done(one, {"n": 1}), done(two, {"n": 2}), capacity=5)
    assert [result.status for result in answer.results] == ["accepted", "stale"]
    assert answer.results[1].detail == "the worker no longer holds this command"
    assert [command.command_id for command in answer.commands] == ["after#1"]
    assert (tries, left) == ([1, 1], []), "the other waits for nobody's inbox"
    assert engine.memory.commands[id, two.command_id].worker == "w-2"


async def test_while_it_is_tried_again_a_lease_is_kept_alive(engine: Engine) -> None:
    id, one, _ = await forked(engine)
    commit = engine.memory.committing
    until: list[float] = []

    async def race(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        until.append(engine.memory.commands[id, one.command_id].lease_until)
        return await commit(parts, claimant) if len(until) > 1 else CommitResult(frozenset(), [], [], [])

    engine.memory.committing = race
    engine.seconds += 20
    await engine.report(done(one, {"n": 1}))
    assert until[1] - until[0] == 20


async def test_of_what_is_left_in_the_inbox_only_what_cannot_be_stored_is_refused(
    engine: Engine, monkeypatch: Any, caplog: Any
) -> None:
    id, one, two = await forked(engine)
    monkeypatch.setattr("noetl_serverless.orchestrator.reports.MAX_ATTEMPTS", 0)
    append = engine.memory.appending
    sizes: list[int] = []

    async def picky(facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        sizes.append(len(facts))
        if any(fact.event.command_id == two.command_id for fact in facts):
            raise UnstorableCommit("half of a pair")
        return await append(facts)

    engine.memory.appending = picky
    answer = await engine.report(done(one, {"n": 1}), done(two, {"n": 2}), capacity=5)
    assert [result.status for result in answer.results] == ["accepted", "stale"]
    assert sizes == [2, 1, 1]
    (record,) = [record for record in caplog.records if "cannot be stored" in record.message]
    assert (record.execution_id, record.command_id) == (id, two.command_id)
    assert engine.memory.commands[id, two.command_id].status == "claimed", "its lease runs out"


async def test_two_reports_for_one_execution_do_not_race_within_a_process(engine: Engine) -> None:
    _, one, two = await forked(engine)
    commit, load = engine.memory.committing, engine.memory.loading
    lost: list[bool] = []

    async def slow(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        await asyncio.sleep(0.01)
        committed = await commit(parts, claimant)
        lost.append(not committed.committed)
        return committed

    async def slowly(ids: Sequence[str]) -> dict[str, LoadedExecution]:
        found = await load(ids)
        await asyncio.sleep(0.001)
        return found

    engine.memory.committing, engine.memory.loading = slow, slowly
    answers = await asyncio.gather(engine.report(done(one, {"n": 1})), engine.report(done(two, {"n": 2})))
    assert [answer.results[0].status for answer in answers] == ["accepted", "accepted"]
    assert lost == [False, False], "one waits for the other"


@pytest.mark.parametrize(("capacity", "claimed"), [(0, 0), (1, 1), (2, 2), (5, 3)])
async def test_beside_one_that_cannot_be_stored_a_worker_gets_what_it_has_room_for(
    engine: Engine, capacity: int, claimed: int
) -> None:
    engine.catalog.add("t/t", PAY)
    for _ in range(4):
        await engine.start()
    commands = await engine.claim()
    bad = commands[1].execution_id
    commit = engine.memory.committing

    async def picky(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        its_events = [event for part in parts for event in part.events if part.execution.execution_id == bad]
        if any(event.type == e.CALL_DONE for event in its_events):
            raise UnstorableCommit("half of a pair")
        return await commit(parts, claimant)

    engine.memory.committing = picky
    answer = await engine.report(*(done(command, {"n": 1}) for command in commands), capacity=capacity)
    assert {result.status for result in answer.results} == {"accepted"}
    assert [command.command_id for command in answer.commands] == ["after#1"] * claimed
    assert engine.status(bad) == "FAILED"
    assert len(await engine.claim()) == 3 - claimed, "the others wait for whoever comes"


async def test_a_turn_is_for_another_execution_that_waits_and_what_follows_waits_for_it(either: Engine) -> None:
    either.catalog.add("t/t", PAY)
    await either.start()
    (first,) = await either.claim()
    other = await either.start()
    either.seconds += 1
    answer = await either.report(done(first), capacity=1, turn=True)
    assert [command.execution_id for command in answer.commands] == [other]
    assert [command.step for command in await either.claim()] == ["after"], "what followed was lost"


async def test_a_turn_that_nobody_waits_for_is_for_what_follows(either: Engine) -> None:
    either.catalog.add("t/t", PAY)
    id = await either.start()
    (first,) = await either.claim()
    either.recorder.notified.clear()
    answer = await either.report(done(first), capacity=1, turn=True)
    assert [(command.execution_id, command.step) for command in answer.commands] == [(id, "after")]
    assert not either.recorder.notified, "others were told of what is taken"


async def test_a_report_that_takes_nothing_gives_no_turn(either: Engine) -> None:
    either.catalog.add("t/t", PAY)
    await either.start()
    (first,) = await either.claim()
    other = await either.start()
    answer = await either.report(done(first), capacity=0, turn=True)
    assert answer.commands == []
    assert other in {command.execution_id for command in await either.claim()}


async def test_a_turn_that_cannot_be_given_costs_nothing(engine: Engine, monkeypatch: Any) -> None:
    async def away(*_: Any) -> Any:
        raise Unavailable("the database is away")

    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    (first,) = await engine.claim()
    with monkeypatch.context() as patch:
        patch.setattr(engine.log, "claim", away)
        answer = await engine.report(done(first), capacity=1, turn=True)
    assert [result.status for result in answer.results] == ["accepted"]
    assert answer.commands == []
    assert [(command.execution_id, command.step) for command in await engine.claim()] == [(id, "after")]
