"""Real servers for the tests: one PostgreSQL and one NATS for the whole run, started by the first test that asks; and
another date for those that need none."""

from __future__ import annotations

import contextlib
import gc
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.store.connection import connect
from noetl_serverless.store.migrate import migrate

# so that its assertions tell what they compared, as those of test modules do
pytest.register_assert_rewrite("tests.unit.results.contract")
pytest.register_assert_rewrite("tests.unit.results.write_once_contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--at",
        metavar="'INSTANT [ZONE]'",
        help="Run as if it were then, in this process: '2028-02-29T12:00 Europe/Berlin'. For tests without servers.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that is collected stays: to look through it for garbage takes a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


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
def postgres_url(request: pytest.FixtureRequest, postgres_server: Postgres) -> Iterator[str]:
    """A database of its own for each test, empty unless `migrated_url` is asked for; dropped after it, since a thousand
    are ten gigabytes."""
    name = f"t_{secrets.token_hex(6)}"
    if "migrated_url" in request.node.fixturenames:
        copy_of_migrated(name, request)
    else:
        run(postgres_server, f"CREATE DATABASE {name} STRATEGY file_copy")
    yield postgres_server.url_of(name)
    run(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, postgres_server: Postgres, postgres_url: str) -> str:
    """That of `postgres_url`, with all tables: a copy takes a fifth of the time of the migrations."""
    if "migrated_url" not in request.node.fixturenames:
        # asked for by name, while the test runs
        name = postgres_url.rpartition("/")[2]
        run(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
        copy_of_migrated(name, request)
    return postgres_url


@pytest.fixture(scope="session")
def migrated_database(postgres_server: Postgres) -> str:
    """The name of one that has all tables and nothing in them."""
    name = "migrated"
    create_database(postgres_server.url, name)
    migrate(postgres_server.url_of(name))
    return name


def copy_of_migrated(name: str, request: pytest.FixtureRequest) -> None:
    template = request.getfixturevalue("migrated_database")
    run(request.getfixturevalue("postgres_server"), f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")


def run(server: Postgres, statement: str) -> None:
    with contextlib.closing(connect(server.url)) as connection:
        connection.run(statement)


@pytest.fixture
def nats_url(nats_server: Nats) -> str:
    """The shared server: each test names its streams and buckets with a prefix of its own."""
    return nats_server.url
