"""Executions that a process has at hand."""

from __future__ import annotations

from typing import Any

from tests.unit.orchestrator.conftest import Engine

from noetl_serverless.orchestrator import execution_cache

CHAIN = "- {step: a, tool: {kind: noop}}\n"


async def test_only_so_many_executions_are_at_hand_those_used_last(engine: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr(execution_cache, "MAX_EXECUTIONS", 2)
    engine.catalog.add("t/t", CHAIN)
    first, second, third = [await engine.start() for _ in range(3)]
    kept = execution_cache.ExecutionCache(engine.log)
    loaded: list[str] = []
    load = engine.log.load

    async def note(ids: Any) -> Any:
        loaded.extend(ids)
        return await load(ids)

    monkeypatch.setattr(engine.log, "load", note)
    for id in (first, second):
        await kept.get([id])
    kept.put((await kept.get([first]))[first])
    assert loaded == [first, second], "two have their place"
    await kept.get([third])
    await kept.get([first])
    assert loaded == [first, second, third]
    await kept.get([second])
    assert loaded == [first, second, third, second], "the one that was used the longest ago makes room"
