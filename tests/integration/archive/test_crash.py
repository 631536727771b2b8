"""Killed at each point: nothing is lost, nothing is there twice, and the next attempt completes it."""

from __future__ import annotations

import asyncio
from typing import Any

import duckdb
import pytest
from tests.integration.archive.conftest import LATER, ArchiveHarness, DyingStore, Killed

from noetl_serverless.errors import Unavailable
from noetl_serverless.ports import StoredObject
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store.archives import Archives


async def logs(harness: ArchiveHarness, ids: list[str]) -> dict[str, Any]:
    return {id: (await harness.user.get(f"/api/executions/{id}/events")).json for id in ids}


def rows_of_files(harness: ArchiveHarness) -> list[tuple[int, int]]:
    if not list(harness.root.glob("archive/events/**/*.parquet")):
        return []
    sql = f"SELECT execution_id, seq FROM read_parquet('{harness.root}/archive/events/**/*.parquet') ORDER BY ALL"
    return duckdb.connect().sql(sql).fetchall()


async def whole(harness: ArchiveHarness, before: dict[str, Any]) -> None:
    """Every execution reads as it did, is in the files once, and nowhere else."""
    assert await logs(harness, list(before)) == before
    assert rows_of_files(harness) == sorted(
        (int(id), event["seq"]) for id, events in before.items() for event in events
    )
    for table in ("execution", "event", "command", "stage", "frame", "result_ref", "inbox"):
        assert await harness.count(table) == 0, table
    assert await harness.count("archive", "status = 'registered' AND purged_at IS NOT NULL") == 1
    assert len([key for key in harness.files() if key.startswith("archive/")]) == 4
    assert list(harness.scratch.iterdir()) == []


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [False, True], ids=["before the put", "after the put"])
async def test_killed_while_the_files_are_put(harness: ArchiveHarness, at: int, after: bool) -> None:
    before = await logs(harness, [await harness.run(), await harness.run("demo/two")])
    await harness.plan()
    with pytest.raises(Killed):
        await harness.archivist(store=DyingStore(harness.root.as_uri(), at=at, after=after)).run(600)
    assert await logs(harness, list(before)) == before, "it is still in the database"
    assert (await harness.archivist().run(600)).registered == 0, "the lease of the dead is not over"
    await harness.forget_leases()
    assert (await harness.archivist().run(600)).registered == 1
    await whole(harness, before)


@pytest.mark.parametrize(
    ("call", "answered"),
    [("/claim", True), ("/executions", False), ("/events", True), ("/register", False), ("/register", True)],
)
async def test_killed_between_two_calls(harness: ArchiveHarness, call: str, answered: bool) -> None:
    before = await logs(harness, [await harness.run(), await harness.run("demo/two")])
    await harness.plan()
    with pytest.raises(Killed):
        await harness.archivist(call, answered=answered).run(600)
    assert await logs(harness, list(before)) == before
    await harness.forget_leases()
    await harness.archivist().run(600)
    await whole(harness, before)


async def test_killed_between_registration_and_purge(harness: ArchiveHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await logs(harness, [await harness.run(), await harness.run("demo/two")])
    await harness.plan()

    async def dies(self: Archives, patience: float = 0.0) -> int | None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(Archives, "purge", dies)
        await harness.archivist().run(600)
    assert (await harness.count("execution"), await harness.count("event") > 0) == (0, True)
    assert await logs(harness, list(before)) == before
    assert (await harness.user.get("/api/replay/validate", execution_id=next(iter(before)))).json["valid"] is True
    assert (await harness.do_tasks(harness.retention(), "purge"))["events_purged"] > 0
    await whole(harness, before)


async def test_what_is_left_of_another_try_is_replaced(harness: ArchiveHarness) -> None:
    """As by another version of the library, which writes other bytes: on stores where a key is written once, too."""

    class WriteOnce(FsspecResultStore):
        async def put(self, key: str, data: bytes) -> StoredObject:
            if key in [name async for name in self.list(key)]:
                return StoredObject("disk", key, len(data))
            return await super().put(key, data)

    before = await logs(harness, [await harness.run()])
    await harness.plan()
    store = WriteOnce(harness.root.as_uri())
    with pytest.raises(Killed):
        await harness.archivist("/register", store=store).run(600)
    for path in harness.root.glob("archive/**/*.parquet"):
        path.write_bytes(b"other bytes")
    await harness.forget_leases()
    assert (await harness.archivist(store=store).run(600)).registered == 1
    await whole(harness, before)


async def test_damage_on_the_way_to_the_store_is_noticed(harness: ArchiveHarness) -> None:
    class Flipping(FsspecResultStore):
        async def put(self, key: str, data: bytes) -> StoredObject:
            return await super().put(key, data[:-5] + b"\0" + data[-4:])

    before = await logs(harness, [await harness.run()])
    planned = (await harness.plan())["planned"]
    summary = await harness.archivist(store=Flipping(harness.root.as_uri())).run(600)
    assert (summary.registered, summary.failed) == (0, 1)
    [entry] = (await harness.user.get("/api/archives", ids=planned[0])).json["items"]
    assert entry["status"] == "planned" and "other bytes" in entry["error"]
    assert await harness.count("execution") == 1
    await harness.forget_leases()
    await harness.archivist().run(600)
    await whole(harness, before)


async def test_files_that_lack_an_event_are_not_registered(harness: ArchiveHarness) -> None:
    id = await harness.run("demo/two")
    await harness.plan()
    archives = Archives(harness.database)
    work = await archives.claim("w", 60)
    assert work is not None
    files = {"log": {"key": "k", "bytes": 1, "sha256": "", "rows": 1}}
    short = [{"execution_id": int(id), "events": work.events - 1, "blocks": [[0, 0, 1]]}]
    assert await archives.register(work.archive_id, work.attempt, files, short) == "incomplete"
    assert await archives.register(work.archive_id, work.attempt, files, []) == "incomplete"
    assert await harness.count("execution") == 1


async def test_who_lost_the_lease_cannot_register(harness: ArchiveHarness) -> None:
    id = await harness.run("demo/two")
    await harness.plan()
    archives = Archives(harness.database)
    first = await archives.claim("w-1", 60)
    await harness.forget_leases()
    second = await archives.claim("w-2", 60)
    assert first is not None and second is not None and second.attempt == first.attempt + 1
    found = [{"execution_id": int(id), "events": first.events, "blocks": [[0, 0, 1]]}]
    assert await archives.extend(first.archive_id, first.attempt, 60) is False
    assert await archives.register(first.archive_id, first.attempt, {}, found) == "stale"
    assert await archives.register(second.archive_id, second.attempt, {}, found) == "registered"
    assert await archives.register(second.archive_id, second.attempt, {}, found) == "registered", "an answer got lost"


async def test_many_planners_and_archivists_at_once(harness: ArchiveHarness) -> None:
    ids = [await harness.run("demo/two") for _ in range(12)]
    before = await logs(harness, ids)
    archives = Archives(harness.database)
    planned = await asyncio.gather(*(archives.plan("archive", LATER, max_executions=3) for _ in range(8)))
    batches = [id for id in planned if id is not None]
    assert [archive.executions for archive in await archives.by_ids(batches)] == [3, 3, 3, 3]
    done = await asyncio.gather(*(harness.archivist().run(600) for _ in range(3)))
    assert sum(summary.registered for summary in done) == 4
    assert await logs(harness, ids) == before
    assert rows_of_files(harness) == sorted((int(id), event["seq"]) for id in ids for event in before[id])
