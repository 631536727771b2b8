"""Real servers for the tests: one PostgreSQL and one NATS for the whole run, started by the first test that asks; and
another date for those that need none."""

from __future__ import annotations

import contextlib
import gc
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres, create_database

# so that its assertions tell what they compared, as those of test modules do
pytest.register_assert_rewrite("tests.unit.results.contract")
pytest.register_assert_rewrite("tests.unit.results.write_once_contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--at",
        metavar="'INSTANT [ZONE]'",
        help="Run as if it were then, in this process: '2028-02-29T12:00 Europe/Berlin'. For tests without servers.",
    )


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """What was there before a module begins is not looked at again by the garbage collector: of ten thousand tests that
    is more than a gigabyte, and a test that collects takes seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _at(request: pytest.FixtureRequest) -> Iterator[None]:
    """The clock of `--at`, which goes on from there."""
    given = request.config.getoption("--at")
    if given is None:
        yield
        return
    import time_machine

    instant, _, zone = given.partition(" ")
    with time_machine.travel(datetime.fromisoformat(instant).replace(tzinfo=ZoneInfo(zone or "UTC"))):
        yield


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder others may pass through: under root PostgreSQL runs as somebody else; pytest's own are
    closed."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where a test may run a stack of its own."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_server(server_home: Path) -> Iterator[Postgres]:
    server = Postgres(
        server_home / "postgres",
        free_port(),
        secrets.token_hex(24),
        server_home / "postgres.log",
        durable=False,
    )
    process = server.start()
    yield server
    process.stop()


@pytest.fixture(scope="session")
def nats_server(server_home: Path) -> Iterator[Nats]:
    server = Nats(server_home / "nats", free_port(), secrets.token_hex(24), server_home / "nats.log")
    process = server.start()
    yield server
    process.stop()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """A database of its own, empty, for each test."""
    name = f"t_{secrets.token_hex(6)}"
    create_database(postgres_server.url, name)
    return postgres_server.url_of(name)


@pytest.fixture
def nats_url(nats_server: Nats) -> str:
    """The shared server: each test names its streams and buckets with a prefix of its own."""
    return nats_server.url
