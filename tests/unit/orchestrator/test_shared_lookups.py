from __future__ import annotations

import asyncio
import random

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.orchestrator.shared_lookups import SharedLookups


class Source:
    """Versions by path. A query reads the version when it begins, and answers when it is let go."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.queries = 0
        self.let_go = asyncio.Event()

    async def query(self, path: str) -> int:
        self.queries += 1
        found = self.versions.get(path)
        await self.let_go.wait()
        if found is None:
            raise NotFound(f"there is no {path}")
        return found


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_come_while_one_is_under_way_share_the_next() -> None:
    source = Source()
    source.versions["a"] = 1
    lookups = SharedLookups(source.query)
    asked = [asyncio.create_task(lookups.get("a")) for _ in range(200)]
    await turn()
    assert source.queries == 1
    source.let_go.set()
    assert await asyncio.gather(*asked) == [1] * 200
    assert source.queries == 2, "each of them asked for itself"


async def test_nobody_gets_an_answer_that_is_older_than_his_question() -> None:
    source = Source()
    source.versions["a"] = 1
    lookups = SharedLookups(source.query)
    before = asyncio.create_task(lookups.get("a"))
    await turn()
    source.versions["a"] = 2
    after = asyncio.create_task(lookups.get("a"))
    await turn()
    source.let_go.set()
    assert (await before, await after) == (1, 2), "a version that its caller has registered was not found"


async def test_paths_do_not_wait_for_each_other() -> None:
    source = Source()
    source.versions.update(a=1, b=2)
    lookups = SharedLookups(source.query)
    asked = [asyncio.create_task(lookups.get(path)) for path in ("a", "b")]
    await turn()
    assert source.queries == 2
    source.let_go.set()
    assert await asyncio.gather(*asked) == [1, 2]


async def test_all_who_wait_for_what_is_not_there_get_the_error() -> None:
    source = Source()
    lookups = SharedLookups(source.query)
    asked = [asyncio.create_task(lookups.get("a")) for _ in range(3)]
    await turn()
    source.let_go.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [NotFound] * 3
    source.versions["a"] = 1
    assert await lookups.get("a") == 1, "an error is kept"


@pytest.mark.parametrize("who", [0, 1])
async def test_who_is_cancelled_holds_up_nobody(who: int) -> None:
    """The first has a query under way, the second waits for the next."""
    source = Source()
    source.versions["a"] = 1
    lookups = SharedLookups(source.query)
    asked = [asyncio.create_task(lookups.get("a")) for _ in range(3)]
    await turn()
    asked[who].cancel()
    await turn()
    source.let_go.set()
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert [answer for answer in answers if not isinstance(answer, BaseException)] == [1, 1]


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_the_order_each_answer_is_as_new_as_its_question(seed: int) -> None:
    chance = random.Random(seed)
    version = 0

    async def query(key: str) -> int:
        found = version
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < 0.1:
            raise NotFound(f"there is no {key}")
        return found

    lookups = SharedLookups(query)

    async def ask() -> None:
        asked_at = version
        try:
            found = await lookups.get("a")
        except NotFound:
            return
        assert found >= asked_at, "the answer is older than the question"

    asked = []
    for _ in range(200):
        version += chance.random() < 0.5
        task = asyncio.create_task(ask())
        asked.append(task)
        if chance.random() < 0.1:
            await asyncio.sleep(0)
            task.cancel()
        if chance.random() < 0.6:
            await asyncio.sleep(0)
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
    assert [answer for answer in answers if isinstance(answer, AssertionError)] == []
