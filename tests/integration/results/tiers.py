"""The tiers of results in one deployment, each with a line to it on which things go wrong, and what is left in it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

from tests.integration.results.conftest import BUCKET, Servers, s3_environment
from tests.integration.results.faulty import (
    Exchange,
    Line,
    Request,
    cut_in_the_middle_of_the_answer,
    cut_in_the_middle_of_the_request,
    lose_the_answer,
    slow_down,
)
from tests.integration.results.relay import Relay

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_results import NatsResultStore
from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.ports import ResultStore
from noetl_serverless.results import disk
from noetl_serverless.store.database import Database
from noetl_serverless.store.result_objects import PostgresResultStore, WorkerResultStore

# error: refused for now; away: nothing answers; cut: a write is cut in the middle, and its writer with it if that lasts
FAULTS = ("error", "away", "slow", "cut", "lost")
ALWAYS = 1_000_000
# how long what is brief may last
BRIEF_SECONDS = 0.15


class Killed(BaseException):
    """What a test's kill -9 looks like inside."""


class Tier(ABC):
    """`worker`, `control_plane`: the store as each of these has it. `lasting`: until the end of the block, and not only
    for a moment or for the next calls."""

    worker: ResultStore
    control_plane: ResultStore

    @property
    def name(self) -> str:
        return self.worker.name

    @contextlib.asynccontextmanager
    async def fault(self, kind: str, random: Random, *, lasting: bool) -> AsyncIterator[None]:
        with contextlib.ExitStack() as stack:
            self.begin(kind, random, lasting=lasting, stack=stack)
            yield
        await self.recover()

    @abstractmethod
    def begin(self, kind: str, random: Random, *, lasting: bool, stack: contextlib.ExitStack) -> None:
        """`stack`: ends it."""

    async def recover(self) -> None:
        """Until it knows that it is not away any more."""
        return None

    @abstractmethod
    async def rest(self) -> list[str]:
        """All that there is, by other means than the store's own."""

    async def end(self) -> None:
        return None


class DiskTier(Tier):
    def __init__(self, root: Path) -> None:
        self._root = root
        self.worker = object_store(root.as_uri(), {})
        self.control_plane = object_store(root.as_uri(), {})

    def begin(self, kind: str, random: Random, *, lasting: bool, stack: contextlib.ExitStack) -> None:
        times = ALWAYS if lasting else random.randint(1, 2)
        match kind:
            case "error":
                stack.enter_context(_failing("_flush", OSError(errno.ENOSPC, "No space left on device"), times))
            case "away":
                self._be_away(lasting, stack)
            case "slow":
                stack.enter_context(patch.object(disk, "_flush", _late(disk._flush)))
            case "cut" if lasting:
                stack.enter_context(_failing("_flush", Killed(), times))
                stack.enter_context(patch.object(os, "unlink", _refused_for_temporary(os.unlink)))
            case "cut":
                stack.enter_context(_failing("_flush", OSError(errno.EIO, "Input/output error"), times))
            case "lost":
                stack.enter_context(_failing("_flush_folder", OSError(errno.EIO, "Input/output error"), times))

    async def rest(self) -> list[str]:
        return [str(path.relative_to(self._root)) for path in self._root.rglob("*")]

    def _be_away(self, lasting: bool, stack: contextlib.ExitStack) -> None:
        """As a mount is: something else stands in its place."""
        self._root.mkdir(exist_ok=True)
        away = self._root.with_suffix(".away")
        self._root.rename(away)
        self._root.touch()
        lock = threading.Lock()

        def come_back() -> None:
            with lock:
                if away.exists():
                    self._root.unlink()
                    away.rename(self._root)

        if not lasting:
            stack.callback(asyncio.get_running_loop().call_later(BRIEF_SECONDS, come_back).cancel)
        stack.callback(come_back)


@contextlib.contextmanager
def _failing(name: str, error: BaseException, times: int) -> Iterator[None]:
    """A function of `disk` that raises a few times before it does what it does."""
    original = getattr(disk, name)
    left = times

    def fail(given: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise error
        return original(given)

    with patch.object(disk, name, fail):
        yield


def _late(original: Callable[[int], None]) -> Callable[[int], None]:
    def late(file: int) -> None:
        time.sleep(0.05)
        original(file)

    return late


def _refused_for_temporary(original: Callable[..., None]) -> Callable[..., None]:
    """Who is killed deletes nothing."""

    def unlink(path: Any, **given: Any) -> None:
        if str(path).endswith(".tmp"):
            raise OSError(errno.EIO, "the process was killed")
        original(path, **given)

    return unlink


class HttpTier(Tier):
    """An object store behind HTTP."""

    _line: Line

    def begin(self, kind: str, random: Random, *, lasting: bool, stack: contextlib.ExitStack) -> None:
        times = ALWAYS if lasting else random.randint(1, 2)
        stack.callback(self._line.mend)
        match kind:
            case "error":
                self._line.break_(lambda request: True, slow_down, times)
            case "away":
                self._line.break_(lambda request: True, lambda exchange: exchange.cut(), times)
            case "slow":
                self._line.break_(lambda request: True, _answer_late, ALWAYS)
            case "cut":
                self._line.break_(_has_body, cut_in_the_middle_of_the_request, 1)
                self._line.break_(lambda request: not _has_body(request), cut_in_the_middle_of_the_answer, 1)
                if lasting:
                    # what it has begun stays as it is
                    self._line.break_(_ends_something, lambda exchange: exchange.cut(), ALWAYS)
            case "lost":
                self._line.break_(lambda request: True, lose_the_answer, 1)

    async def end(self) -> None:
        self._line.end()


def _has_body(request: Request) -> bool:
    return int(request.headers.get("content-length") or 0) > 0


def _ends_something(request: Request) -> bool:
    return request.method == "DELETE" or _has_body(request)


def _answer_late(exchange: Exchange) -> None:
    time.sleep(0.03)
    exchange.pass_on()


class S3Tier(HttpTier):
    def __init__(self, servers: Servers, place: str) -> None:
        self._client = servers.seaweedfs.client()
        self._place = place
        self._line = Line(servers.seaweedfs.url)
        self.worker, self.control_plane = (
            object_store(f"s3://{BUCKET}/{place}", s3_environment(self._line.url)) for _ in range(2)
        )

    async def rest(self) -> list[str]:
        return await asyncio.to_thread(self._rest)

    def _rest(self) -> list[str]:
        found: list[str] = []
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self._place}/"):
            found += [item["Key"] for item in page.get("Contents", ())]
        uploads = self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        found += [f"{it['Key']} (an upload)" for it in uploads if it["Key"].startswith(f"{self._place}/")]
        return [name.removeprefix(f"{self._place}/") for name in found]


class GcsTier(HttpTier):
    """An upload that did not end is not seen by anybody, and gone after a week."""

    def __init__(self, servers: Servers, place: str) -> None:
        self._url = servers.gcs.url
        self._place = place
        self._line = Line(self._url)
        environment = {"STORAGE_EMULATOR_HOST": self._line.url}
        self.worker, self.control_plane = (object_store(f"gs://{BUCKET}/{place}", environment) for _ in range(2))

    async def rest(self) -> list[str]:
        return await asyncio.to_thread(self._rest)

    def _rest(self) -> list[str]:
        url = f"{self._url}/storage/v1/b/{BUCKET}/o?prefix={quote(self._place)}/&maxResults=10000"
        with urllib.request.urlopen(url) as answer:
            items = json.load(answer).get("items", ())
        return [item["name"].removeprefix(f"{self._place}/") for item in items]


class RelayedTier(Tier):
    """Behind a protocol of its own, as NATS and PostgreSQL are: there an error is a connection that is lost."""

    _relay: Relay

    def begin(self, kind: str, random: Random, *, lasting: bool, stack: contextlib.ExitStack) -> None:
        relay = self._relay
        stack.callback(relay.mend)
        match kind:
            case "error" | "away":
                relay.be_away()
                if not lasting:
                    stack.callback(asyncio.get_running_loop().call_later(BRIEF_SECONDS, relay.mend).cancel)
            case "slow":
                relay.be_slow()
            case "cut":
                relay.cut_after(random.choice((0, 30, 2_000, 120_000, 170_000)), stay_away=lasting)
            case "lost":
                relay.lose_answer()

    async def end(self) -> None:
        await self._relay.end()


class KvTier(RelayedTier):
    def __init__(self, relay: Relay, url: str, direct_url: str, bucket: str) -> None:
        self._relay = relay
        self._bucket = bucket
        # waits as it does outside of tests, only shorter
        self._connection = NatsConnection(url, connect_timeout=0.4, retry_after=0.0)
        self._direct = NatsConnection(direct_url)
        self.worker, self.control_plane = (NatsResultStore(self._connection, bucket) for _ in range(2))

    async def recover(self) -> None:
        for _ in range(200):
            try:
                async for _key in self.control_plane.list("0/"):
                    pass
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                return

    async def rest(self) -> list[str]:
        stream = await self._direct.jetstream()
        info = await stream.stream_info(f"KV_{self._bucket}", subjects_filter=">")
        return sorted(info.state.subjects or {})

    async def end(self) -> None:
        await self._connection.close()
        with contextlib.suppress(Exception):
            await (await self._direct.jetstream()).delete_stream(f"KV_{self._bucket}")
        await self._direct.close()
        await super().end()


class PostgresTier(RelayedTier):
    def __init__(self, relay: Relay, url: str, direct: Database, worker: str, chunk_bytes: int) -> None:
        self._relay = relay
        self._direct = direct
        self._database = Database(url, 3)
        self.worker = WorkerResultStore(self._database, worker, chunk_bytes=chunk_bytes)
        self.control_plane = PostgresResultStore(self._database, chunk_bytes=chunk_bytes)

    async def rest(self) -> list[str]:
        objects = await self._direct.run(
            "SELECT key || CASE WHEN bytes IS NULL THEN ' (an upload)' ELSE '' END FROM noetl.result_object"
        )
        chunks = await self._direct.run(
            "SELECT count(*) FROM noetl.result_chunk c LEFT JOIN noetl.result_object o USING (upload) "
            "WHERE o.bytes IS NULL"
        )
        assert chunks == [[0]] or any("upload" in row[0] for row in objects), "there are chunks of no object"
        return [row[0] for row in objects]

    async def end(self) -> None:
        await self._database.close()
        await super().end()


def object_tier(kind: str, servers: Servers, folder: Path, place: str) -> Tier:
    if kind == "disk":
        return DiskTier(folder)
    return S3Tier(servers, place) if kind == "s3" else GcsTier(servers, place)
