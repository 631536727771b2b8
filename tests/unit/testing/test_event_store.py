"""The log in memory: what is overdue, what is due, what lags, and whose child is whose."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.protocol import CommandKey, Held
from noetl_serverless.records import Claimant, ExecutionCommit, Inbox, PendingWork, ReportedFact, UnstorableCommit
from noetl_serverless.testing import rows

ONLY = "- {step: only, tool: {kind: noop}}\n"
CALL = "- {step: call, tool: {kind: playbook, path: t/child}}\n"


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    engine.catalog.add("t/t", ONLY)
    engine.catalog.add("t/child", ONLY)
    engine.catalog.add("t/parent", CALL)
    return engine


async def test_leases_that_ran_out_first_come_first_and_so_many_at_once(engine: Engine) -> None:
    ids = [await engine.start() for _ in range(3)]
    for id, lease in zip(ids, (9.0, 5.0, 7.0), strict=True):
        await engine.claim(lease=lease, commands=[CommandKey(execution_id=id, command_id="only#1")])
    engine.seconds += 9
    waiting = await engine.log.expire_leases(3, 10)
    assert [key.execution_id for _, key in waiting] == [ids[1], ids[2]], "a lease holds for all of its time"
    engine.seconds += 1
    assert [key.execution_id for _, key in await engine.log.expire_leases(3, 10)] == [ids[0]]
    assert await engine.log.expire_leases(3, 10) == []


@pytest.mark.parametrize("how", ["extended", "recovered"])
async def test_a_lease_is_extended_from_the_call_on(engine: Engine, how: str) -> None:
    await engine.start()
    (command,) = await engine.claim(lease=5.0)
    engine.seconds += 4
    key = {"execution_id": command.execution_id, "command_id": command.command_id}
    if how == "extended":
        held = Held(**key, fence=command.fence)
        assert await engine.log.extend_leases("w-1", [held], 10.0) == {(*key.values(), command.fence)}
    else:
        (lease,) = await engine.log.recover_leases("w-1", 10.0, [])
        assert datetime.fromisoformat(lease.lease_until).timestamp() == engine.seconds + 10
    engine.seconds += 10
    assert await engine.log.expire_leases(3, 10) == [], "it has all of its new time"
    engine.seconds += 1
    assert [key.command_id for _, key in await engine.log.expire_leases(3, 10)] == ["only#1"]


async def test_so_many_expire_at_once(engine: Engine) -> None:
    for _ in range(3):
        await engine.start()
    await engine.claim(lease=1.0)
    engine.seconds += 2
    assert [len(await engine.log.expire_leases(3, 2)) for _ in range(3)] == [2, 1, 0]


async def test_a_command_delivered_too_often_is_a_dead_letter_and_is_not_given_out_again(engine: Engine) -> None:
    id = await engine.start()
    for delivery in (1, 2):
        (command,) = await engine.claim(lease=1.0)
        assert command.delivery == delivery
        engine.seconds += 2
        assert await engine.log.undeliverable(3, 10) == []
        assert len(await engine.log.expire_leases(3, 10)) == 1
    await engine.claim(lease=1.0, worker="w-9")
    engine.seconds += 2
    assert await engine.log.expire_leases(3, 10) == []
    (dead,) = await engine.log.undeliverable(3, 10)
    assert (dead.execution_id, dead.command_id, dead.worker, dead.deliveries) == (id, "only#1", "w-9", 3)
    assert (dead.step, dead.generation, dead.kind, dead.seq) == ("only", 1, "step", 2)
    assert await engine.log.undeliverable(3, 0) == []
    assert await engine.orchestrator.fail_undeliverable(dead)
    row = engine.memory.commands[id, "only#1"]
    assert (row.status, row.worker, row.deliveries, row.issued_at) == ("dead", "w-9", 3, 1_800_000_000.0)
    await engine.log.add_dead_letter(replace(dead, worker="other"))
    assert engine.memory.commands[id, "only#1"].worker == "w-9"
    await engine.log.add_dead_letter(replace(dead, execution_id="404"))
    assert ("404", "only#1") not in engine.memory.commands


async def test_of_the_leases_that_ran_out_the_last_are_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LOST_LEASES", 2)
    await engine.start()
    for number in range(4):
        (command,) = await engine.claim(lease=1.0, worker=f"w-{number}")
        engine.seconds += 2
        await engine.log.expire_leases(9, 10)
    assert [lost["worker"] for lost in command.lost or ()] == ["w-1", "w-2"]


async def test_what_is_given_back_is_no_delivery(engine: Engine) -> None:
    await engine.start()
    (command,) = await engine.claim()
    await engine.report(outcome(command, status="released"))
    (again,) = await engine.claim()
    assert (again.delivery, again.lost) == (1, None)
    assert again.fence > command.fence


async def test_timers_are_due_in_order_from_an_instant_on(engine: Engine) -> None:
    for delay in (9.0, 3.0, 6.0, 60.0):
        await engine.start()
        (command,) = await engine.claim()
        await engine.report(outcome(command, status="deferred", delay=delay))
    now = engine.seconds
    engine.seconds += 9
    due = [timer.due_at.timestamp() - now for timer in await engine.log.due_timers(10)]
    assert due == [3.0, 6.0, 9.0]
    (first,) = await engine.log.due_timers(1)
    assert (first.step, first.generation, first.due_at) == ("only", 1, datetime.fromtimestamp(now + 3, UTC))
    after = datetime.fromtimestamp(now + 6, UTC)
    assert [timer.due_at.timestamp() - now for timer in await engine.log.due_timers(10, after)] == [6.0, 9.0]


async def test_what_waits_for_a_worker_and_how_long(engine: Engine) -> None:
    await engine.start()
    engine.seconds += 5
    assert await engine.log.pools_with_pending(5) == [], "not longer than that"
    engine.seconds += 1
    assert await engine.log.pools_with_pending(5) == ["shared"]
    await engine.claim()
    assert await engine.log.pools_with_pending(5) == []


async def test_pending_work_shows_what_there_is_to_do(engine: Engine) -> None:
    nothing = PendingWork(
        has_expired_leases=False,
        has_pending_commands=False,
        has_due_timers=False,
        has_inboxes=False,
        has_due_schedules=False,
        maintenance=False,
    )
    assert await engine.log.pending_work(5) == nothing
    id = await engine.start()
    engine.seconds += 6
    assert await engine.log.pending_work(5) == replace(nothing, has_pending_commands=True)
    (command,) = await engine.claim(lease=1.0)
    engine.seconds += 2
    assert await engine.log.pending_work(5) == replace(nothing, has_expired_leases=True)
    await engine.report(outcome(command, status="deferred", delay=1.0))
    assert await engine.log.pending_work(5) == nothing
    engine.seconds += 1
    assert await engine.log.pending_work(5) == replace(nothing, has_due_timers=True)
    engine.memory._put(id, Event(e.TIMER_FIRED, 1, payload={"timer": "x"}))
    assert await engine.log.pending_work(5) == replace(nothing, has_due_timers=True, has_inboxes=True)


async def test_what_lags_is_listed_in_order_behind_another(engine: Engine) -> None:
    ids = sorted([await engine.start() for _ in range(3)], key=int)
    for id in reversed(ids):
        engine.memory._put(id, Event(e.TIMER_FIRED, 1, payload={"timer": "x"}))
    assert await engine.log.executions_with_inbox(2) == ids[:2]
    assert await engine.log.executions_with_inbox(5, ids[0]) == ids[1:]
    assert [event.type for _, event in (await engine.log.read_inbox(ids[0])).facts] == [e.TIMER_FIRED]
    assert await engine.log.read_inbox("404") == Inbox([])
    await engine.log.clear_inbox(ids[0])
    assert len((await engine.log.read_inbox(ids[0])).facts) == 1, "it runs, and will take it in"
    await engine.orchestrator.controls.cancel(ids[0], "enough")
    engine.memory._put(ids[0], Event(e.TIMER_FIRED, 1, payload={"timer": "x"}))
    await engine.log.clear_inbox(ids[0])
    assert await engine.log.read_inbox(ids[0]) == Inbox([])


async def test_who_is_below_whom(engine: Engine) -> None:
    engine.catalog.add("t/child", CALL.replace("t/child", "t/t"))
    top = await engine.start("t/parent")
    for path in ("t/child", "t/t"):
        (call,) = await engine.claim()
        await engine.report(outcome(call, status="parked", child={"path": path}))
    child, last = await engine.log.running_descendants(top)
    below = engine.log.is_descendant
    assert [await below(child, top), await below(last, top), await below(last, child)] == [True] * 3
    assert [await below(top, child), await below(top, top), await below("404", top)] == [False] * 3
    await engine.orchestrator.controls.cancel(last, "enough")
    assert await engine.log.running_descendants(child) == [], "those that run"


async def test_a_log_is_read_in_order(engine: Engine) -> None:
    id = await engine.start()
    before = await engine.log.events(id)
    await engine.orchestrator.controls.cancel(id, "enough")
    events = await engine.log.events(id)
    assert [event.seq for event in events] == [1, 2, 3]
    assert before == events[:2], "what was read grew with the log"
    assert await engine.log.events("404") == []


async def test_only_its_holder_closes_a_command(engine: Engine) -> None:
    id = await engine.start()
    fact = Event(e.CALL_DONE, 1, step="only", generation=1, command_id="only#1", payload={"data": 1})
    assert (
        await engine.log.append_to_inbox([ReportedFact(execution_id=id, event=fact, fence=0, worker="w-1", refs=[])])
        == set()
    ), "nobody has claimed it"
    (command,) = await engine.claim()
    for fence, worker in ((command.fence - 1, "w-1"), (command.fence, "w-2"), (command.fence + 1, "w-1")):
        assert (
            await engine.log.append_to_inbox(
                [ReportedFact(execution_id=id, event=fact, fence=fence, worker=worker, refs=[])]
            )
            == set()
        )
    held = ReportedFact(execution_id=id, event=fact, fence=command.fence, worker="w-1", refs=[{"key": "k"}])
    assert await engine.log.append_to_inbox([held]) == {(id, "only#1", command.fence)}
    assert await engine.log.append_to_inbox([held]) == set()
    assert engine.memory.refs[id, "k"] == {"key": "k", "execution_id": id}


async def test_what_cannot_be_written_writes_nothing(engine: Engine) -> None:
    id = await engine.start()
    case = (await engine.log.load([id]))[id]
    before = engine.memory.executions[id].head

    def part(*events: Event, **more: Any) -> ExecutionCommit:
        return ExecutionCommit(
            execution=replace(case, head=case.head + len(events)), events=list(events), expected_head=case.head, **more
        )

    gap = Event(e.STEP_EXIT, 1, seq=case.head + 2)
    with pytest.raises(UnstorableCommit, match=f"event {gap.seq} follows {case.head}"):
        await engine.log.commit([part(gap)])
    with pytest.raises(UnstorableCommit):
        await engine.log.commit([part(Event(e.STEP_EXIT, 1, seq=case.head + 1, payload={"x": "\ud800"}))])
    assert (await engine.log.commit([replace(part(), expected_head=case.head - 1)])).committed == frozenset()
    assert (await engine.log.commit([part(closes=[("only#1", 5)], worker="w-1")])).committed == frozenset()
    assert engine.memory.executions[id].head == before


async def test_a_sweep_takes_of_each_execution_in_turn(engine: Engine) -> None:
    loop = '{in: "{{ range(4) | list }}", iterator: x, spec: {mode: parallel}}'
    engine.catalog.add("t/loop", f"- {{step: each, loop: {loop}, tool: {{kind: noop}}}}\n")
    first = await engine.start("t/loop")
    second = await engine.start("t/loop")
    found = await engine.log.claim(Claimant("w-1", "shared", 30.0, 4), None)
    taken = sorted((lease.execution_id, lease.command_id) for lease in found)
    assert taken == sorted((id, f"each#1.{n}") for id in (first, second) for n in (0, 1))
