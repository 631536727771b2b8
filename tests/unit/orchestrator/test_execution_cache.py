from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.unit.loaded import loaded
from tests.unit.orchestrator.conftest import InterceptedEventStore

from noetl_serverless.engine.state import State
from noetl_serverless.limits import WORKLOAD_BYTES
from noetl_serverless.orchestrator import execution_cache as kept_cases
from noetl_serverless.orchestrator.execution_cache import ExecutionCache, estimated_bytes
from noetl_serverless.records import LoadedExecution


def case(id: str, workload: dict[str, Any] | None = None, ctx: dict[str, Any] | None = None) -> LoadedExecution:
    state = State(id, status="running", workload=workload or {}, ctx=ctx or {})
    return loaded(state, head=1)


class SlowLog(InterceptedEventStore):
    """Whatever happens while it loads."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.meanwhile: Callable[[], None] = lambda: None
        self.loading = self._load

    async def _load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        self.meanwhile()
        return {id: case(id) for id in ids}


async def test_a_case_that_another_task_forgets_while_others_are_loaded_is_given_all_the_same() -> None:
    log = SlowLog()
    cases = ExecutionCache(log)
    cases.put(case("1"))
    log.meanwhile = lambda: cases.evict("1")
    assert sorted(await cases.get(["1", "2"])) == ["1", "2"], "a claimed command without its case is lost for its lease"


async def test_a_fresh_case_is_never_the_one_at_hand() -> None:
    log = SlowLog()
    cases = ExecutionCache(log)
    kept = case("1")
    cases.put(kept)
    assert (await cases.get(["1"]))["1"] is kept
    assert (await cases.get(["1"], fresh=True))["1"] is not kept


async def test_one_task_at_a_time_is_alone_with_an_execution() -> None:
    log = SlowLog()
    cases = ExecutionCache(log)
    order: list[str] = []

    async def work(name: str, ids: list[str]) -> None:
        async with cases.exclusive(ids):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    # in whichever order they are named
    await asyncio.wait_for(asyncio.gather(work("a", ["1", "2", "1"]), work("b", ["2", "1"])), 5)
    assert order == ["a in", "a out", "b in", "b out"]
    order.clear()
    await asyncio.gather(work("a", ["1"]), work("b", ["2"]))
    assert order[:2] == ["a in", "b in"], "others are not kept waiting"


async def test_what_has_ended_is_not_kept() -> None:
    log = SlowLog()
    cases = ExecutionCache(log)
    kept = case("1")
    cases.put(kept)
    over = case("1")
    over.state.status = "completed"
    cases.put(over)
    loaded = (await cases.get(["1"]))["1"]
    assert loaded is not kept and loaded is not over


async def test_what_is_no_longer_stored_is_not_at_hand_either() -> None:
    log = SlowLog()
    cases = ExecutionCache(log)
    cases.put(case("1"))

    async def nothing(ids: Sequence[str]) -> dict[str, LoadedExecution]:
        return {}

    log.loading = nothing
    assert await cases.get(["1"], fresh=True) == {}
    assert await cases.get(["1"]) == {}


async def at_hand(cases: ExecutionCache, *ids: str) -> list[str]:
    """Those of `ids` that are not loaded."""
    loaded = SlowLog()
    cases._event_store = loaded
    kept = dict(cases._cached)
    found = await cases.get(ids)
    return [id for id in ids if kept.get(id) is found[id]]


async def test_executions_are_at_hand_by_the_memory_that_they_take(monkeypatch: Any) -> None:
    monkeypatch.setattr(kept_cases, "MAX_BYTES", 3 * estimated_bytes(case("1", {"a": "x" * 1000})))
    log = SlowLog()
    cases = ExecutionCache(log)
    for n in range(5):
        cases.put(case(str(n), {"a": "x" * 1000}))
    assert await at_hand(cases, "2", "3", "4") == ["2", "3", "4"]
    assert await at_hand(cases, "0", "1") == [], "what is large was kept by its number"
    cases.evict("4")
    cases.put(case("5", {"a": "x" * 1000}))
    assert await at_hand(cases, "5") == ["5"], "what is forgotten weighs nothing"


async def test_what_is_too_heavy_by_itself_drives_out_nothing() -> None:
    log = SlowLog()
    cases = ExecutionCache(log)
    cases.put(case("1"))
    cases.put(case("2", {"a": [{}] * (WORKLOAD_BYTES // 3)}))
    assert await at_hand(cases, "1") == ["1"]
    assert await at_hand(cases, "2") == []


async def test_what_grows_while_it_is_at_hand_is_weighed_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(kept_cases, "MAX_BYTES", 10_000)
    log = SlowLog()
    cases = ExecutionCache(log)
    cases.put(case("1"))
    cases.put(case("1", ctx={"a": "x" * 10_000}))
    assert await at_hand(cases, "1") == []


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "1.5", '"ab"', '{"a": 1}', "[0]", '{"a": {"b": [1]}}', '"' + "\u00e4" * 500 + "\U0001f600" + '"'],
)
def test_the_weight_is_about_the_memory_that_is_taken(text: str) -> None:
    whole = '{"a": [' + ",".join([text] * 2000) + "]}"
    tracemalloc.start()
    try:
        workload = json.loads(whole)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken * 0.8 < estimated_bytes(case("1", workload)) < taken * 8


def test_what_is_no_json_is_too_heavy() -> None:
    assert estimated_bytes(case("1", {"a": 10**30})) > kept_cases.MAX_BYTES
