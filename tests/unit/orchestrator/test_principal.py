"""Who or what started an execution is written down with it, and its children keep it."""

from __future__ import annotations

from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.engine import events as e

PARENT = "- {step: call, tool: {kind: playbook, path: t/child}}\n"
CHILD = "- {step: only, tool: {kind: noop}}\n"
ALICE = {"kind": "user", "name": "alice"}


async def test_children_and_what_is_tried_again_keep_the_principal_of_the_start(engine: Engine) -> None:
    engine.catalog.add("t/t", PARENT)
    engine.catalog.add("t/child", CHILD)
    id = await engine.start(principal=ALICE)
    (call,) = await engine.claim()
    parked = done(call, status="parked", child={"path": "t/child"}, resume={})
    await engine.report(parked, by=engine.another())
    (child,) = [event.payload["execution_id"] for event in await engine.log.events(id) if event.type == e.CHILD_STARTED]
    cases = await engine.log.load([id, child])
    assert {case.principal["name"] for case in cases.values() if case.principal} == {"alice"}
    for execution in (id, child):
        assert (await engine.log.events(execution))[0].payload["principal"] == ALICE, "the log does not tell"


async def test_a_start_that_names_nobody_has_no_principal(engine: Engine) -> None:
    engine.catalog.add("t/t", CHILD)
    id = await engine.start()
    assert (await engine.log.load([id]))[id].principal is None
    assert "principal" not in (await engine.log.events(id))[0].payload
