"""The event store's contract, kept by PostgreSQL and by the in-memory twin alike."""

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
from noetl_serverless.ledger.openings import open_child, open_root
from noetl_serverless.ledger.turn import Turn
from noetl_serverless.playbook.compile import load_plan
from noetl_serverless.protocol import CommandKey, Held
from noetl_serverless.store.case import Inbox
from noetl_serverless.store.connection import Database
from noetl_serverless.store.log import Claimant, Committed, Known, Log, Part, Reported
from noetl_serverless.store.memory import MemoryLog
from noetl_serverless.store.migrate import migrate

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


class Entry:
    catalog_id, path, version, hash, content = 5, "t/t", 1, PLAN.hash, TEXT


@pytest.fixture(params=["postgres", "memory"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryLog(time.time)
        return
    url = request.getfixturevalue("postgres_url")
    migrate(url)
    database = Database(url)
    yield Log(database)
    await database.close()


async def begin(log: Any, key: str | None = None, payload: dict[str, Any] | None = None) -> Turn:
    opening = open_root(Entry(), PLAN, payload or {}, NOW, key)  # type: ignore[arg-type]
    turn = Turn(opening.case, PLAN)
    turn.take(opening.fact)
    committed = await log.commit([turn.part(opening.row)])
    assert turn.case.execution_id in committed.good
    return turn


async def reload(log: Any, turn: Turn, worker: str | None = "w-1") -> Turn:
    return Turn((await log.load([turn.case.execution_id]))[turn.case.execution_id], PLAN, worker)


def report(turn: Turn, command: str, fence: int) -> Part:
    step, _, generation = command.partition("#")
    fact = Event(e.CALL_DONE, NOW, 0, None, step, int(generation), command, {"data": {"n": 1}})
    turn.take(fact, (command, fence))
    return turn.part()


async def claim(log: Any, room: int = 10, worker: str = "w-1") -> list[Any]:
    return await log.claim(replace(WORKER, room=room, worker=worker), None)


async def test_what_is_committed_is_what_is_loaded(log: Any) -> None:
    turn = await begin(log, payload={"x": [1, {"y": None}]})
    case = (await log.load([turn.case.execution_id]))[turn.case.execution_id]
    assert case.state == replace(turn.state, seq=turn.head)
    assert case.head == 2
    assert case.state.workload == {"x": [1, {"y": None}]}
    assert await log.events(turn.case.execution_id) == turn.events


async def test_a_commit_on_an_old_head_writes_nothing(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    first, second = await reload(log, turn), await reload(log, turn)
    assert (await log.commit([report(first, "a#1", lease.fence)])).good
    committed: Committed = await log.commit([report(second, "a#1", lease.fence)])
    assert not committed.good
    assert len(await log.events(turn.case.execution_id)) == first.head


async def test_of_two_with_good_fences_the_one_on_an_old_head_is_refused(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).good
    b, c = sorted(await claim(log), key=lambda lease: lease.command_id)
    first, second = await reload(log, turn), await reload(log, turn)
    assert (await log.commit([report(first, "b#1", b.fence)])).good
    assert not (await log.commit([report(second, "c#1", c.fence)])).good
    assert await log.extend("w-1", [_held(c)], 30.0) == {(turn.case.execution_id, "c#1", c.fence)}, (
        "it is still to be reported"
    )
    assert len(await log.events(turn.case.execution_id)) == first.head


async def test_a_stale_fence_is_refused(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    assert not (await log.commit([report(await reload(log, turn), "a#1", lease.fence + 1)])).good
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).good


async def test_an_unclaimed_command_cannot_be_reported(log: Any) -> None:
    turn = await begin(log)
    for worker in ("w-1", None):
        assert not (await log.commit([report(await reload(log, turn, worker), "a#1", 0)])).good


async def test_of_many_parts_only_the_good_ones_are_written(log: Any) -> None:
    one, two = await begin(log), await begin(log)
    leases = {lease.execution_id: lease for lease in await claim(log)}
    parts = [
        report(await reload(log, one), "a#1", leases[one.case.execution_id].fence),
        report(await reload(log, two), "a#1", 999_999),
    ]
    committed = await log.commit(parts)
    assert committed.good == {one.case.execution_id}
    assert len(await log.events(two.case.execution_id)) == 2


async def test_a_fence_is_good_in_the_hands_of_its_holder_alone(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    thief = Turn((await reload(log, turn)).case, PLAN, "w-2")
    assert (await log.commit([report(thief, "a#1", lease.fence)])).good == set()
    assert await log.extend("w-2", [_held(lease)], 30.0) == set()
    assert await log.release("w-2", [_held(lease)]) == []
    assert (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).good == {lease.execution_id}


async def test_what_follows_may_be_claimed_in_the_same_commit(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    part = report(await reload(log, turn), "a#1", lease.fence)
    committed = await log.commit([part], replace(WORKER, room=1))
    assert [item.command_id for item in committed.claimed] == ["b#1"]
    assert [key.command_id for _, key in committed.waiting] == ["c#1"]
    assert committed.claimed[0].fence > lease.fence
    held = _held(committed.claimed[0])
    assert await log.extend("w-1", [held], 30.0) == {(turn.case.execution_id, "b#1", held.fence)}


async def test_a_command_is_claimed_once(log: Any) -> None:
    await begin(log)
    assert len(await claim(log)) == 1
    assert await claim(log, worker="w-2") == []


async def test_only_the_commands_that_are_named_are_claimed(log: Any) -> None:
    one, two = await begin(log), await begin(log)
    key = CommandKey(execution_id=two.case.execution_id, command_id="a#1")
    (lease,) = await log.claim(WORKER, [key, key])
    assert lease.execution_id == two.case.execution_id
    (other,) = await claim(log)
    assert other.execution_id == one.case.execution_id


async def test_what_is_released_waits_again(log: Any) -> None:
    await begin(log)
    (lease,) = await claim(log)
    assert [key.command_id for _, key in await log.release("w-1", [_held(lease)])] == ["a#1"]
    assert await log.release("w-1", [_held(lease)]) == []
    (again,) = await claim(log)
    assert again.fence != lease.fence
    assert again.delivery == 1, "giving a command back is no failed delivery"


async def test_of_what_had_begun_before_it_was_given_back_the_next_is_told(log: Any) -> None:
    await begin(log)
    for worker in ("w-1", "w-2"):
        (lease,) = await claim(log, worker=worker)
        await log.release(worker, [], [_held(lease)])
    (lease,) = await claim(log, worker="w-3")
    await log.release("w-3", [_held(lease)])
    (again,) = await claim(log, worker="w-4")
    assert [(one["worker"], one["delivery"]) for one in again.lost] == [("w-1", 1), ("w-2", 1)], "w-3 had not begun"
    assert all(one["claimed_at"] <= one["given_back_at"] < one["lease_until"] for one in again.lost)


async def test_of_many_that_had_it_to_no_end_the_last_ten_are_told(log: Any) -> None:
    await begin(log)
    for number in range(12):
        (lease,) = await claim(log, worker=f"w-{number}")
        await log.release(f"w-{number}", [], [_held(lease)])
    (again,) = await claim(log)
    assert [one["worker"] for one in again.lost] == [f"w-{number}" for number in range(2, 12)]


@pytest.mark.parametrize("other", [{"fence": 1_000_000}, {"worker": "w-2"}], ids=["fence", "worker"])
async def test_only_the_present_holder_prolongs_a_lease_or_gives_it_back(log: Any, other: dict[str, Any]) -> None:
    await begin(log)
    (lease,) = await claim(log)
    worker, held = other.get("worker", "w-1"), _held(lease).model_copy(update=other)
    assert await log.extend(worker, [held], 30.0) == set()
    assert await log.release(worker, [held]) == []
    assert await log.extend("w-1", [_held(lease)], 30.0) == {(lease.execution_id, "a#1", lease.fence)}, (
        "the holder has lost it"
    )


async def test_a_lease_holds_until_its_end_and_a_prolonged_one_until_its_new_end(log: Any) -> None:
    await begin(log)
    (lease,) = await claim(log)
    assert await log.expire(3, 10) == []
    assert await log.poisoned(1, 10) == []
    await log.extend("w-1", [_held(lease)], 0.001)
    await asyncio.sleep(0.01)
    assert [key.command_id for _, key in await log.expire(3, 10)] == ["a#1"]
    assert await log.extend("w-1", [_held(lease)], 30.0) == set(), "what has expired is nobody's"


async def test_an_expired_lease_is_given_to_another_with_a_new_fence(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await log.claim(replace(WORKER, lease=0.001), None)
    await asyncio.sleep(0.01)
    assert [key.command_id for _, key in await log.expire(3, 10)] == ["a#1"]
    (again,) = await claim(log, worker="w-2")
    assert (again.delivery, again.fence > lease.fence) == (2, True)
    assert not (await log.commit([report(await reload(log, turn), "a#1", lease.fence)])).good
    assert (await log.commit([report(await reload(log, turn, "w-2"), "a#1", again.fence)])).good


async def test_a_command_delivered_too_often_is_poisoned_and_can_be_buried(log: Any) -> None:
    await begin(log)
    await log.claim(replace(WORKER, lease=0.001), None)
    await asyncio.sleep(0.01)
    assert await log.expire(1, 10) == []
    (dead,) = await log.poisoned(1, 10)
    assert (dead.command_id, dead.deliveries, dead.worker) == ("a#1", 1, "w-1")
    await log.bury(dead)
    assert await log.poisoned(1, 10) == [dead], "burying does not take a command from the execution"


async def test_a_worker_can_ask_for_what_it_holds(log: Any) -> None:
    one, two = await begin(log), await begin(log)
    leases = await claim(log)
    known = CommandKey(execution_id=one.case.execution_id, command_id="a#1")
    (held,) = await log.held("w-1", 30.0, [known])
    assert held.execution_id == two.case.execution_id
    assert held.fence in {lease.fence for lease in leases}
    assert await log.held("w-2", 30.0, []) == []


async def test_a_lease_brings_the_payload_its_command_was_issued_with(log: Any) -> None:
    await begin(log)
    (lease,) = await claim(log)
    assert lease.order == {"kind": "step", "attempt": 1, "scope": {"ctx": {}, "steps": {}}}
    assert lease.opening is None


async def test_a_frames_lease_brings_its_loops_opening(log: Any) -> None:
    plan = load_plan(LOOP)
    opening = open_root(Entry(), plan, {}, NOW, None)  # type: ignore[arg-type]
    turn = Turn(opening.case, plan)
    turn.take(opening.fact)
    await log.commit([turn.part(opening.row)])
    first, second = await claim(log)
    assert (first.order["frame"], second.order["frame"]) == ([0, 0, 1, 1], [1, 1, 2, 1])
    assert first.opening["data"] == [7, 8]
    assert (await log.held("w-1", 30.0, []))[0].opening["data"] == [7, 8]
    assert (await log.opening(first.execution_id, "each", 1))["data"] == [7, 8]


async def test_an_idempotency_key_starts_one_execution(log: Any) -> None:
    turn = await begin(log, key="k")
    opening = open_root(Entry(), PLAN, {}, NOW, "k")  # type: ignore[arg-type]
    again = Turn(opening.case, PLAN)
    again.take(opening.fact)
    assert not (await log.commit([again.part(opening.row)])).good
    assert await log.started(["k", "other"]) == {
        "k": Known(turn.case.execution_id, 1, opening.row["request_hash"], None)
    }
    assert await log.started(["other"]) == {}


async def test_ending_an_execution_drops_its_commands(log: Any) -> None:
    turn = await begin(log)
    cancelled = Event(e.CANCELLED, NOW, payload={"reason": "enough"})
    again = await reload(log, turn)
    again.take(cancelled)
    assert (await log.commit([again.part()])).good
    assert await claim(log) == []


async def test_a_timer_is_due_once(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    waiting = await reload(log, turn)
    fact = Event(e.CALL_DEFERRED, NOW, 0, None, "a", 1, "a#1", {"delay": 0.0})
    waiting.take(fact, ("a#1", lease.fence))
    await log.commit([waiting.part()])
    (due,) = await log.due(10)
    assert due.execution_id == turn.case.execution_id
    fired, twice = await reload(log, turn, None), await reload(log, turn, None)
    for going in (fired, twice):
        going.take(Event(e.TIMER_FIRED, NOW, 0, None, "a", 1, None, {"timer": due.name}), (due.name, 0))
    assert (await log.commit([fired.part()])).good
    assert not (await log.commit([twice.part()])).good
    assert await log.due(10) == []


async def test_a_child_is_opened_with_its_parent_and_its_end_is_appended_there(log: Any) -> None:
    parent = await begin(log)
    (lease,) = await claim(log)
    turn = await reload(log, parent)
    order = {"path": "t/t", "version": 1, "catalog_id": "5", "plan_hash": PLAN.hash, "payload": {}}
    turn.take(Event(e.CALL_PARKED, NOW, 0, None, "a", 1, "a#1", {"child": order}), ("a#1", lease.fence))
    opening = open_child(turn.case, turn.children[0], PLAN, {})
    child = Turn(opening.case, PLAN)
    child.take(opening.fact)
    committed = await log.commit([turn.part(), child.part(opening.row)])
    assert committed.good == {turn.case.execution_id, child.case.execution_id}
    assert await log.children(turn.case.execution_id) == [child.case.execution_id]

    ending = await reload(log, child)
    ending.take(Event(e.CANCELLED, NOW, payload={"reason": "enough"}))
    committed = await log.commit([ending.part()])
    assert committed.appended == [turn.case.execution_id]
    assert await log.lagging(10) == [turn.case.execution_id]
    ((place, fact),) = (await log.inbox(turn.case.execution_id)).facts
    assert (fact.type, fact.step) == (e.CHILD_ENDED, "a")

    going = await reload(log, turn)
    going.take(fact, taken=place)
    assert (await log.commit([going.part()])).good
    assert await log.lagging(10) == []
    assert (await log.events(turn.case.execution_id))[turn.head].type == e.CHILD_ENDED


async def test_outcomes_may_be_left_in_the_inbox_whoever_holds_the_row(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    fact = Event(e.CALL_DONE, NOW, 0, None, "a", 1, "a#1", {"data": 1})
    assert await log.append([Reported(turn.case.execution_id, fact, lease.fence + 1, "w-1", [])]) == set()
    assert await log.append([Reported(turn.case.execution_id, fact, lease.fence, "w-2", [])]) == set()
    accepted = await log.append([Reported(turn.case.execution_id, fact, lease.fence, "w-1", [])])
    assert accepted == {(turn.case.execution_id, "a#1", lease.fence)}
    assert await log.append([Reported(turn.case.execution_id, fact, lease.fence, "w-1", [])]) == set(), (
        "it is closed once"
    )
    assert len(await log.events(turn.case.execution_id)) == 2, "it has no place in the log yet"
    assert await log.lagging(10) == [turn.case.execution_id]


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
    log: Any, monkeypatch: pytest.MonkeyPatch, facts: int, bytes: int, pages: list[list[int]]
) -> None:
    monkeypatch.setattr(limits, "INBOX_FACTS", facts)
    monkeypatch.setattr(limits, "INBOX_BYTES", bytes)
    turn, other = await begin(log), await begin(log)
    fence = next(lease.fence for lease in await claim(log) if lease.execution_id == other.case.execution_id)
    telling = await reload(log, other)
    part = report(telling, "a#1", fence)
    # of some thousand bytes each
    told = {"type": e.TIMER_FIRED, "step": "a", "generation": 1, "at": NOW}
    part.appends = [
        {**told, "id": turn.case.execution_id, "payload": {"timer": "no", "n": n, "text": "x" * 992}} for n in range(7)
    ]
    assert (await log.commit([part])).appended == [turn.case.execution_id]
    found: list[list[int]] = []
    while True:
        going = await reload(log, turn)
        inbox = await log.inbox(turn.case.execution_id)
        locked: list[Inbox] = []
        await log.exclusively(turn.case.execution_id, lambda it: locked.append(it.inbox()))  # noqa: B023
        assert locked == [inbox], "who holds the row reads as much"
        if not inbox.facts:
            break
        found.append([fact.payload["n"] for _, fact in inbox.facts])
        assert inbox.more == (found[-1][-1] < 6)
        for place, fact in inbox.facts:
            going.take(fact, taken=place)
        assert (await log.commit([going.part()])).good
    assert found == pages


async def test_a_timer_waits_for_its_time(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    waiting = await reload(log, turn)
    fact = Event(e.CALL_DEFERRED, NOW, 0, None, "a", 1, "a#1", {"delay": 3600.0})
    waiting.take(fact, ("a#1", lease.fence))
    assert (await log.commit([waiting.part()])).good
    assert await log.due(10) == []


async def test_two_who_take_in_the_same_fact_write_it_once(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    fact = Event(e.CALL_DONE, NOW, 0, None, "a", 1, "a#1", {"data": 1})
    await log.append([Reported(turn.case.execution_id, fact, lease.fence, "w-1", [])])
    one, two = await reload(log, turn), await reload(log, turn)
    for going in (one, two):
        ((place, waiting),) = (await log.inbox(turn.case.execution_id)).facts
        going.take(waiting, taken=place)
    assert (await log.commit([one.part()])).good
    assert not (await log.commit([two.part()])).good
    assert await log.inbox(turn.case.execution_id) == Inbox([])


async def test_what_comes_too_late_for_an_ended_execution_is_discarded(log: Any) -> None:
    turn = await begin(log)
    (lease,) = await claim(log)
    fact = Event(e.CALL_DONE, NOW, 0, None, "a", 1, "a#1", {"data": 1})
    await log.append([Reported(turn.case.execution_id, fact, lease.fence, "w-1", [])])
    await log.discard(turn.case.execution_id)
    assert await log.lagging(10), "the execution still runs"
    again = await reload(log, turn)
    again.take(Event(e.CANCELLED, NOW, payload={"reason": "enough"}))
    await log.commit([again.part()])
    await log.discard(turn.case.execution_id)
    assert await log.lagging(10) == []


async def test_a_child_whose_parent_lost_its_race_is_not_opened(log: Any) -> None:
    parent = await begin(log)
    (lease,) = await claim(log)
    winner, loser = await reload(log, parent), await reload(log, parent)
    order = {"path": "t/t", "version": 1, "catalog_id": "5", "plan_hash": PLAN.hash, "payload": {}}
    loser.take(Event(e.CALL_PARKED, NOW, 0, None, "a", 1, "a#1", {"child": order}), ("a#1", lease.fence))
    opening = open_child(loser.case, loser.children[0], PLAN, {})
    child = Turn(opening.case, PLAN)
    child.take(opening.fact)
    await log.commit([report(winner, "a#1", lease.fence)])
    assert not (await log.commit([loser.part(), child.part(opening.row)])).good
    assert await log.load([child.case.execution_id]) == {}


async def test_the_pulse_tells_what_there_is_to_do(log: Any) -> None:
    assert not any(vars_of(await log.pulse(0.0)))
    await begin(log)
    await asyncio.sleep(0.01)
    assert (await log.pulse(0.0)).waiting
    assert await log.waiting_pools(0.0) == ["shared"]
    assert await log.waiting_pools(60.0) == []
    await log.claim(replace(WORKER, lease=0.001), None)
    await asyncio.sleep(0.01)
    assert (await log.pulse(0.0)).expired


def vars_of(pulse: Any) -> list[bool]:
    return [getattr(pulse, name) for name in ("expired", "waiting", "due", "lagging", "scheduled")]


def _held(lease: Any) -> Held:
    return Held(execution_id=lease.execution_id, command_id=lease.command_id, fence=lease.fence)


async def test_a_sweep_takes_one_of_each_execution_before_it_takes_a_second_of_any(log: Any) -> None:
    wide = await begin(log)
    (lease,) = await claim(log)
    assert (await log.commit([report(await reload(log, wide), "a#1", lease.fence)])).good
    narrow = [await begin(log) for _ in range(3)]
    found = await claim(log, room=4)
    assert sorted(lease.execution_id for lease in found) == sorted(turn.case.execution_id for turn in (wide, *narrow))
    (rest,) = await claim(log)
    assert rest.execution_id == wide.case.execution_id
