"""What is under way when an execution fails: items of loops, and sub-playbooks with something to undo."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.protocol import ChildRequest, ClaimedCommand, FrameOutcome

from .conftest import Engine, frame_of, outcome

BOOM = {"kind": "tool", "code": "boom", "message": "x", "retryable": False}
LOOP = """
- {step: begin, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: each}, {step: bad}]}}
- step: each
  loop: {in: [1, 2], iterator: x, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: noop}
  compensate: {tool: {kind: noop}}
- {step: bad, tool: {kind: noop}}
"""
CHILD = """
- {step: charge, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: ship}]}}
- {step: ship, tool: {kind: noop}}
"""
PARENT = """
- {step: begin, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: bad}]}}
- {step: call, tool: {kind: playbook, path: t/child}}
- {step: bad, tool: {kind: noop}}
"""
UNDONE = PARENT.replace("path: t/child}", "path: t/child}, compensate: {tool: {kind: noop}}")


def error_of(engine: Engine, id: str) -> dict[str, Any]:
    return dict(engine.memory.executions[id].events[-1].payload["error"])


async def settle(engine: Engine) -> list[str]:
    """Process inboxes and run what follows; the steps that ran."""
    ran: list[str] = []
    while True:
        ids = await engine.log.executions_with_inbox(100, "0")
        for id in ids:
            await engine.orchestrator.process_inbox(id)
        commands = await engine.claim()
        if not ids and not commands:
            return ran
        for command in commands:
            ran.append(command.step)
            await engine.report(outcome(command))


async def begun(engine: Engine, text: str, head: str = "") -> tuple[str, dict[str, ClaimedCommand]]:
    engine.catalog.add("t/t", text, head)
    id = await engine.start()
    (begin,) = await engine.claim()
    await engine.report(outcome(begin))
    return id, {command.step: command for command in await engine.claim()}


async def charging(engine: Engine, text: str, head: str = "") -> tuple[str, str, ClaimedCommand, ClaimedCommand]:
    """An execution whose sub-playbook has charged: both ids, the command `bad`, and `ship` of the sub-playbook."""
    engine.catalog.add("t/child", CHILD)
    id, commands = await begun(engine, text, head)
    called = outcome(commands["call"], status="parked", child=ChildRequest(path="t/child", payload={}), resume={})
    await engine.report(called)
    (charge,) = await engine.claim()
    await engine.report(outcome(charge))
    (ship,) = await engine.claim()
    return id, charge.execution_id, commands["bad"], ship


@pytest.mark.parametrize(
    "later", [{"status": "deferred", "delay": 60.0}, {"status": "parked", "wait": {"signal": "x"}}]
)
async def test_an_item_that_would_go_on_later_stops_and_the_others_end_and_are_undone(
    engine: Engine, later: dict[str, Any]
) -> None:
    engine.catalog.add("t/t", LOOP)
    id = await engine.start()
    (begin,) = await engine.claim()
    await engine.report(outcome(begin))
    commands = await engine.claim()
    first, second = (command for command in commands if command.step == "each")
    (bad,) = (command for command in commands if command.step == "bad")
    await engine.report(outcome(bad, status="error", error=BOOM))
    await engine.report(outcome(first, **later, resume={}))
    frame = FrameOutcome(start=frame_of(second).start, end=frame_of(second).end, ok=1, failed=0)
    answer = await engine.report(outcome(second, data=[{"id": 2}], frame=frame))
    assert answer.results[0].status == "accepted", "the effect of the other item would not be undone"
    assert await settle(engine) == ["each.compensate"]
    assert error_of(engine, id)["compensation"]["done"] == ["each"]


async def test_a_sub_playbook_of_an_execution_that_fails_undoes_what_it_has_done(engine: Engine) -> None:
    parent, child, bad, _ = await charging(engine, PARENT)
    await engine.report(outcome(bad, status="error", error=BOOM))
    assert engine.status(parent) == "FAILED"
    assert await settle(engine) == ["charge.compensate"]
    assert engine.status(child) == "FAILED"
    error = error_of(engine, child)
    assert (error["code"], error["compensation"]["done"]) == ("execution.parent_failed", ["charge"])


async def test_a_sub_playbook_that_is_undone_with_its_step_ends_before(engine: Engine) -> None:
    parent, child, bad, ship = await charging(engine, UNDONE)
    await engine.report(outcome(bad, status="error", error=BOOM))
    assert engine.status(parent) == "RUNNING"
    assert await settle(engine) == []
    await engine.report(outcome(ship))
    assert await settle(engine) == ["call.compensate"]
    assert (engine.status(child), engine.status(parent)) == ("COMPLETED", "FAILED")
    assert error_of(engine, parent)["compensation"]["done"] == ["call"]


async def test_a_cancellation_undoes_nothing_also_in_sub_playbooks(engine: Engine) -> None:
    parent, child, _, _ = await charging(engine, PARENT)
    await engine.orchestrator.controls.cancel(parent, "enough")
    assert await settle(engine) == []
    assert (engine.status(child), engine.status(parent)) == ("CANCELLED", "CANCELLED")


async def test_a_sub_playbook_that_undoes_something_already_goes_on_with_it(engine: Engine) -> None:
    parent, child, bad, ship = await charging(engine, PARENT)
    await engine.report(outcome(ship, status="error", error=BOOM))
    await engine.report(outcome(bad, status="error", error=BOOM))
    assert engine.status(parent) == "FAILED"
    assert await settle(engine) == ["charge.compensate"]
    error = error_of(engine, child)
    assert (error["code"], error["compensation"]["done"]) == ("boom", ["charge"])


async def test_a_sub_playbook_without_anything_to_undo_is_cancelled(engine: Engine) -> None:
    engine.catalog.add("t/child", "- {step: work, tool: {kind: noop}}")
    _, commands = await begun(engine, PARENT)
    called = outcome(commands["call"], status="parked", child=ChildRequest(path="t/child", payload={}), resume={})
    await engine.report(called)
    (work,) = await engine.claim()
    await engine.report(outcome(commands["bad"], status="error", error=BOOM))
    await settle(engine)
    assert engine.status(work.execution_id) == "CANCELLED"


async def test_a_sub_playbook_undoes_what_it_has_done_though_its_parent_has_failed_in_a_pause(engine: Engine) -> None:
    parent, child, bad, ship = await charging(engine, PARENT)
    await engine.orchestrator.controls.pause(parent)
    assert await settle(engine) == []
    await engine.report(outcome(bad, status="error", error=BOOM))
    assert engine.status(parent) == "FAILED"
    assert await settle(engine) == ["charge.compensate"]
    assert engine.status(child) == "FAILED"
    assert error_of(engine, child)["compensation"]["done"] == ["charge"]
    await engine.report(outcome(ship))


async def test_a_sub_playbook_that_undoes_something_goes_on_with_its_parent_after_a_pause(engine: Engine) -> None:
    parent, child, bad, _ = await charging(
        engine, PARENT.replace("- {step: begin, ", "- {step: begin, compensate: {tool: {kind: noop}}, ")
    )
    await engine.orchestrator.controls.pause(parent)
    await settle(engine)
    await engine.report(outcome(bad, status="error", error=BOOM))
    assert await settle(engine) == [], "it undoes something in a pause"
    assert (engine.status(parent), engine.status(child)) == ("RUNNING", "RUNNING")
    await engine.orchestrator.controls.resume(parent)
    assert sorted(await settle(engine)) == ["begin.compensate", "charge.compensate"]
    assert (engine.status(parent), engine.status(child)) == ("FAILED", "FAILED")


async def test_nor_does_it_stay_paused_if_its_parent_ends_before_it_goes_on(engine: Engine) -> None:
    """The parent has a step to undo under way, which fails as well, so that it fails in the pause."""
    text = PARENT.replace("{step: bad, tool: {kind: noop}}", "{step: bad, tool: {kind: noop}, compensate: none}")
    text = text.replace("{step: bad}]", "{step: bad}, {step: kept}]")
    text += "- {step: kept, tool: {kind: noop}, compensate: {tool: {kind: noop}}}\n"
    engine.catalog.add("t/child", CHILD)
    parent, commands = await begun(engine, text)
    called = outcome(commands["call"], status="parked", child=ChildRequest(path="t/child", payload={}), resume={})
    await engine.report(called)
    (charge,) = await engine.claim()
    await engine.report(outcome(charge))
    await engine.claim()
    await engine.orchestrator.controls.pause(parent)
    await settle(engine)
    await engine.report(outcome(commands["bad"], status="error", error=BOOM))
    assert await settle(engine) == []
    assert engine.status(parent) == "RUNNING"
    await engine.report(outcome(commands["kept"], status="error", error=BOOM))
    assert engine.status(parent) == "FAILED"
    assert await settle(engine) == ["charge.compensate"]
    assert engine.status(charge.execution_id) == "FAILED"


@pytest.mark.parametrize("fails_before", [True, False])
async def test_a_sub_playbook_undoes_what_it_has_done_when_the_time_of_the_execution_is_over(
    engine: Engine, fails_before: bool
) -> None:
    parent, child, bad, ship = await charging(engine, UNDONE, "executor: {spec: {timeout: 60}}\n")
    await engine.report(outcome(ship, status="parked", wait={"signal": "x"}, resume={}))
    if fails_before:
        await engine.report(outcome(bad, status="error", error=BOOM))
        assert await settle(engine) == []
        assert engine.status(parent) == "RUNNING"
    engine.seconds += 61
    for timer in await engine.log.due_timers(10):
        await engine.orchestrator.fire_timer(timer.execution_id, timer.name, timer.step, timer.generation)
    assert await settle(engine) == ["charge.compensate"]
    assert (engine.status(parent), engine.status(child)) == ("FAILED", "FAILED")
    assert error_of(engine, parent)["code"] == ("boom" if fails_before else "execution.timeout")
    assert await engine.log.due_timers(10) == []
