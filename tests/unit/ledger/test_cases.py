from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from noetl_serverless.engine.state import State
from noetl_serverless.ledger.cases import Cases
from noetl_serverless.store.case import Case


def case(id: str) -> Case:
    return Case(id, "1", "t/t", 1, "h", None, 0, 1, 1, State(id, status="running"))


class SlowLog:
    """Whatever happens while it loads."""

    def __init__(self) -> None:
        self.meanwhile: Any = lambda: None

    async def load(self, ids: Sequence[str]) -> dict[str, Case]:
        self.meanwhile()
        return {id: case(id) for id in ids}


async def test_a_case_that_another_task_forgets_while_others_are_loaded_is_given_all_the_same() -> None:
    log: Any = SlowLog()
    cases = Cases(log)
    cases.keep(case("1"))
    log.meanwhile = lambda: cases.forget("1")
    assert sorted(await cases.get(["1", "2"])) == ["1", "2"], "a claimed command without its case is lost for its lease"


async def test_a_fresh_case_is_never_the_one_at_hand() -> None:
    log: Any = SlowLog()
    cases = Cases(log)
    kept = case("1")
    cases.keep(kept)
    assert (await cases.get(["1"]))["1"] is kept
    assert (await cases.get(["1"], fresh=True))["1"] is not kept


async def test_one_task_at_a_time_is_alone_with_an_execution() -> None:
    log: Any = SlowLog()
    cases = Cases(log)
    told: list[str] = []

    async def work(name: str, ids: list[str]) -> None:
        async with cases.alone(ids):
            told.append(f"{name} in")
            await asyncio.sleep(0.01)
            told.append(f"{name} out")

    # in whichever order they are named
    await asyncio.wait_for(asyncio.gather(work("a", ["1", "2", "1"]), work("b", ["2", "1"])), 5)
    assert told == ["a in", "a out", "b in", "b out"]
    told.clear()
    await asyncio.gather(work("a", ["1"]), work("b", ["2"]))
    assert told[:2] == ["a in", "b in"], "others are not kept waiting"


async def test_what_has_ended_is_not_kept() -> None:
    log: Any = SlowLog()
    cases = Cases(log)
    kept = case("1")
    cases.keep(kept)
    over = case("1")
    over.state.status = "completed"
    cases.keep(over)
    loaded = (await cases.get(["1"]))["1"]
    assert loaded is not kept and loaded is not over


async def test_what_is_no_longer_stored_is_not_at_hand_either() -> None:
    log: Any = SlowLog()
    cases = Cases(log)
    cases.keep(case("1"))

    async def nothing(ids: Sequence[str]) -> dict[str, Case]:
        return {}

    log.load = nothing
    assert await cases.get(["1"], fresh=True) == {}
    assert await cases.get(["1"]) == {}
