"""What a claim hands out."""

from __future__ import annotations

from collections.abc import Sequence

from tests.unit.orchestrator.conftest import Engine

from noetl_serverless.records import LoadedExecution


async def test_a_command_whose_execution_is_gone_keeps_no_other_from_its_worker(engine: Engine) -> None:
    engine.catalog.add("t/t", "- {step: a, tool: {kind: noop}}\n")
    gone, left = [await engine.start() for _ in range(2)]
    engine.orchestrator = engine.another()
    load = engine.memory.loading

    async def load_what_is_left(ids: Sequence[str]) -> dict[str, LoadedExecution]:
        return {id: case for id, case in (await load(ids)).items() if id != gone}

    engine.memory.loading = load_what_is_left
    assert [command.execution_id for command in await engine.claim()] == [left]
