from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.concurrency.bed import Bed
from tests.integration.concurrency.pgbouncer import NotToBeHad, Pooler
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.store.migrate import migrate


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
    """The way to a database of its own: to the server, and through a transaction pooler."""
    migrate(postgres_url)
    if request.param == "direct":
        return postgres_url
    pooler: Pooler = request.getfixturevalue("pooler")
    return pooler.url_of(postgres_url)


@pytest.fixture
async def bed(route: str, tmp_path: Path) -> AsyncIterator[Bed]:
    """Three of each over one database, on both routes."""
    bed = Bed(route, tmp_path)
    yield bed
    await bed.close()


@pytest.fixture
async def direct(postgres_url: str, tmp_path: Path) -> AsyncIterator[Bed]:
    """Three of each over one database, where the route makes no difference."""
    migrate(postgres_url)
    bed = Bed(postgres_url, tmp_path)
    yield bed
    await bed.close()


@pytest.fixture
def sessions(postgres_url: str) -> Iterator[Sessions]:
    """Sessions of others, past any pooler."""
    sessions = Sessions(postgres_url)
    yield sessions
    sessions.close()
