"""Writing batches for the archive: how long, what is told of each, and when the lease is prolonged."""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.archive.messages import Batch, ClaimedBatch, Extended, Failed, Registered
from noetl_serverless.archive.write import WrittenBatch
from noetl_serverless.errors import InvalidRequest, Unavailable
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.worker import archive
from noetl_serverless.worker.archive import (
    LEASE_SECONDS,
    ArchiveSummary,
    ArchiveWriter,
    LeaseLost,
    Pages,
)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(archive, "time", clock)
    return clock


def batch(number: int) -> Batch:
    return Batch(
        archive_id=str(number),
        attempt=3,
        month=date(2026, 1, 1),
        first_id="1",
        last_id="9",
        executions=2,
        events=5,
    )


class Client:
    """Has so many batches, and answers `status` to what is registered."""

    def __init__(self, batches: int, status: str = "registered", held: bool = True) -> None:
        self.left = [batch(number) for number in range(1, batches + 1)]
        self.status = status
        self.held = held
        self.requests: list[tuple[str, str, Any]] = []

    async def call(self, method: str, path: str, answer: Any, request: Any = None, *, timeout: float = 30.0) -> Any:
        self.requests.append((method, path, request))
        if answer is ClaimedBatch:
            return ClaimedBatch(batch=self.left.pop(0) if self.left else None)
        if answer is Registered:
            assert timeout == archive.REGISTRATION_SECONDS
            return Registered(status=self.status)
        if answer is Extended:
            return Extended(held=self.held)
        if answer is Failed:
            return Failed.model_construct()
        return answer(rows=[])

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `write_batch` does: raise what stands under "error", or take so many "seconds"."""
    state: dict[str, Any] = {"batches": []}

    async def write_batch(batch: Batch, source: Any, store: Any, scratch: Path) -> WrittenBatch:
        state["batches"].append(batch.archive_id)
        if "error" in state:
            raise state["error"]
        if "seconds" in state:
            archive.time.now += state["seconds"]  # type: ignore[attr-defined]
        return WrittenBatch()

    monkeypatch.setattr(archive, "write_batch", write_batch)
    return state


def archivist(client: Client, tmp_path: Path) -> ArchiveWriter:
    store = FsspecResultStore(tmp_path.as_uri())
    return ArchiveWriter(client, lambda: store, tmp_path, "w-1")  # type: ignore[arg-type]


async def test_batches_are_written_until_none_waits(written: Any, clock: Clock, tmp_path: Path) -> None:
    client = Client(2)
    assert await archivist(client, tmp_path).run(600) == ArchiveSummary(registered=2, failed=0, more=False)
    assert written["batches"] == ["1", "2"]
    claim = "/api/archives/claim"
    assert client.paths() == [claim, "/api/archives/1/register", claim, "/api/archives/2/register", claim]
    requests = client.requests[0][2]
    assert (client.requests[0][0], requests.worker_id, requests.lease) == ("POST", "w-1", LEASE_SECONDS)
    assert client.requests[1][2].attempt == 3


async def test_none_is_begun_when_there_is_little_time_left(written: Any, clock: Clock, tmp_path: Path) -> None:
    client = Client(5)
    assert await archivist(client, tmp_path).run(60.0) == ArchiveSummary(more=True)
    assert client.requests == []
    written["seconds"] = 50
    assert await archivist(client, tmp_path).run(60.5) == ArchiveSummary(registered=1, more=True)
    assert await archivist(client, tmp_path).run(160.0) == ArchiveSummary(registered=2, more=True)


async def test_another_run_meanwhile_gives_up_and_the_next_does_not(written: Any, clock: Clock, tmp_path: Path) -> None:
    client = Client(1)
    both = archivist(client, tmp_path)
    inner: list[ArchiveSummary] = []
    ask = client.call

    async def again(*given: Any, **more: Any) -> Any:
        if not inner:
            inner.append(await both.run(600))
        return await ask(*given, **more)

    client.call = again  # type: ignore[method-assign]
    assert (await both.run(600)).registered == 1
    assert inner == [ArchiveSummary()]
    client.left = [batch(7)]
    assert (await both.run(600)).registered == 1


async def test_a_worker_that_cannot_write_claims_nothing(
    written: Any, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    client = Client(1)
    assert await archivist(client, tmp_path).run(600) == ArchiveSummary()
    assert client.requests == []
    assert "pyarrow is not installed" in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no room"), "ValueError: no room"),
        (InvalidRequest("the store says no"), "the store says no"),
        (ValueError("x" * 9000), ("ValueError: " + "x" * 9000)[:2000]),
    ],
)
async def test_a_batch_that_cannot_be_written_says_why(
    written: Any, clock: Clock, tmp_path: Path, error: Exception, reason: str
) -> None:
    client = Client(1)
    written["error"] = error
    assert await archivist(client, tmp_path).run(600) == ArchiveSummary(failed=1)
    method, path, request = client.requests[1]
    assert (method, path, request.attempt, request.error) == ("POST", "/api/archives/1/fail", 3, reason)


async def test_files_that_lack_something_are_a_failure_too(written: Any, clock: Clock, tmp_path: Path) -> None:
    client = Client(1, status="incomplete")
    assert await archivist(client, tmp_path).run(600) == ArchiveSummary(failed=1)
    assert client.requests[2][2].error == "the files do not hold every event of the batch"


@pytest.mark.parametrize("error", [None, LeaseLost(), Unavailable("gone")])
async def test_a_batch_that_is_another_s_is_left_without_a_word(
    written: Any, clock: Clock, tmp_path: Path, error: Any
) -> None:
    client = Client(1, status="stale")
    if error is not None:
        written["error"] = error
    assert await archivist(client, tmp_path).run(600) == ArchiveSummary(failed=1)
    assert "/api/archives/1/fail" not in client.paths()


async def test_where_the_control_plane_is_away_the_archive_waits(clock: Clock, tmp_path: Path) -> None:
    client = Client(1)

    async def away(*given: Any, **more: Any) -> Any:
        raise Unavailable("gone")

    client.call = away  # type: ignore[method-assign]
    both = archivist(client, tmp_path)
    assert await both.run(600) == ArchiveSummary()
    assert await both.run(600) == ArchiveSummary(), "it is not busy for ever"


async def test_the_lease_is_prolonged_while_pages_are_read(clock: Clock) -> None:
    client = Client(0)
    pages = Pages(client, batch(4))  # type: ignore[arg-type]
    await pages.executions("4", "a&b")
    await pages.events("4", "7", 5)
    clock.now += LEASE_SECONDS / 4 - 1
    await pages.events("4", "7", 6)
    clock.now += 1
    await pages.events("4", "7", 7)
    await pages.events("4", "7", 8)
    assert client.paths() == [
        "/api/archives/4/executions?after=a%26b",
        "/api/archives/4/events?after=7&seq=5",
        "/api/archives/4/events?after=7&seq=6",
        "/api/archives/4/extend",
        "/api/archives/4/events?after=7&seq=7",
        "/api/archives/4/events?after=7&seq=8",
    ]
    assert [method for method, _, _ in client.requests] == ["GET", "GET", "GET", "POST", "GET", "GET"]
    assert (client.requests[3][2].attempt, client.requests[3][2].lease) == (3, LEASE_SECONDS)
    client.held = False
    clock.now += LEASE_SECONDS
    with pytest.raises(LeaseLost):
        await pages.events("4", "7", 9)


async def test_a_batch_without_an_object_store_fails_with_what_to_do(
    written: Any, clock: Clock, tmp_path: Path
) -> None:
    client, postgres = Client(1), FsspecResultStore(tmp_path.as_uri())
    writer = ArchiveWriter(client, ResultStores(postgres=postgres).objects, tmp_path, "w-1")  # type: ignore[arg-type]
    assert (await writer.run(600)).failed == 1
    assert "set NOETL_RESULT_URL" in client.requests[1][2].error
