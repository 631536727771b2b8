"""The control plane, the gateway and the tools as their own tests have them, and what shows that nothing changed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck
from hypothesis import settings as profiles
from starlette.applications import Starlette
from tests.integration.control_plane.conftest import (
    TOKEN_KEY,
    Answer,
    Client,
    FakeWorker,
    app,
    clock,
    database,
    hands,
    playbook,
    registered,
    results_url,
    settings,
    started,
    user,
    watchers,
    worker,
)
from tests.integration.tools.conftest import credentials, pool, run
from tests.unit.gateway.conftest import call, control_plane, editor, sessions, signed_in, upstream, values, viewer

from noetl_serverless.store.database import Database

__all__ = [
    "TOKEN_KEY",
    "Answer",
    "Client",
    "FakeWorker",
    "app",
    "call",
    "clock",
    "control_plane",
    "credentials",
    "database",
    "editor",
    "hands",
    "playbook",
    "pool",
    "registered",
    "results_url",
    "run",
    "sessions",
    "settings",
    "signed_in",
    "started",
    "upstream",
    "user",
    "values",
    "viewer",
    "watchers",
    "worker",
]

# the same inputs in every run: a new one that fails must come from a change of ours
profiles.register_profile(
    "hostile",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
FUZZ = profiles.get_profile("hostile")

TABLES = ("event", "execution", "command", "stage", "frame", "result_ref", "inbox", "catalog", "credential", "schedule")

Rows = dict[str, list[dict[str, Any]]]
Snapshot = Callable[[], Awaitable[Rows]]


@pytest.fixture
def rows(database: Database) -> Snapshot:
    """All that is stored, by table: taken before and after, it shows whether anything has changed."""

    async def rows() -> Rows:
        found: Rows = {}
        for table in TABLES:
            stored = await database.run(f"SELECT to_jsonb(t) FROM noetl.{table} t ORDER BY to_jsonb(t)::text")
            found[table] = [row[0] for row in stored]
        return found

    return rows


class Served:
    """An ASGI app behind a real HTTP server, in a thread with an event loop of its own."""

    def __init__(self, make: Callable[[], Awaitable[Starlette]], close: Callable[[], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._ready = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.url = ""

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join()

    async def _serve(self) -> None:
        config = uvicorn.Config(await self._make(), host="127.0.0.1", port=0, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await serving
        await self._close()


Serve = Callable[[Callable[[], Awaitable[Starlette]], Callable[[], Awaitable[None]]], Served]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """serve(make, close) -> Served, until the module's tests have run."""
    running: list[Served] = []

    def serve(make: Callable[[], Awaitable[Starlette]], close: Callable[[], Awaitable[None]]) -> Served:
        served = Served(make, close)
        running.append(served.__enter__())
        return served

    yield serve
    for served in running:
        served.__exit__()
