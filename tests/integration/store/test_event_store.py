"""The event store's contract, kept by PostgreSQL and by the in-memory store alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from noetl_serverless import limits
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.orchestrator.start import new_child, new_root
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.ports import EventStore, LockedExecution
from noetl_serverless.protocol import CommandKey, Held
from noetl_serverless.records import (
    Claimant,
    CommitResult,
    ExecutionCommit,
    IdempotentStart,
    Inbox,
    Lease,
    ReportedFact,
    UnstorableCommit,
)
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.testing.catalog import MemoryCatalogEntry
from noetl_serverless.testing.event_store import MemoryEventStore

TEXT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}
  - {step: b, tool: {kind: noop}}
  - {step: c, tool: {kind: noop}}
"""
LOOP = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - {step: each, loop: {in: "{{ [7, 8] }}", iterator: x, spec: {mode: parallel}}, tool: {kind: noop}}
"""
PLAN = load_plan(TEXT)
WORKER = Claimant("w-1", "shared", 30.0, 10)
NOW = time.time_ns() // 1_000_000


ENTRY = MemoryCatalogEntry(catalog_id=5, path="t/t", version=1, hash=PLAN.hash, content=TEXT)


@pytest.fixture(params=["postgres", "memory"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    if request.param == "memory":
        yield MemoryEventStore(time.time)
        return
    database = Database(request.getfixturevalue("migrated_url"), 4)
    yield PostgresEventStore(database)
    await database.close()


async def begin(log: EventStore, key: str | None = None, payload: dict[str, Any] | None = None) -> Transition:
    opening = new_root(ENTRY, PLAN, payload or {}, NOW, key)
    turn = Transition(opening.execution, PLAN)
    turn.apply(opening.fact)
    committed = await log.commit([turn.to_commit(opening.row)])
    assert turn.execution.execution_id in committed.committed
    return turn


async def reload(log: EventStore, turn: Transition, worker: str | None = "w-1") -> Transition:
    return Transition((await log.load([turn.execution.execution_id]))[turn.execution.execution_id], PLAN, worker)


def report(turn: Transition, command: str, fence: int) -> ExecutionCommit:
    step, _, generation = command.partition("#")
    fact = Event(
        e.CALL_DONE,
        NOW,
        step=step,
        generation=int(generation),
        command_id=command,
        payload={"data": {"n": 1}},
    )
    turn.apply(fact, (command, fence))
    return turn.to_commit()


async def claim(log: EventStore, room: int = 10, worker: str = "w-1") -> list[Lease]:
    return await log.claim(replace(WORKER, limit=room, worker=worker), None)


async def test_what_is_committed_is_what_is_loaded(log: EventStore) -> None:
    turn = await begin(log, payload={"x": [1, {"y": None}]})
    case = (await log.load([turn.execution.execution_id]))[turn.execution.execution_id]
    assert case.state == replace(turn.state, seq=turn.head)
    assert case.head == 2
    assert case.state.workload == {"x": [1, {"y": None}]}
    assert await log.events(turn.execution.execution_id) == turn.events


async def test_a_commit_on_an_old_head_writes_nothing(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    first, second = await reload(log, turn), await reload(log, turn)
    assert (await log.commit([report(first, "a#1", lease.fence)])).committed
    committed: CommitResult = await log.commit([report(second, "a#1", lease.fence)])
    assert not committed.committed
    assert len(await log.events(turn.execution.execution_id)) == first.head


async def test_of_two_with_good_fences_the_one_on_an_old_head_is_refused(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).committed
    b, c = sorted(await claim(log), key=lambda lease: lease.command_id)
    first, second = await reload(log, turn), await reload(log, turn)
    assert (await log.commit([report(first, "b#1", b.fence)])).committed
    assert not (await log.commit([report(second, "c#1", c.fence)])).committed
    assert await log.extend_leases("w-1", [_held(c)], 30.0) == {(turn.execution.execution_id, "c#1", c.fence)}, (
        "it is still to be reported"
    )
    assert len(await log.events(turn.execution.execution_id)) == first.head


async def test_a_stale_fence_is_refused(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    assert not (await log.commit([report(await reload(log, turn), "a#1", lease.fence + 1)])).committed
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).committed


async def test_an_unclaimed_command_cannot_be_reported(log: EventStore) -> None:
    turn = await begin(log)
    for worker in ("w-1", None):
        assert not (await log.commit([report(await reload(log, turn, worker), "a#1", 0)])).committed


async def test_of_many_parts_only_the_good_ones_are_written(log: EventStore) -> None:
    one, two = await begin(log), await begin(log)
    leases = {lease.execution_id: lease for lease in await claim(log)}
    parts = [
        report(await reload(log, one), "a#1", leases[one.execution.execution_id].fence),
        report(await reload(log, two), "a#1", 999_999),
    ]
    committed = await log.commit(parts)
    assert committed.committed == {one.execution.execution_id}
    assert len(await log.events(two.execution.execution_id)) == 2


async def test_a_fence_is_good_in_the_hands_of_its_holder_alone(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    thief = Transition((await reload(log, turn)).execution, PLAN, "w-2")
    assert (await log.commit([report(thief, "a#1", lease.fence)])).committed == set()
    assert await log.extend_leases("w-2", [_held(lease)], 30.0) == set()
    assert await log.release_leases("w-2", [_held(lease)]) == []
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).committed == {lease.execution_id}


async def test_what_follows_may_be_claimed_in_the_same_commit(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    part = report(await reload(log, turn), "a#1", lease.fence)
    committed = await log.commit([part], replace(WORKER, limit=1))
    assert [item.command_id for item in committed.leases] == ["b#1"]
    assert [key.command_id for _, key in committed.pending] == ["c#1"]
    assert committed.leases[0].fence > lease.fence
    held = _held(committed.leases[0])
    assert await log.extend_leases("w-1", [held], 30.0) == {(turn.execution.execution_id, "b#1", held.fence)}


async def test_a_command_is_claimed_once(log: EventStore) -> None:
    await begin(log)
    assert len(await claim(log)) == 1
    assert await claim(log, worker="w-2") == []


async def test_only_the_commands_that_are_named_are_claimed(log: EventStore) -> None:
    one, two = await begin(log), await begin(log)
    key = CommandKey(execution_id=two.execution.execution_id, command_id="a#1")
    (lease,) = await log.claim(WORKER, [key, key])
    assert lease.execution_id == two.execution.execution_id
    (other,) = await claim(log)
    assert other.execution_id == one.execution.execution_id


async def test_what_is_released_waits_again(log: EventStore) -> None:
    await begin(log)
    (lease,) = await claim(log)
    assert [key.command_id for _, key in await log.release_leases("w-1", [_held(lease)])] == ["a#1"]
    assert await log.release_leases("w-1", [_held(lease)]) == []
    (again,) = await claim(log)
    assert again.fence != lease.fence
    assert again.delivery == 1, "giving a command back is no failed delivery"


async def test_the_next_worker_learns_that_a_released_command_had_begun(log: EventStore) -> None:
    await begin(log)
    for worker in ("w-1", "w-2"):
        (lease,) = await claim(log, worker=worker)
        await log.release_leases(worker, [], [_held(lease)])
    (lease,) = await claim(log, worker="w-3")
    await log.release_leases("w-3", [_held(lease)])
    (again,) = await claim(log, worker="w-4")
    assert [(one["worker"], one["delivery"]) for one in again.lost or ()] == [("w-1", 1), ("w-2", 1)], (
        "w-3 had not begun"
    )
    assert all(one["claimed_at"] <= one["given_back_at"] < one["lease_until"] for one in again.lost or ())


async def test_of_many_workers_that_did_not_finish_a_command_the_last_ten_are_named(log: EventStore) -> None:
    await begin(log)
    for number in range(12):
        (lease,) = await claim(log, worker=f"w-{number}")
        await log.release_leases(f"w-{number}", [], [_held(lease)])
    (again,) = await claim(log)
    assert [one["worker"] for one in again.lost or ()] == [f"w-{number}" for number in range(2, 12)]


@pytest.mark.parametrize("other", [{"fence": 1_000_000}, {"worker": "w-2"}], ids=["fence", "worker"])
async def test_only_the_present_holder_prolongs_a_lease_or_gives_it_back(
    log: EventStore, other: dict[str, Any]
) -> None:
    await begin(log)
    (lease,) = await claim(log)
    worker, held = other.get("worker", "w-1"), _held(lease).model_copy(update=other)
    assert await log.extend_leases(worker, [held], 30.0) == set()
    assert await log.release_leases(worker, [held]) == []
    assert await log.extend_leases("w-1", [_held(lease)], 30.0) == {(lease.execution_id, "a#1", lease.fence)}, (
        "the holder has lost it"
    )


async def test_a_lease_holds_until_its_end_and_a_prolonged_one_until_its_new_end(log: EventStore) -> None:
    await begin(log)
    (lease,) = await claim(log)
    assert await log.expire_leases(3, 10) == []
    assert await log.undeliverable(1, 10) == []
    await log.extend_leases("w-1", [_held(lease)], 0.001)
    await asyncio.sleep(0.01)
    assert [key.command_id for _, key in await log.expire_leases(3, 10)] == ["a#1"]
    assert await log.extend_leases("w-1", [_held(lease)], 30.0) == set(), "what has expired is nobody's"


async def test_an_expired_lease_is_given_to_another_with_a_new_fence(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await log.claim(replace(WORKER, lease_seconds=0.001), None)
    await asyncio.sleep(0.01)
    assert [key.command_id for _, key in await log.expire_leases(3, 10)] == ["a#1"]
    (again,) = await claim(log, worker="w-2")
    assert (again.delivery, again.fence > lease.fence) == (2, True)
    assert not (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).committed
    assert (await log.commit([report(await reload(log, turn, "w-2"), "a#1", again.fence)])).committed


async def test_a_command_delivered_too_often_can_be_added_to_the_dead_letters(log: EventStore) -> None:
    await begin(log)
    await log.claim(replace(WORKER, lease_seconds=0.001), None)
    await asyncio.sleep(0.01)
    assert await log.expire_leases(1, 10) == []
    (dead,) = await log.undeliverable(1, 10)
    assert (dead.command_id, dead.deliveries, dead.worker) == ("a#1", 1, "w-1")
    await log.add_dead_letter(dead)
    assert await log.undeliverable(1, 10) == [dead], "burying does not take a command from the execution"


async def test_a_worker_can_ask_for_what_it_holds(log: EventStore) -> None:
    one, two = await begin(log), await begin(log)
    leases = await claim(log)
    known = CommandKey(execution_id=one.execution.execution_id, command_id="a#1")
    (held,) = await log.recover_leases("w-1", 30.0, [known])
    assert held.execution_id == two.execution.execution_id
    assert held.fence in {lease.fence for lease in leases}
    assert await log.recover_leases("w-2", 30.0, []) == []


async def test_a_lease_brings_the_payload_its_command_was_issued_with(log: EventStore) -> None:
    await begin(log)
    (lease,) = await claim(log)
    assert lease.issued == {"kind": "step", "attempt": 1, "scope": {"ctx": {}, "steps": {}}}
    assert lease.loop_opened is None


async def test_a_frames_lease_brings_its_loops_opening(log: EventStore) -> None:
    plan = load_plan(LOOP)
    opening = new_root(ENTRY, plan, {}, NOW, None)
    turn = Transition(opening.execution, plan)
    turn.apply(opening.fact)
    await log.commit([turn.to_commit(opening.row)])
    first, second = await claim(log)
    assert first.issued is not None and second.issued is not None
    assert (first.issued["frame"], second.issued["frame"]) == ([0, 0, 1, 1], [1, 1, 2, 1])
    assert first.loop_opened is not None and first.loop_opened["data"] == [7, 8]
    recovered = (await log.recover_leases("w-1", 30.0, []))[0]
    assert recovered.loop_opened is not None and recovered.loop_opened["data"] == [7, 8]
    assert (await log.loop_opened(first.execution_id, "each", 1))["data"] == [7, 8]


async def test_an_idempotency_key_starts_one_execution(log: EventStore) -> None:
    turn = await begin(log, key="k")
    opening = new_root(ENTRY, PLAN, {}, NOW, "k")
    again = Transition(opening.execution, PLAN)
    again.apply(opening.fact)
    assert not (await log.commit([again.to_commit(opening.row)])).committed
    assert await log.starts_by_key(["k", "other"]) == {
        "k": IdempotentStart(turn.execution.execution_id, 1, opening.row["request_hash"], None)
    }
    assert await log.starts_by_key(["other"]) == {}


async def test_ending_an_execution_drops_its_commands(log: EventStore) -> None:
    turn = await begin(log)
    cancelled = Event(e.CANCELLED, NOW, payload={"reason": "enough"})
    again = await reload(log, turn)
    again.apply(cancelled)
    assert (await log.commit([again.to_commit()])).committed
    assert await claim(log) == []


async def test_a_timer_is_due_once(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    waiting = await reload(log, turn)
    fact = Event(e.CALL_DEFERRED, NOW, step="a", generation=1, command_id="a#1", payload={"delay": 0.0})
    waiting.apply(fact, ("a#1", lease.fence))
    await log.commit([waiting.to_commit()])
    (due,) = await log.due_timers(10)
    assert due.execution_id == turn.execution.execution_id
    fired, twice = await reload(log, turn, None), await reload(log, turn, None)
    for going in (fired, twice):
        going.apply(
            Event(
                e.TIMER_FIRED,
                NOW,
                step="a",
                generation=1,
                payload={"timer": due.name},
            ),
            (due.name, 0),
        )
    assert (await log.commit([fired.to_commit()])).committed
    assert not (await log.commit([twice.to_commit()])).committed
    assert await log.due_timers(10) == []


async def test_a_child_is_opened_with_its_parent_and_its_end_is_appended_there(log: EventStore) -> None:
    parent = await begin(log)
    (lease,) = await claim(log)
    turn = await reload(log, parent)
    order = {"path": "t/t", "version": 1, "catalog_id": "5", "plan_hash": PLAN.hash, "payload": {}}
    turn.apply(
        Event(e.CALL_PARKED, NOW, step="a", generation=1, command_id="a#1", payload={"child": order}),
        ("a#1", lease.fence),
    )
    opening = new_child(turn.execution, turn.started_children[0], PLAN, {})
    child = Transition(opening.execution, PLAN)
    child.apply(opening.fact)
    committed = await log.commit([turn.to_commit(), child.to_commit(opening.row)])
    assert committed.committed == {turn.execution.execution_id, child.execution.execution_id}
    assert await log.running_descendants(turn.execution.execution_id) == [child.execution.execution_id]

    ending = await reload(log, child)
    ending.apply(Event(e.CANCELLED, NOW, payload={"reason": "enough"}))
    committed = await log.commit([ending.to_commit()])
    assert committed.with_new_facts == [turn.execution.execution_id]
    assert await log.executions_with_inbox(10) == [turn.execution.execution_id]
    ((place, fact),) = (await log.read_inbox(turn.execution.execution_id)).facts
    assert (fact.type, fact.step) == (e.CHILD_ENDED, "a")

    going = await reload(log, turn)
    going.apply(fact, inbox_id=place)
    assert (await log.commit([going.to_commit()])).committed
    assert await log.executions_with_inbox(10) == []
    assert (await log.events(turn.execution.execution_id))[turn.head].type == e.CHILD_ENDED


async def test_outcomes_may_be_left_in_the_inbox_whoever_holds_the_row(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    fact = Event(e.CALL_DONE, NOW, step="a", generation=1, command_id="a#1", payload={"data": 1})
    assert (
        await log.append_to_inbox(
            [
                ReportedFact(
                    execution_id=turn.execution.execution_id, event=fact, fence=lease.fence + 1, worker="w-1", refs=[]
                )
            ]
        )
        == set()
    )
    assert (
        await log.append_to_inbox(
            [
                ReportedFact(
                    execution_id=turn.execution.execution_id, event=fact, fence=lease.fence, worker="w-2", refs=[]
                )
            ]
        )
        == set()
    )
    accepted = await log.append_to_inbox(
        [ReportedFact(execution_id=turn.execution.execution_id, event=fact, fence=lease.fence, worker="w-1", refs=[])]
    )
    assert accepted == {(turn.execution.execution_id, "a#1", lease.fence)}
    assert (
        await log.append_to_inbox(
            [
                ReportedFact(
                    execution_id=turn.execution.execution_id, event=fact, fence=lease.fence, worker="w-1", refs=[]
                )
            ]
        )
        == set()
    ), "it is closed once"
    assert len(await log.events(turn.execution.execution_id)) == 2, "it has no place in the log yet"
    assert await log.executions_with_inbox(10) == [turn.execution.execution_id]


async def test_an_outcome_that_cannot_be_stored_is_refused_with_those_beside_it(log: EventStore) -> None:
    one, two = await begin(log), await begin(log)
    facts = [
        ReportedFact(
            execution_id=lease.execution_id,
            event=Event(e.CALL_DONE, NOW, step="a", generation=1, command_id="a#1", payload={"data": data}),
            fence=lease.fence,
            worker="w-1",
            refs=[],
        )
        for lease, data in zip(await claim(log), (1, "\ud800"), strict=True)
    ]
    with pytest.raises(UnstorableCommit):
        await log.append_to_inbox(facts)
    for turn in (one, two):
        assert await log.read_inbox(turn.execution.execution_id) == Inbox([]), "a part of the call was written"
    assert len(await log.recover_leases("w-1", 30.0, [])) == 2, "a command was closed without its outcome"


async def test_the_events_of_outstanding_commands_and_timers_are_read_as_they_were_written(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).committed
    waiting = await reload(log, turn)
    fence = next(lease.fence for lease in await claim(log) if lease.command_id == "b#1")
    fact = Event(e.CALL_DEFERRED, NOW + 7, step="b", generation=1, command_id="b#1", payload={"delay": 3600.0})
    waiting.apply(fact, ("b#1", fence))
    assert (await log.commit([waiting.to_commit()])).committed
    id = turn.execution.execution_id
    issued: list[Event] = []
    await log.commit_exclusively(id, lambda locked: issued.extend(locked.issued()))
    written = {event.seq: event for event in await log.events(id)}
    assert [(event.type, event.step) for event in issued] == [(e.ISSUED, "c"), (e.TIMER_SET, "b")]
    for event in issued:
        # of the payload only what a command's row is made of
        kept = {name: written[event.seq].payload[name] for name in event.payload}
        assert event == replace(written[event.seq], cause=event.cause, payload=kept)


@pytest.mark.parametrize(
    ("facts", "bytes", "pages"),
    [
        (100, 3000, [[0, 1, 2], [3, 4, 5], [6]]),
        (100, 3200, [[0, 1, 2, 3], [4, 5, 6]]),
        (2, 3000, [[0, 1], [2, 3], [4, 5], [6]]),
        (7, 10**6, [[0, 1, 2, 3, 4, 5, 6]]),
        (100, 1, [[0], [1], [2], [3], [4], [5], [6]]),
    ],
)
async def test_of_what_waits_no_more_is_read_than_one_commit_has_room_for(
    log: EventStore, monkeypatch: pytest.MonkeyPatch, facts: int, bytes: int, pages: list[list[int]]
) -> None:
    monkeypatch.setattr(limits, "INBOX_FACTS", facts)
    monkeypatch.setattr(limits, "INBOX_BYTES", bytes)
    turn, other = await begin(log), await begin(log)
    fence = next(lease.fence for lease in await claim(log) if lease.execution_id == other.execution.execution_id)
    telling = await reload(log, other)
    part = report(telling, "a#1", fence)
    # of some thousand bytes each
    fired = {"type": e.TIMER_FIRED, "step": "a", "generation": 1, "at": NOW}
    part.inbox_facts = [
        {**fired, "id": turn.execution.execution_id, "payload": {"timer": "no", "n": n, "text": "x" * 992}}
        for n in range(7)
    ]
    assert (await log.commit([part])).with_new_facts == [turn.execution.execution_id]
    found: list[list[int]] = []
    while True:
        going = await reload(log, turn)
        inbox = await log.read_inbox(turn.execution.execution_id)
        locked: list[Inbox] = []
        await log.commit_exclusively(turn.execution.execution_id, lambda it: locked.append(it.inbox()))  # noqa: B023
        assert locked == [inbox], "who holds the row reads as much"
        if not inbox.facts:
            break
        found.append([fact.payload["n"] for _, fact in inbox.facts])
        assert inbox.more == (found[-1][-1] < 6)
        for place, fact in inbox.facts:
            going.apply(fact, inbox_id=place)
        assert (await log.commit([going.to_commit()])).committed
    assert found == pages


async def test_a_timer_waits_for_its_time(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    waiting = await reload(log, turn)
    fact = Event(e.CALL_DEFERRED, NOW, step="a", generation=1, command_id="a#1", payload={"delay": 3600.0})
    waiting.apply(fact, ("a#1", lease.fence))
    assert (await log.commit([waiting.to_commit()])).committed
    assert await log.due_timers(10) == []


async def test_two_who_take_in_the_same_fact_write_it_once(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    fact = Event(e.CALL_DONE, NOW, step="a", generation=1, command_id="a#1", payload={"data": 1})
    await log.append_to_inbox(
        [ReportedFact(execution_id=turn.execution.execution_id, event=fact, fence=lease.fence, worker="w-1", refs=[])]
    )
    one, two = await reload(log, turn), await reload(log, turn)
    for going in (one, two):
        ((place, waiting),) = (await log.read_inbox(turn.execution.execution_id)).facts
        going.apply(waiting, inbox_id=place)
    assert (await log.commit([one.to_commit()])).committed
    assert not (await log.commit([two.to_commit()])).committed
    assert await log.read_inbox(turn.execution.execution_id) == Inbox([])


async def test_what_comes_too_late_for_an_ended_execution_is_discarded(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    fact = Event(e.CALL_DONE, NOW, step="a", generation=1, command_id="a#1", payload={"data": 1})
    await log.append_to_inbox(
        [ReportedFact(execution_id=turn.execution.execution_id, event=fact, fence=lease.fence, worker="w-1", refs=[])]
    )
    await log.clear_inbox(turn.execution.execution_id)
    assert await log.executions_with_inbox(10), "the execution still runs"
    again = await reload(log, turn)
    again.apply(Event(e.CANCELLED, NOW, payload={"reason": "enough"}))
    await log.commit([again.to_commit()])
    await log.clear_inbox(turn.execution.execution_id)
    assert await log.executions_with_inbox(10) == []


async def test_a_child_whose_id_is_taken_is_reported_and_nothing_is_written(log: EventStore) -> None:
    parent, other = await begin(log), await begin(log)
    leases = {lease.execution_id: lease for lease in await claim(log)}
    turn = await reload(log, parent)
    order = {"path": "t/t", "version": 1, "catalog_id": "5", "plan_hash": PLAN.hash, "payload": {}}
    fence = leases[parent.execution.execution_id].fence
    turn.apply(
        Event(e.CALL_PARKED, NOW, step="a", generation=1, command_id="a#1", payload={"child": order}),
        ("a#1", fence),
    )
    started = turn.started_children[0]
    taken = replace(started, payload={**started.payload, "execution_id": other.execution.execution_id})
    opening = new_child(turn.execution, taken, PLAN, {})
    child = Transition(opening.execution, PLAN)
    child.apply(opening.fact)
    with pytest.raises(UnstorableCommit):
        await log.commit([turn.to_commit(), child.to_commit(opening.row)])
    assert (await reload(log, parent)).execution.state.seq == 2, "what was begun of the parent is undone"
    assert (await log.load([other.execution.execution_id]))[other.execution.execution_id].parent is None


async def test_a_child_whose_parent_lost_its_race_is_not_opened(log: EventStore) -> None:
    parent = await begin(log)
    (lease,) = await claim(log)
    winner, loser = await reload(log, parent), await reload(log, parent)
    order = {"path": "t/t", "version": 1, "catalog_id": "5", "plan_hash": PLAN.hash, "payload": {}}
    loser.apply(
        Event(e.CALL_PARKED, NOW, step="a", generation=1, command_id="a#1", payload={"child": order}),
        ("a#1", lease.fence),
    )
    opening = new_child(loser.execution, loser.started_children[0], PLAN, {})
    child = Transition(opening.execution, PLAN)
    child.apply(opening.fact)
    await log.commit([report(winner, "a#1", lease.fence)])
    assert not (await log.commit([loser.to_commit(), child.to_commit(opening.row)])).committed
    assert await log.load([child.execution.execution_id]) == {}


async def test_pending_work_shows_what_there_is_to_do(log: EventStore) -> None:
    assert not any(vars_of(await log.pending_work(0.0)))
    await begin(log)
    await asyncio.sleep(0.01)
    assert (await log.pending_work(0.0)).has_pending_commands
    assert await log.pools_with_pending(0.0) == ["shared"]
    assert await log.pools_with_pending(60.0) == []
    await log.claim(replace(WORKER, lease_seconds=0.001), None)
    await asyncio.sleep(0.01)
    assert (await log.pending_work(0.0)).has_expired_leases


def vars_of(pending: Any) -> list[bool]:
    return [
        getattr(pending, name)
        for name in ("has_expired_leases", "has_pending_commands", "has_due_timers", "has_inboxes", "has_due_schedules")
    ]


def _held(lease: Lease) -> Held:
    return Held(execution_id=lease.execution_id, command_id=lease.command_id, fence=lease.fence)


async def test_a_sweep_takes_one_of_each_execution_before_it_takes_a_second_of_any(log: EventStore) -> None:
    wide = await begin(log)
    (lease,) = await claim(log)
    assert (await log.commit([report(await reload(log, wide), "a#1", lease.fence)])).committed
    narrow = [await begin(log) for _ in range(3)]
    found = await claim(log, room=4)
    assert sorted(lease.execution_id for lease in found) == sorted(
        turn.execution.execution_id for turn in (wide, *narrow)
    )
    (rest,) = await claim(log)
    assert rest.execution_id == wide.execution.execution_id


async def test_what_cannot_be_stored_is_refused_also_where_nobody_else_can_commit(log: EventStore) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    id = turn.execution.execution_id

    def decide(locked: LockedExecution) -> ExecutionCommit:
        commit = report(Transition(locked.execution, PLAN, "w-1"), "a#1", lease.fence)
        event, *others = commit.events
        return replace(commit, events=[replace(event, payload={**event.payload, "data": "\ud800"}), *others])

    with pytest.raises(UnstorableCommit):
        await log.commit_exclusively(id, decide)
    assert (await reload(log, turn)).execution.state.seq == 2
