"""What the services and the reconciler ask of the orchestrator besides starts and reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.errors import NotFound
from noetl_serverless.orchestrator import claims
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.protocol import CommandKey, HeartbeatRequest, Held
from noetl_serverless.testing.host import MemoryInvoker

from .conftest import Engine, outcome
from .playbooks import CALL, LOOP, ONLY, parallel_to_a_child

# -- users


async def test_a_cancellation_says_why(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    for reason, message in (("enough", "enough"), ("", "cancelled")):
        id = await engine.start()
        assert await engine.orchestrator.controls.cancel(id, reason) == ("cancelled", [id])
        (fact,) = [event for event in await engine.log.events(id) if event.type == e.CANCELLED]
        assert fact.payload == {
            "reason": reason,
            "cascade": True,
            "error": {"kind": "engine", "code": "execution.cancelled", "message": message},
        }
        assert fact.at == int(engine.seconds * 1000)


async def test_one_may_be_cancelled_without_its_children(engine: Engine) -> None:
    id, child = await parallel_to_a_child(engine)
    assert await engine.orchestrator.controls.cancel(id, "enough", cascade=False) == ("cancelled", [id])
    assert (engine.status(id), engine.status(child)) == ("CANCELLED", "RUNNING")


async def test_a_cancellation_reaches_the_children_of_children(engine: Engine) -> None:
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", CALL.replace("t/child", "t/last"))
    engine.catalog.add("t/last", ONLY)
    id = await engine.start()
    for path in ("t/child", "t/last"):
        (call,) = await engine.claim()
        await engine.report(outcome(call, status="parked", child={"path": path}))
    child, last = await engine.log.running_descendants(id)
    assert await engine.orchestrator.controls.cancel(id, "enough") == ("cancelled", [id, child, last])
    assert {engine.status(one) for one in (id, child, last)} == {"CANCELLED"}


async def test_the_state_is_that_of_now_and_of_nobody_there_is_none(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    assert (await engine.orchestrator.state(id)).status == "running"
    await engine.orchestrator.controls.cancel(id, "enough")
    assert (await engine.orchestrator.state(id)).status == "cancelled"
    with pytest.raises(NotFound, match="404"):
        await engine.orchestrator.state("404")


# -- workers


async def test_a_worker_without_room_claims_nothing_and_one_that_is_pointed_to_a_command_gets_it(
    engine: Engine,
) -> None:
    engine.catalog.add("t/t", ONLY)
    ids = [await engine.start() for _ in range(3)]
    assert await engine.claim(limit=0) == []
    wanted = CommandKey(execution_id=ids[1], command_id="only#1")
    assert [command.execution_id for command in await engine.claim(commands=[wanted])] == [ids[1]]
    assert len(await engine.claim(limit=1)) == 1
    assert len(await engine.claim()) == 1


async def test_a_claim_is_for_a_pool_and_for_as_long_as_is_asked(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    await engine.start()
    assert await engine.claim(pool="gpu") == []
    (command,) = await engine.claim(lease=7.0)
    assert command.lease_until.startswith("2027-01-15T08:00:07")


async def test_a_heartbeat_keeps_what_is_held_and_names_what_is_not(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    await engine.start()
    await engine.start()
    first, second = await engine.claim(lease=10.0)
    keys = [Held(execution_id=it.execution_id, command_id=it.command_id, fence=it.fence) for it in (first, second)]
    engine.seconds += 8
    kept = await engine.orchestrator.heartbeat(HeartbeatRequest(worker_id="w-1", commands=keys[:1], lease=10.0))
    assert kept.lost == []
    engine.seconds += 5
    await engine.log.expire_leases(3, 10)
    answer = await engine.orchestrator.heartbeat(HeartbeatRequest(worker_id="w-1", commands=keys, lease=10.0))
    assert answer.lost == [CommandKey(execution_id=second.execution_id, command_id="only#1")]
    old = keys[0].model_copy(update={"fence": first.fence - 1})
    answer = await engine.orchestrator.heartbeat(HeartbeatRequest(worker_id="w-1", commands=[old]))
    assert [key.execution_id for key in answer.lost] == [first.execution_id], "an older fence holds nothing"


async def test_what_was_claimed_and_is_not_sent_waits_again_and_is_invoked_for(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    await engine.start()
    (command,) = await engine.claim()
    engine.recorder.notified.clear()
    await engine.orchestrator.return_commands("w-2", [command])
    assert (await engine.claim(), engine.recorder.notified) == ([], []), "it is not that worker's"
    await engine.orchestrator.return_commands("w-1", [command])
    assert engine.recorder.notified == [("shared", "invocation"), ("shared", "only#1")]
    (again,) = await engine.claim()
    assert again.command_id == "only#1"


async def test_a_release_of_what_is_not_held_is_stale(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    await engine.start()
    (command,) = await engine.claim()
    answer = await engine.report(outcome(command, status="released"), worker="w-2")
    assert [result.status for result in answer.results] == ["stale"]
    engine.recorder.notified.clear()
    answer = await engine.report(outcome(command, status="released"))
    assert [result.status for result in answer.results] == ["accepted"]
    assert ("shared", "only#1") in engine.recorder.notified


async def test_a_frame_brings_what_its_loop_and_its_own_issue_say(engine: Engine) -> None:
    engine.catalog.add("t/t", LOOP)
    await engine.start()
    (a,) = await engine.claim()
    first, second = (await engine.report(outcome(a), capacity=5)).commands
    assert (first.scope["ctx"], first.items, first.count) == ({"n": 1}, [10], 3)
    frame = second.frame
    assert frame is not None
    assert (frame.index, frame.start, frame.end, frame.concurrency) == (1, 1, 2, 1)
    (third,) = (await engine.report(outcome(first, [1], frame=covers(first)), capacity=5)).commands
    assert (third.scope["ctx"], third.items) == ({"n": 1}, [30])


def covers(command: Any) -> dict[str, Any]:
    return {"start": command.frame.start, "end": command.frame.end, "ok": 1, "failed": 0, "item_ms": 100}


async def test_a_frame_of_a_stored_collection_brings_where_it_is(engine: Engine) -> None:
    flow = """
- {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}
- {step: each, loop: {in: "{{ load.rows }}", iterator: x}, tool: {kind: noop}}
"""
    engine.catalog.add("t/t", flow)
    id = await engine.start()
    (load,) = await engine.claim()
    ref = {
        "kind": "result_ref",
        "ref": f"noetl://execution/{id}/result/load/00000000",
        "store": "disk",
        "key": f"{id}/load/0",
    }
    (opening,) = (await engine.report(outcome(load, ref=ref), capacity=5)).commands
    assert (opening.kind, opening.items, opening.collection) == ("open", None, None)
    stored = {**ref, "ref": f"noetl://execution/{id}/result/each/00000000", "key": f"{id}/each/0"}
    frames = (await engine.report(outcome(opening, ref=stored, count=2), capacity=5)).commands
    assert [(frame.kind, frame.items, frame.count) for frame in frames] == [("frame", None, 2)]
    assert frames[0].collection is not None and frames[0].collection["key"] == f"{id}/each/0"


async def test_at_most_so_many_opened_loops_are_cached(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MAX_OPENED_LOOPS", 1)
    engine.catalog.add("t/t", LOOP.replace("max_in_flight: 2", "max_in_flight: 1"))
    read: list[str] = []
    opening, claim = engine.log.loop_opened, engine.log.claim

    async def note(id: str, *more: Any) -> Any:
        read.append(id)
        return await opening(id, *more)

    async def bare(*given: Any) -> Any:
        # as of a frame whose opening the store does not send along
        return [replace(lease, loop_opened=None) for lease in await claim(*given)]

    monkeypatch.setattr(engine.log, "loop_opened", note)
    monkeypatch.setattr(engine.log, "claim", bare)
    one, two = await engine.start(), await engine.start()
    await engine.report(*(outcome(command) for command in await engine.claim()))
    frames = {command.execution_id: command for command in await engine.claim()}
    assert sorted(read) == sorted([one, two])
    last = read[-1]
    await engine.report(outcome(frames[last], [1], frame=covers(frames[last])))
    (second,) = await engine.claim()
    assert (second.items, len(read)) == ([20], 2), "its opening was at hand"
    other = next(id for id in (one, two) if id != last)
    await engine.report(outcome(frames[other], [1], frame=covers(frames[other])))
    (second,) = await engine.claim()
    assert (second.items, len(read)) == ([20], 3), "it had to make room"


# -- the reconciler


async def test_a_timer_fires_once(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.report(outcome(command, status="deferred", delay=5.0))
    (timer,) = (await engine.orchestrator.state(id)).timers
    engine.seconds += 5
    assert await engine.orchestrator.fire_timer(id, timer, "only", 1) is True
    (fired,) = [event for event in await engine.log.events(id) if event.type == e.TIMER_FIRED]
    assert (fired.at, fired.step, fired.generation, fired.payload) == (
        int(engine.seconds * 1000),
        "only",
        1,
        {"timer": timer},
    )
    assert await engine.orchestrator.fire_timer(id, timer, "only", 1) is False
    (again,) = await engine.claim()
    assert (again.command_id, again.attempt) == ("only#1@2", 2)
    with pytest.raises(NotFound):
        await engine.orchestrator.fire_timer("404", timer, "only", 1)


async def test_the_alarm_is_set_for_the_first_timer_of_a_commit(engine: Engine) -> None:
    invoker = MemoryInvoker()
    notifications = Notifications(None, invoker, after_response=False, timer_function="reconciler")
    clock = lambda: int(engine.seconds * 1000)  # noqa: E731
    engine.orchestrator = Orchestrator(engine.log, Plans(engine.catalog), notifications, clock=clock)
    engine.catalog.add("t/t", ONLY)
    for _ in range(2):
        await engine.start()
    one, two = await engine.claim()
    invoker.invocations.clear()
    await engine.report(outcome(one, status="deferred", delay=9.0), outcome(two, status="deferred", delay=4.0))
    assert [(invocation.function, invocation.delay) for invocation in invoker.invocations] == [("reconciler", 4.0)]


async def test_the_plan_of_an_execution_is_given_while_it_is_known(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    plan = await engine.orchestrator.plan_of(id)
    assert plan is not None and (plan.path, plan.pool("only")) == ("t/t", "shared")
    assert await engine.orchestrator.plan_of("404") is None


async def test_a_dead_letter_is_accepted_once(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    await engine.claim(lease=1.0)
    engine.seconds += 5
    (dead,) = await engine.log.undeliverable(1, 10)
    assert await engine.orchestrator.fail_undeliverable(dead) is True
    assert await engine.orchestrator.fail_undeliverable(dead) is False
    (fact,) = [event for event in await engine.log.events(id) if event.type == e.CALL_ERROR]
    assert fact.payload["meta"]["deliveries"] == 1
    assert fact.payload["error"] == {
        "kind": "engine",
        "code": "command.delivery_limit",
        "message": "the command was delivered to 1 workers and none reported an outcome; the last was w-1. "
        "It may crash its worker: see the worker's log",
        "retryable": False,
    }


async def test_taking_in_an_empty_inbox_is_not_going_on(engine: Engine) -> None:
    engine.catalog.add("t/t", ONLY)
    id = await engine.start()
    assert await engine.orchestrator.process_inbox(id) is False
    with pytest.raises(NotFound):
        await engine.orchestrator.process_inbox("404")
