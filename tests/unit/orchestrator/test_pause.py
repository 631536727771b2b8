"""Pausing an execution: nothing of it is claimed, no timer fires, and its time stands still."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.engine import events as e
from noetl_serverless.engine.replay import fold
from noetl_serverless.errors import Conflict, InvalidRequest, NotFound

TWO = "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n"
PARENT = "- {step: call, tool: {kind: playbook, path: t/child}}\n"
CHILD = "- {step: only, tool: {kind: noop}}\n"
HOLD = "- {step: hold, tool: {kind: wait, signal: paid}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n"


async def due(engine: Engine, id: str) -> dict[str, int]:
    return await engine.log.timers(id)


async def fires(engine: Engine, id: str) -> list[str]:
    """Fire what is due; returns the names of the timers that fired."""
    timers = [timer for timer in await engine.log.due_timers(100) if timer.execution_id == id]
    fire = engine.orchestrator.fire_timer
    return [timer.name for timer in timers if await fire(id, timer.name, timer.step, timer.generation)]


async def test_nothing_is_claimed_while_it_is_paused_and_everything_afterwards(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    assert await engine.orchestrator.controls.pause(id, "to look at it")
    assert await engine.claim() == []
    assert not await engine.orchestrator.controls.pause(id), "it was paused twice"
    assert await engine.orchestrator.controls.resume(id)
    assert [command.step for command in await engine.claim()] == ["a"]
    assert not await engine.orchestrator.controls.resume(id)


async def test_what_runs_ends_and_what_follows_waits(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.orchestrator.controls.pause(id)
    response = await engine.report(done(command), by=engine.another(), capacity=10)
    assert (response.results[0].status, response.commands) == ("accepted", [])
    assert (await engine.orchestrator.state(id)).outcomes["a"]["status"] == "ok"
    assert await engine.claim() == []
    await engine.orchestrator.controls.resume(id)
    assert [command.step for command in await engine.claim()] == ["b"]


async def test_a_command_whose_worker_dies_meanwhile_waits_until_it_goes_on(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    await engine.claim()
    await engine.orchestrator.controls.pause(id)
    engine.seconds += 3600
    assert await engine.log.expire_leases(5, 100) == [], "it was offered to other workers"
    assert await engine.claim() == []
    await engine.orchestrator.controls.resume(id)
    assert [(command.step, command.delivery) for command in await engine.claim()] == [("a", 2)]


async def test_timers_stand_still(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.report(done(command, status="deferred", delay=60, resume={}), by=engine.another())
    ((name, before),) = (await due(engine, id)).items()
    engine.seconds += 20
    await engine.orchestrator.controls.pause(id)
    engine.seconds += 1000
    assert await fires(engine, id) == []
    await engine.orchestrator.controls.resume(id)
    assert await due(engine, id) == {name: before + 1_000_000}
    engine.seconds += 39
    assert await fires(engine, id) == []
    engine.seconds += 2
    assert await fires(engine, id) == [name]


async def test_a_timer_that_is_set_during_the_pause_loses_only_what_is_left_of_it(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.orchestrator.controls.pause(id)
    engine.seconds += 100
    await engine.report(done(command, status="deferred", delay=60, resume={}), by=engine.another())
    ((name, before),) = (await due(engine, id)).items()
    engine.seconds += 30
    await engine.orchestrator.controls.resume(id)
    assert await due(engine, id) == {name: before + 30_000}


async def test_a_wait_until_an_instant_ends_at_that_instant(engine: Engine) -> None:
    engine.catalog.add("t/t", HOLD)
    id = await engine.start()
    (command,) = await engine.claim()
    at = int(engine.seconds * 1000) + 500_000
    await engine.report(done(command, status="parked", wait={"due": at}, resume={}), by=engine.another())
    await engine.orchestrator.controls.pause(id)
    engine.seconds += 1000
    await engine.orchestrator.controls.resume(id)
    ((name, now),) = (await due(engine, id)).items()
    assert now == at
    assert await fires(engine, id) == [name]


async def test_a_signal_comes_while_it_is_paused_and_what_follows_waits(engine: Engine) -> None:
    engine.catalog.add("t/t", HOLD)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.report(done(command, status="parked", wait={"signal": "paid"}, resume={}), by=engine.another())
    await engine.orchestrator.controls.pause(id)
    assert await engine.orchestrator.controls.signal(id, "paid", {"sum": 3})
    assert await engine.claim() == []
    await engine.orchestrator.controls.resume(id)
    assert [command.step for command in await engine.claim()] == ["b"]


async def test_sub_playbooks_pause_with_their_parent_also_one_that_begins_meanwhile(engine: Engine) -> None:
    engine.catalog.add("t/t", PARENT)
    engine.catalog.add("t/child", CHILD)
    early, late = await engine.start(), await engine.start()
    commands = {command.execution_id: command for command in await engine.claim()}
    parked: dict[str, Any] = {"status": "parked", "child": {"path": "t/child"}, "resume": {}}
    await engine.report(done(commands[early], **parked), by=engine.another())
    for id in (early, late):
        await engine.orchestrator.controls.pause(id)
    await engine.report(done(commands[late], **parked), by=engine.another())
    assert await engine.claim() == []
    for id in (early, late):
        await engine.orchestrator.controls.resume(id)
    assert [command.step for command in await engine.claim()] == ["only", "only"]


async def test_a_sub_playbook_that_hears_of_a_pause_when_it_is_over_has_lost_its_time_all_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", PARENT)
    engine.catalog.add("t/child", CHILD)
    parent = await engine.start()
    (command,) = await engine.claim()
    parked: dict[str, Any] = {"status": "parked", "child": {"path": "t/child"}, "resume": {}}
    await engine.report(done(command, **parked), by=engine.another())
    (command,) = await engine.claim()
    child = command.execution_id
    await engine.report(done(command, status="deferred", delay=60, resume={}), by=engine.another())
    ((name, before),) = (await due(engine, child)).items()

    async def nobody(ids: Any) -> None:
        """The function ends before it advances them."""

    monkeypatch.setattr(engine.orchestrator._commits, "process_inboxes", nobody)
    for seconds in (100, 30):
        await engine.orchestrator.controls.pause(parent)
        engine.seconds += seconds
        await engine.orchestrator.controls.resume(parent)
    assert await engine.orchestrator.process_inbox(child)
    types = [event.type for event in await engine.log.events(child)]
    assert types[-4:] == [e.PAUSED, e.RESUMED, e.PAUSED, e.RESUMED]
    assert await due(engine, child) == {name: before + 130_000}


async def test_the_log_alone_says_that_it_is_paused(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    await engine.orchestrator.controls.pause(id, "why", {"kind": "user", "name": "ann"})
    log = await engine.log.events(id)
    assert fold(id, log).paused is not None
    paused = log[-1]
    assert (paused.type, paused.payload["reason"], paused.payload["by"]["name"]) == (e.PAUSED, "why", "ann")


async def test_a_paused_execution_can_be_cancelled(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    await engine.orchestrator.controls.pause(id)
    assert await engine.orchestrator.controls.cancel(id, "enough") == ("cancelled", [id])
    with pytest.raises(Conflict, match="has ended"):
        await engine.orchestrator.controls.resume(id)


async def test_an_execution_that_has_ended_takes_no_signal_and_no_pause(engine: Engine) -> None:
    engine.catalog.add("t/t", CHILD)
    id = await engine.start()
    (command,) = await engine.claim()
    await engine.report(done(command), by=engine.another())
    for refused in (engine.orchestrator.controls.signal(id, "x"), engine.orchestrator.controls.pause(id)):
        with pytest.raises(Conflict, match="has ended"):
            await refused
    with pytest.raises(NotFound):
        await engine.orchestrator.controls.signal("1", "x")


async def test_signals_are_bounded_and_refused_beyond_not_lost(engine: Engine) -> None:
    engine.catalog.add("t/t", TWO)
    id = await engine.start()
    with pytest.raises(InvalidRequest, match="65536"):
        await engine.orchestrator.controls.signal(id, "x", "y" * 70_000)
    for number in range(4):
        assert await engine.orchestrator.controls.signal(id, "x", "y" * 60_000, id=str(number))
    with pytest.raises(Conflict, match="262144"):
        await engine.orchestrator.controls.signal(id, "x", "y" * 60_000)
    assert not await engine.orchestrator.controls.signal(id, "x", "y" * 60_000, id="2"), (
        "one that came before counts once"
    )
    assert len((await engine.orchestrator.state(id)).signals) == 4


async def test_somebody_is_woken_for_the_timers_of_an_execution_that_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    async def schedule_wakeup(delay: float) -> None:
        delays.append(delay)

    monkeypatch.setattr(engine.notifications, "schedule_wakeup", schedule_wakeup)
    engine.catalog.add("t/t", "- {step: hold, tool: {kind: wait, for: 20}}\n")
    id = await engine.start()
    (hold,) = await engine.claim()
    await engine.report(done(hold, status="parked", wait={"delay": 20}, resume={}))
    engine.seconds += 5
    await engine.orchestrator.controls.pause(id)
    engine.seconds += 100
    delays.clear()
    await engine.orchestrator.controls.resume(id)
    assert delays == [15.0]
