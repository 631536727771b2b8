"""An idempotency key is its principal's: over the log in memory, and over PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.quarantined import CHILD

from noetl_serverless.errors import Conflict
from noetl_serverless.testing.event_store import MemoryEventStore

ALICE, BOB = {"kind": "user", "name": "alice"}, {"kind": "user", "name": "bob"}


@pytest.fixture
def engine(either: Engine) -> Engine:
    either.catalog.add("t/t", CHILD)
    return either


async def start(engine: Engine, principal: Any, n: int = 1) -> str:
    return await engine.start(payload={"n": n}, idempotency_key="k", principal=principal)


async def forget(engine: Engine, id: str) -> None:
    if isinstance(engine.log, MemoryEventStore):
        del engine.log.executions[id]
    else:
        await engine.postgres._database.run("DELETE FROM noetl.execution WHERE execution_id = :id", id=int(id))


async def test_two_principals_with_the_same_key_each_start_their_own(engine: Engine) -> None:
    hers, his = await start(engine, ALICE), await start(engine, BOB)
    assert hers != his
    assert (await start(engine, ALICE), await start(engine, BOB)) == (hers, his)
    assert await start(engine, {"kind": "user", "name": "carol"}) not in (hers, his)


async def test_who_uses_a_key_with_another_request_is_refused_for_the_own_alone(engine: Engine) -> None:
    hers = await start(engine, ALICE)
    his = await start(engine, BOB, 2)
    for principal, own, n in ((ALICE, hers, 2), (BOB, his, 1)):
        with pytest.raises(Conflict, match=own):
            await start(engine, principal, n)


async def test_a_release_that_knows_no_principals_finds_what_the_first_has_started(engine: Engine) -> None:
    hers = await start(engine, ALICE)
    await start(engine, BOB)
    assert (await engine.log.starts_by_key(["k"]))["k"].execution_id == hers
    assert await start(engine, None) == hers


async def test_what_such_a_release_has_started_is_found_by_who_asks_again(engine: Engine) -> None:
    before = await start(engine, None)
    assert await start(engine, ALICE) == before


async def test_who_came_second_keeps_the_own_when_the_first_is_gone(engine: Engine) -> None:
    hers, his = await start(engine, ALICE), await start(engine, BOB)
    await forget(engine, hers)
    assert await start(engine, BOB) == his


async def test_those_who_start_at_once_share_nothing_and_start_once(engine: Engine) -> None:
    instances = [engine.another() for _ in range(8)]

    async def by(number: int) -> str:
        who = (ALICE, BOB)[number % 2]
        started = await instances[number].start(path="t/t", payload={}, idempotency_key="k", principal=who)
        return started.execution_id

    ids = await asyncio.gather(*(by(number) for number in range(8)))
    assert [len(set(ids[who::2])) for who in (0, 1)] == [1, 1]
    assert ids[0] != ids[1]
