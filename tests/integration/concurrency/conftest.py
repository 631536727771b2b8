from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.concurrency.harness import Harness
from tests.integration.concurrency.pgbouncer import NotToBeHad, Pooler
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.store.connection import connect
from noetl_serverless.store.migrate import migrate
from noetl_serverless.store.worker_role import create_worker_role, url_as_worker, worker_role

FILLED = (
    "quarantine",
    *("execution", "event", "inbox", "command", "stage", "frame", "result_ref"),
    *("catalog", "schedule_fire", "schedule"),
)


@pytest.fixture(scope="session")
def shared_url(postgres_server: Postgres) -> str:
    name = f"t_{secrets.token_hex(6)}"
    create_database(postgres_server.url, name)
    url = postgres_server.url_of(name)
    migrate(url)
    return url


@pytest.fixture
def postgres_url(shared_url: str) -> Iterator[str]:
    """One database for all, emptied after each test: to make one takes longer than most tests here."""
    yield shared_url
    with closing(connect(shared_url)) as database:
        for table in FILLED:
            database.run(f"DELETE FROM noetl.{table}")
        # a test may have been the release before, beside which no lease is direct
        database.run("UPDATE noetl.older_release SET seen_at = '-infinity'")


@pytest.fixture(scope="session")
def pooler(postgres_server: Postgres, server_home: Path) -> Iterator[Pooler]:
    pooler = Pooler(postgres_server, server_home / "pgbouncer")
    try:
        process = pooler.start()
    except NotToBeHad as reason:
        pytest.skip(str(reason))
    yield pooler
    process.stop()


@pytest.fixture(params=["direct", "pooled"])
def route(request: pytest.FixtureRequest, postgres_url: str) -> str:
    """The way to the database: to the server itself, and through a transaction pooler."""
    if request.param == "direct":
        return postgres_url
    pooler: Pooler = request.getfixturevalue("pooler")
    return pooler.url_of(postgres_url)


@pytest.fixture
def worker_url(postgres_url: str) -> str:
    """The database for direct workers."""
    create_worker_role(postgres_url, worker_role(postgres_url), "password")
    return url_as_worker(postgres_url, "password")


@pytest.fixture
async def harness(route: str, tmp_path: Path) -> AsyncIterator[Harness]:
    """Three of each over one database, on both routes."""
    harness = Harness(route, tmp_path)
    yield harness
    await harness.close()


@pytest.fixture
async def direct(postgres_url: str, tmp_path: Path) -> AsyncIterator[Harness]:
    """Three of each over one database, where the route makes no difference."""
    harness = Harness(postgres_url, tmp_path)
    yield harness
    await harness.close()


@pytest.fixture
def sessions(postgres_url: str) -> Iterator[Sessions]:
    """Sessions of others, past any pooler."""
    sessions = Sessions(postgres_url)
    yield sessions
    sessions.close()
