"""Variables of an execution as users set and delete them, and its projection in the store."""

from __future__ import annotations

from typing import Any

import pytest
from tests.log_rules import audit_decisions, audit_log
from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.engine import events as e
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.variables import values_of
from noetl_serverless.errors import Conflict, InvalidRequest, NotFound
from noetl_serverless.inspection.diff import diff
from noetl_serverless.playbook.load import load_plan

CHAIN = """
- {step: a, tool: {kind: noop}, set: {vars.a: "{{ output.data }}"}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: noop, input: {x: "{{ vars.x }}"}}, next: {arcs: [{step: c}]}}
- {step: c, tool: {kind: noop}}
"""


@pytest.fixture
async def id(engine: Engine) -> str:
    """That of an execution whose first step runs."""
    engine.catalog.add("t/t", CHAIN)
    return await engine.start()


async def values(engine: Engine, id: str) -> dict[str, Any]:
    return values_of((await engine.orchestrator.state(id)).variables)


def rows(engine: Engine, id: str) -> dict[str, Any]:
    return {name: row["value"] for name, row in engine.memory.executions[id].variables.items()}


async def run_step(engine: Engine, data: Any = None) -> Any:
    (command,) = await engine.claim()
    await engine.report(done(command, data))
    return command


async def check(engine: Engine, id: str) -> None:
    """Its log obeys the rules of every log, folds to its state, and decides the same again."""
    log, loaded = await engine.log.events(id), (await engine.log.load([id]))[id]
    plan = load_plan(await engine.catalog.text(loaded.plan_hash))
    assert audit_log(id, log) + audit_decisions(id, log, plan, loaded.state.workload) == []
    assert fold(id, log, loaded.state.workload).snapshot() == loaded.state.snapshot()
    assert diff(id, log, plan, plan, loaded.state.workload).empty


async def test_what_is_set_is_one_event_and_a_row_for_each(engine: Engine, id: str) -> None:
    by = {"kind": "user", "id": "ann"}
    set_ = engine.orchestrator.controls.set_variables
    assert await set_(id, {"x": 1, "y": [2]}, type="computed", source_step="s", ttl=60, id="k", by=by)
    event = (await engine.log.events(id))[-1]
    assert (event.type, event.payload) == (
        e.VARIABLES_SET,
        {
            "variables": {"x": 1, "y": [2]},
            "type": "computed",
            "source_step": "s",
            "expires_at": event.at + 60_000,
            "id": "k",
            "by": by,
        },
    )
    assert engine.memory.executions[id].variables["x"] == {
        "name": "x",
        "type": "computed",
        "value": 1,
        "source_step": "s",
        "created_at": event.at,
        "expires_at": event.at + 60_000,
    }
    assert not await set_(id, {"x": 5}, id="k")
    assert rows(engine, id) == {"x": 1, "y": [2]}


async def test_rows_follow_what_steps_set_what_is_deleted_and_what_expires(engine: Engine, id: str) -> None:
    await engine.orchestrator.controls.set_variables(id, {"x": 1, "gone": 2})
    await engine.orchestrator.controls.set_variables(id, {"short": 3}, ttl=5)
    assert await engine.orchestrator.controls.delete_variables(id, ["gone", "none"]) == ["gone"]
    await run_step(engine, data=7)
    assert rows(engine, id) == await values(engine, id) == {"x": 1, "short": 3, "a": 7}
    engine.seconds += 6
    command = await run_step(engine)
    assert command.scope["vars"] == {"x": 1}
    assert rows(engine, id) == {"x": 1, "a": 7}, "one that has expired has a row, though a later event was written"
    await run_step(engine)
    assert (engine.status(id), rows(engine, id)) == ("COMPLETED", {"x": 1, "a": 7})
    await check(engine, id)


async def test_all_that_there_are_are_deleted(engine: Engine, id: str) -> None:
    assert await engine.orchestrator.controls.delete_variables(id) == []
    await engine.orchestrator.controls.set_variables(id, {"x": 1, "y": 2})
    await engine.orchestrator.controls.set_variables(id, {"short": 3}, ttl=1)
    engine.seconds += 1
    assert await engine.orchestrator.controls.delete_variables(id) == ["x", "y"], "one that had expired was counted"
    assert rows(engine, id) == {}
    head = len(await engine.log.events(id))
    assert await engine.orchestrator.controls.delete_variables(id, ["x"]) == []
    assert len(await engine.log.events(id)) == head, "an event says that nothing was deleted"


async def test_during_a_pause_nothing_expires(engine: Engine, id: str) -> None:
    await engine.orchestrator.controls.set_variables(id, {"x": 1}, ttl=60)
    engine.seconds += 50
    await engine.orchestrator.controls.pause(id)
    engine.seconds += 1000
    await engine.orchestrator.controls.set_variables(id, {"y": 1})
    assert rows(engine, id) == {"x": 1, "y": 1}
    await engine.orchestrator.controls.resume(id)
    expires_at = engine.memory.executions[id].variables["x"]["expires_at"]
    assert expires_at == (engine.seconds + 10) * 1000
    engine.seconds += 9
    await run_step(engine)
    assert "x" in rows(engine, id)
    engine.seconds += 1
    await run_step(engine)
    assert rows(engine, id).keys() == {"y", "a"}
    await check(engine, id)


async def test_of_what_has_ended_they_cannot_be_changed(engine: Engine, id: str) -> None:
    await engine.orchestrator.controls.cancel(id, "enough")
    with pytest.raises(Conflict, match="has ended"):
        await engine.orchestrator.controls.set_variables(id, {"x": 1})
    with pytest.raises(Conflict, match="has ended"):
        await engine.orchestrator.controls.delete_variables(id, ["x"])
    with pytest.raises(NotFound):
        await engine.orchestrator.controls.set_variables("77", {"x": 1})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "0 variables to set"),
        ({"a.b": 1}, r"'a\.b' cannot be the name of a variable"),
        ({"x": float("inf")}, "cannot be stored"),
        ({"x": "x" * 65_536}, "'x' has 65538 bytes of JSON; the limit is 65536: store the value elsewhere"),
    ],
)
async def test_what_cannot_be_kept_is_refused(engine: Engine, id: str, variables: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        await engine.orchestrator.controls.set_variables(id, variables)
    assert e.VARIABLES_SET not in engine.types(id)


async def test_a_restart_goes_on_with_them(engine: Engine, id: str) -> None:
    await engine.orchestrator.controls.set_variables(id, {"x": 1}, ttl=3600)
    await engine.orchestrator.controls.set_variables(id, {"short": 1}, ttl=1)
    await run_step(engine, data=7)
    (command,) = await engine.claim()
    await engine.report(done(command, status="error", error={"kind": "tool", "code": "boom", "message": "it broke"}))
    engine.seconds += 2
    workload = (await engine.log.load([id]))[id].state.workload
    new = (await engine.orchestrator.restart(id, await engine.log.events(id), workload)).execution_id
    assert new is not None
    assert rows(engine, new) == await values(engine, new) == {"x": 1, "a": 7}
    (goes_on,) = [event for event in await engine.log.events(new) if event.type == e.RESTARTED]
    assert goes_on.payload["variables"].keys() == {"x", "a"}, "one that has expired was taken over"
    assert engine.memory.executions[new].variables["x"] == engine.memory.executions[id].variables["x"]
    assert (await run_step(engine)).scope["vars"] == {"x": 1}
    await check(engine, new)
    assert rows(engine, id)["a"] == 7, "the old one lost its own"


async def test_another_version_that_sets_them_otherwise_differs(engine: Engine, id: str) -> None:
    await run_step(engine, data=1)
    await engine.orchestrator.controls.set_variables(id, {"x": 1})
    log, loaded = await engine.log.events(id), (await engine.log.load([id]))[id]
    plan = load_plan(await engine.catalog.text(loaded.plan_hash))
    other = load_plan((await engine.catalog.text(loaded.plan_hash)).replace("vars.a: ", "vars.x: "))
    found = diff(id, log, plan, other, loaded.state.workload)
    assert any(change.where == "vars.x" and change.now == 1 for change in found.reparameterised["b"])
