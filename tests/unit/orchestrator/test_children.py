"""Which version of a playbook a step starts is fixed when it is started."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.orchestrator import children

from .conftest import Engine, outcome

CALL = "- {step: call, tool: {kind: playbook, path: t/child}}\n"
ONLY = "- {step: only, tool: {kind: noop}}\n"


async def parked(engine: Engine, **child: Any) -> tuple[str, list[Any]]:
    engine.catalog.add("t/t", CALL)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(outcome(call, status="parked", child={"path": "t/child", **child}, meta={"attempt": 2}))
    return id, await engine.log.events(id)


async def test_the_version_that_was_found_is_written_down(engine: Engine) -> None:
    engine.catalog.add("t/child", ONLY)
    id, events = await parked(engine, payload={"x": 1}, return_step="only")
    (fact,) = [event for event in events if event.type == e.CALL_PARKED]
    entry = engine.catalog.found["t/child"]
    found = {"catalog_id": "1", "version": 1, "plan_hash": entry.hash}
    assert fact.payload["child"] == {"path": "t/child", "payload": {"x": 1}, "return_step": "only", **found}
    (fact,) = [event for event in events if event.type == e.CHILD_STARTED]
    (child,) = await engine.log.running_descendants(id)
    state = await engine.orchestrator.state(child)
    assert (state.workload, state.depth) == ({"x": 1}, 1)


@pytest.mark.parametrize("version", [2, 7])
async def test_a_version_that_there_is_not_is_an_error_of_the_step(engine: Engine, version: int) -> None:
    engine.catalog.add("t/child", ONLY)
    _, events = await parked(engine, version=version)
    (fact,) = [event for event in events if event.type == e.CALL_ERROR]
    assert (fact.step, fact.generation, fact.command_id) == ("call", 1, "call#1")
    assert fact.payload["meta"]["attempt"] == 2
    assert fact.payload["error"] == {
        "kind": "playbook",
        "code": "child.not_found",
        "message": f"the catalog has no t/child version {version}",
        "retryable": False,
    }


@pytest.mark.parametrize(("deepest", "code"), [(0, "child.too_deep"), (1, None)])
async def test_playbooks_start_each_other_so_many_levels_deep(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, deepest: int, code: str | None
) -> None:
    monkeypatch.setattr(children, "CHILD_DEPTH", deepest)
    engine.catalog.add("t/child", ONLY)
    id, _ = await parked(engine)
    state = await engine.orchestrator.state(id)
    assert (state.error or {}).get("code") == code


async def test_a_playbook_that_cannot_be_run_is_an_error_of_the_step(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def text(hash: str) -> str:
        return child if hash == entry.hash else await kept(hash)

    engine.catalog.add("t/child", ONLY)
    entry, kept = engine.catalog.found["t/child"], engine.catalog.text
    child = entry.content.replace("noop", "{{ nothing")
    monkeypatch.setattr(engine.catalog, "text", text)
    id, _ = await parked(engine)
    error = (await engine.orchestrator.state(id)).error or {}
    assert (error.get("code"), error.get("step")) == ("child.invalid", "call")
    assert error["message"].startswith("playbook t/child cannot be run: ")
