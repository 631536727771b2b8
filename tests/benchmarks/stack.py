"""A stack of its own for one run of the benchmarks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pg8000.native

from noetl_serverless.hosts.local.environment import Addresses, environment_of
from noetl_serverless.hosts.local.launch import launch
from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.hosts.local.secrets import Secrets
from noetl_serverless.hosts.table import functions_folder, load_functions
from noetl_serverless.settings import Settings
from noetl_serverless.store.connection import Connection, connect

from .client import Client
from .usage import Meter

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(slots=True)
class Bench:
    """What a workload is given. `runs`: how often to measure; `options`: what the command line asks for."""

    layout: Layout
    run: dict[str, Any]
    secrets: Secrets
    client: Client
    meter: Meter
    database: Connection
    runs: int
    options: dict[str, Any]
    # name -> value, in the unit of the floor's line
    floors: dict[str, float] = field(default_factory=dict)

    def environment(self, function: str) -> dict[str, str]:
        """What the stack gives to a function."""
        spec = next(spec for spec in load_functions(functions_folder()) if spec.name == function)
        urls = {name.removesuffix("_url"): url for name, url in self.run.items() if name.endswith("_url")}
        addresses = Addresses(self.run["database_url"], self.run["nats_url"], urls, {"shared": urls["worker"]})
        return environment_of(spec, addresses, self.secrets, self.layout, Settings())

    def wal(self) -> int:
        """Bytes of WAL written since the server was made."""
        return int(self.database.run("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0][0])


@asynccontextmanager
async def stack(
    runs: int, options: dict[str, Any], variables: Mapping[str, str] | None = None, **how: str
) -> AsyncIterator[Bench]:
    """Started in a fresh folder on disk and removed afterwards. `variables`: of its environment, beside those of this
    process; `how`: options of `noetls up`. RuntimeError if its PostgreSQL is not durable."""
    with fresh_layout(options) as layout:
        with patch.dict(os.environ, variables or {}):
            launched, run = launch(layout, with_parent=True, options=how)
        assert launched is not None
        try:
            async with _attached(layout, run, runs, options) as bench:
                yield bench
        finally:
            launched.stop()


@contextmanager
def fresh_layout(options: dict[str, Any]) -> Iterator[Layout]:
    home = Path(tempfile.mkdtemp(prefix="noetl-bench-", dir=options.get("where")))
    # under root PostgreSQL runs as somebody else, who must get there
    home.chmod(0o711)
    try:
        yield Layout(home)
    finally:
        if not options.get("keep"):
            shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def running(data: Path, runs: int, options: dict[str, Any]) -> AsyncIterator[Bench]:
    """The stack that runs on `data`, left as it is."""
    layout = Layout(data)
    run = layout.running()
    if run is None:
        raise RuntimeError(f"no stack runs on {data}")
    async with _attached(layout, run, runs, options) as bench:
        yield bench


@asynccontextmanager
async def _attached(layout: Layout, run: dict[str, Any], runs: int, options: dict[str, Any]) -> AsyncIterator[Bench]:
    secrets = Secrets.load(layout.secrets)
    client = Client(run["control_plane_url"], secrets.operator_token)
    database = connect(run["database_url"])
    try:
        _check_durable(database)
        yield Bench(layout, run, secrets, client, Meter(run["pids"], run["pid"]), database, runs, options)
    finally:
        database.close()
        await client.close()


def _check_durable(database: pg8000.native.Connection) -> None:
    for name in DURABLE:
        value = database.run(f"SHOW {name}")[0][0]
        if value != "on":
            raise RuntimeError(f"PostgreSQL has {name} = {value}: such numbers would mean nothing")
