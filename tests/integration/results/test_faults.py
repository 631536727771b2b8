"""What goes wrong between a store and its server: a large write succeeds, or raises and leaves nothing; a read returns
the right bytes, or raises."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.integration.results.conftest import BUCKET, S3_SERVERS, Servers, s3_environment
from tests.integration.results.faulty import (
    OF_DOWNLOADS,
    OF_UPLOADS,
    Exchange,
    Fault,
    Line,
    Request,
    answer_slowly,
    answer_with_another_part,
    cut_in_the_middle_of_the_answer,
    cut_in_the_middle_of_the_request,
    faulty_line,
    lose_the_answer,
    slow_down,
)

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.aws import results as s3
from noetl_serverless.hosts.cloud import objects, transport
from noetl_serverless.hosts.gcp import results as gcs
from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.ports import ResultStore

ALWAYS = 10_000
# smaller than outside of tests, as small as S3 lets parts be: faults come by requests, not by bytes
PART = 5 * 2**20
LARGE = PART + 5
# how long a store waits for a server that does not answer: enough for one that does
WAIT_SECONDS = 1.5
SERVERS = (*S3_SERVERS, "gcs")
CONTENT = os.urandom(LARGE)


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transport, gcs):
        monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)
    for module in (objects, s3, gcs):
        monkeypatch.setattr(module, "PART_BYTES", PART)
    if "answer_slowly" in request.node.name:
        for module in (s3, gcs):
            monkeypatch.setattr(module, "TIMEOUT_SECONDS", WAIT_SECONDS)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def line(servers: Servers, server: str) -> Iterator[Line]:
    url = servers.gcs.url if server == "gcs" else servers.s3(server).url
    with faulty_line(url) as line:
        yield line


@pytest.fixture
def store(line: Line, server: str, unique: str) -> ResultStore:
    if server == "gcs":
        return object_store(f"gs://{BUCKET}/{unique}", {"STORAGE_EMULATOR_HOST": line.url})
    return object_store(f"s3://{BUCKET}/{unique}", s3_environment(line.url))


@pytest.fixture
async def source() -> AsyncIterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        yield file.fileno()


async def listed(store: ResultStore) -> list[str]:
    return [key async for key in store.list("")]


def _of_upload(request: Request) -> bool:
    return request.is_part_of_upload


def _of_download(request: Request) -> bool:
    return request.is_part_of_download


def _completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.path


@pytest.mark.parametrize("fault", OF_UPLOADS, ids=lambda fault: fault.__name__)
async def test_an_upload_goes_on_after_a_fault(store: ResultStore, line: Line, source: int, fault: Fault) -> None:
    line.break_(_of_upload, fault, 1 if fault is answer_slowly else 2)
    await store.put_file("1/a/k", source, LARGE)
    assert await store.get("1/a/k") == CONTENT
    assert await listed(store) == ["1/a/k"]


@pytest.mark.parametrize("fault", [slow_down, cut_in_the_middle_of_the_request], ids=lambda fault: fault.__name__)
async def test_an_upload_that_does_not_succeed_leaves_nothing(
    store: ResultStore, line: Line, source: int, fault: Fault
) -> None:
    line.break_(_of_upload, fault, ALWAYS)
    with pytest.raises(Unavailable):
        await store.put_file("1/a/k", source, LARGE)
    line.mend()
    assert await listed(store) == []
    with pytest.raises(KeyError):
        await store.get("1/a/k")
    await store.put_file("1/a/k", source, LARGE)
    assert await store.get("1/a/k") == CONTENT


async def test_an_upload_that_is_cancelled_leaves_nothing(store: ResultStore, line: Line, source: int) -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_here(exchange: Exchange) -> None:
        loop.call_soon_threadsafe(reached.set)
        cut_in_the_middle_of_the_request(exchange)

    line.break_(_of_upload, stop_here, ALWAYS)
    task = asyncio.create_task(store.put_file("1/a/k", source, LARGE))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    line.mend()
    assert await listed(store) == []


@pytest.mark.parametrize("server", ["gcs"], indirect=True)
async def test_a_resumable_upload_goes_on_where_it_was_cut(store: ResultStore, line: Line, source: int) -> None:
    line.break_(_of_upload, cut_in_the_middle_of_the_request, 1)
    await store.put_file("1/a/k", source, LARGE)
    assert await store.get("1/a/k") == CONTENT
    half = LARGE // 2 // 2**18 * 2**18
    spans = [it.headers["content-range"] for it in line.requests if it.is_part_of_upload]
    assert spans == [f"bytes {at}/{LARGE}" for at in (f"0-{LARGE - 1}", "*", f"{half}-{LARGE - 1}")]


@pytest.mark.parametrize("server", ["gcs"], indirect=True)
async def test_an_upload_that_ends_too_early_is_taken_back(store: ResultStore, line: Line, source: int) -> None:
    def say_that_it_is_whole(exchange: Exchange) -> None:
        exchange.read()
        content = b'{"size": "5"}'
        exchange.answer(200, [("Content-Length", str(len(content)))], content)

    line.break_(_of_upload, say_that_it_is_whole, 1)
    with pytest.raises(Unavailable, match="5 bytes"):
        await store.put_file("1/a/k", source, LARGE)
    assert await listed(store) == []
    assert [it.method for it in line.requests][-2:] == ["DELETE", "GET"]


@pytest.mark.parametrize("server", S3_SERVERS, indirect=True)
async def test_the_end_of_an_upload_whose_answer_is_lost_is_found_out(
    store: ResultStore, line: Line, source: int
) -> None:
    line.break_(_completion, lose_the_answer, 1)
    await store.put_file("1/a/k", source, LARGE)
    assert await store.get("1/a/k") == CONTENT
    assert await listed(store) == ["1/a/k"]


def _fail_late(exchange: Exchange) -> None:
    """As S3 does when it has begun to answer."""
    exchange.read()
    content = b"<?xml?>\n  <Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"
    exchange.answer(200, [("Content-Length", str(len(content)))], content)


@pytest.mark.parametrize("server", S3_SERVERS, indirect=True)
async def test_a_failure_that_s3_answers_with_200_is_one(store: ResultStore, line: Line, source: int) -> None:
    line.break_(_completion, _fail_late, 1)
    with pytest.raises(Unavailable, match="InternalError"):
        await store.put_file("1/a/k", source, LARGE)
    assert await listed(store) == []


@pytest.mark.parametrize("server", S3_SERVERS, indirect=True)
async def test_an_upload_that_cannot_be_taken_back_is_listed_and_deleted(
    store: ResultStore, line: Line, source: int
) -> None:
    line.break_(_of_upload, slow_down, ALWAYS)
    line.break_(lambda request: request.method == "DELETE", slow_down, ALWAYS)
    await store.put("1/a/j", b"before")
    with pytest.raises(Unavailable):
        await store.put_file("1/a/k", source, LARGE)
    await store.put("1/a/l", b"after")
    line.mend()
    before, unfinished, after = await listed(store)
    assert (before, after) == ("1/a/j", "1/a/l")
    assert unfinished.startswith("1/a/k.") and unfinished.endswith(".upload")
    with pytest.raises(KeyError):
        await store.get("1/a/k")
    for _ in range(2):
        await store.delete(unfinished)
        assert await listed(store) == ["1/a/j", "1/a/l"]


@pytest.mark.parametrize("fault", OF_DOWNLOADS, ids=lambda fault: fault.__name__)
async def test_a_read_goes_on_after_a_fault(store: ResultStore, line: Line, source: int, fault: Fault) -> None:
    await store.put_file("1/a/k", source, LARGE)
    line.break_(_of_download, fault, 1 if fault is answer_slowly else 2)
    with tempfile.TemporaryFile() as target:
        assert await store.get_file("1/a/k", target.fileno()) == LARGE
        target.seek(0)
        assert target.read() == CONTENT
    if fault is answer_slowly:
        return
    line.break_(_of_download, fault, 1)
    assert await store.get_range("1/a/k", 100, 1000) == CONTENT[100:1100]
    line.break_(lambda request: request.method == "GET", fault, 1)
    assert await store.get("1/a/k") == CONTENT


@pytest.mark.parametrize(
    "fault", [slow_down, cut_in_the_middle_of_the_answer, answer_with_another_part], ids=lambda fault: fault.__name__
)
async def test_a_read_that_does_not_succeed_raises(store: ResultStore, line: Line, source: int, fault: Fault) -> None:
    await store.put_file("1/a/k", source, LARGE)
    # all parts but the first
    line.break_(lambda it: _of_download(it) and not it.headers["range"].startswith("bytes=0-"), fault, ALWAYS)
    with tempfile.TemporaryFile() as target, pytest.raises(Unavailable):
        await store.get_file("1/a/k", target.fileno())
    with pytest.raises(Unavailable):
        await store.get_range("1/a/k", 100, 1000)


async def test_a_store_that_is_away_is_unavailable(store: ResultStore, line: Line, source: int) -> None:
    line.break_(lambda request: True, slow_down, ALWAYS)
    calls = (
        *(store.put("1/a/k", b"x"), store.put_file("1/a/k", source, LARGE), store.get("1/a/k")),
        *(store.get_range("1/a/k", 0, 1), store.delete("1/a/k"), listed(store)),
    )
    for call in calls:
        with pytest.raises(Unavailable):
            await call


@pytest.mark.parametrize("server", S3_SERVERS, indirect=True)
async def test_an_object_that_changes_while_it_is_read_is_read_again_later(
    store: ResultStore, line: Line, source: int, servers: Servers, server: str, unique: str
) -> None:
    """Nothing of the store's own changes an object."""
    await store.put_file("1/a/k", source, LARGE)

    def replace_first(exchange: Exchange) -> None:
        client = servers.s3(server).client()
        client.put_object(Bucket=BUCKET, Key=f"{unique}/1/a/k", Body=bytes(LARGE))
        exchange.pass_on()

    line.break_(lambda it: _of_download(it) and not it.headers["range"].startswith("bytes=0-"), replace_first, 1)
    with tempfile.TemporaryFile() as target, pytest.raises(Unavailable, match="has changed"):
        await store.get_file("1/a/k", target.fileno())


async def test_an_object_that_goes_while_it_is_read_is_missing(store: ResultStore, line: Line, source: int) -> None:
    await store.put_file("1/a/k", source, LARGE)

    def delete_first(exchange: Exchange) -> None:
        asyncio.run_coroutine_threadsafe(store.delete("1/a/k"), loop).result()
        exchange.pass_on()

    loop = asyncio.get_running_loop()
    line.break_(lambda it: _of_download(it) and not it.headers["range"].startswith("bytes=0-"), delete_first, 1)
    with tempfile.TemporaryFile() as target, pytest.raises(KeyError):
        await store.get_file("1/a/k", target.fileno())
