"""A deployment with all tiers of results: a worker, REST and the reconciler, real servers, and clocks that differ."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import orjson
from starlette.applications import Starlette
from tests.integration.control_plane.conftest import SETTINGS, TOKEN_KEY, Client
from tests.integration.reconciler.collected import CLOCK
from tests.integration.results.relay import Relay
from tests.integration.results.tier_model import SKEW, TTL
from tests.integration.results.tier_values import CHUNK_BYTES
from tests.integration.results.tiers import KvTier, PostgresTier, Tier

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.control_plane.tokens import mint
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.reconciler import retention
from noetl_serverless.reconciler.retention import Retention
from noetl_serverless.results import offload, reader
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.shared_memory import SharedMemory
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.archives import Archives
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.store.migrate import migrate

WORKER = "w-1"
STEPS = 6
TASKS = ("results", "orphans", "strays")
# of the test's tokens: longer than any clock is moved
TOKEN_SECONDS = 400 * 86400


def playbook() -> str:
    steps: list[dict[str, Any]] = [
        {"step": f"s{n}", "tool": {"kind": "python", "code": "result = 1"}, "next": {"arcs": [{"step": f"s{n + 1}"}]}}
        for n in range(STEPS)
    ]
    del steps[-1]["next"]
    body = {"apiVersion": "noetl.io/v2", "kind": "Playbook", "metadata": {"name": "p", "path": "t/p"}}
    return orjson.dumps({**body, "workflow": steps}).decode()


class Deployment:
    """`now`: the time by the database's clock. The other clocks are up to `SKEW` ahead of it, or behind."""

    def __init__(self, database: Database, tiers: list[Tier], random: Random, folder: Path, part_bytes: int) -> None:
        self.database = database
        self.part_bytes = part_bytes
        self.tiers = {tier.name: tier for tier in tiers}
        self.objects = tiers[0].name
        self.random = random
        self.moved = timedelta()
        skew = SKEW.total_seconds() - 30
        self.skews = {
            who: timedelta(seconds=random.uniform(-skew, skew))
            for who in ("writer", "reader", "control_plane", "reconciler")
        }
        self.auto = random.choice(((), ("kv",), ("postgres",), ("kv", "postgres")))
        self.stores = self._stores([tier.worker for tier in tiers])
        self.scratch, self.of_requests = folder / "scratch", folder / "requests"
        for one in (self.scratch, self.of_requests):
            one.mkdir()
        self.shared = SharedMemory(folder / "shared", 2**20, now=lambda: self.now().timestamp(), lease_seconds=30)
        self.files = ResultFiles(self.scratch, self.shared, WORKER)
        self.cached = Resolver(self.stores, files=self.files, cache_bytes=random.choice((0, 300_000)))
        self._control_plane = self._stores([tier.control_plane for tier in tiers])
        self.user = Client(self._app(), mint(TOKEN_KEY, "gateway", "test-gateway", TOKEN_SECONDS))
        self.worker = Client(self.user.app, mint(TOKEN_KEY, "worker", "test-worker", TOKEN_SECONDS))
        self.reconciler = Retention(
            Archives(database),
            MaintenanceTasks(database),
            lambda: self._control_plane,
            _nothing,
            now=lambda: self.now("reconciler"),
            result_ttl_days=TTL.days,
        )

    def _stores(self, given: list[Any]) -> ResultStores:
        objects, kv, postgres = given
        return ResultStores(objects, kv=kv, postgres=postgres, auto=self.auto)

    def _app(self) -> Starlette:
        catalog = PostgresCatalog(self.database)
        orchestrator = Orchestrator(
            PostgresEventStore(self.database),
            Plans(catalog),
            Notifications(None, None),
            results=lambda: self._control_plane,
        )
        return create_app(
            replace(SETTINGS, scratch=str(self.of_requests)),
            database=self.database,
            orchestrator=orchestrator,
            catalog=catalog,
            results=lambda: self._control_plane,
            now=lambda: self.now("control_plane"),
        )

    def fresh(self) -> Resolver:
        """Of a worker that has just started."""
        return Resolver(self.stores, files=ResultFiles(self.scratch))

    def altered(self, alter: Any) -> Resolver:
        """Of a worker whose stores give other bytes."""
        return Resolver(
            self._stores([alter(tier.worker) for tier in self.tiers.values()]), files=ResultFiles(self.scratch)
        )

    # -- clocks

    def now(self, who: str = "") -> datetime:
        return datetime.now(UTC) + self.moved + self.skews.get(who, timedelta())

    async def move(self, by: timedelta) -> None:
        """The leases are kept meanwhile, as heartbeats keep them."""
        self.moved += by
        await self.database.run("UPDATE clock.moved SET by = make_interval(secs => :s)", s=self.moved.total_seconds())
        await self.database.run(
            "UPDATE noetl.command SET lease_until = now() + interval '1 h' WHERE worker IS NOT NULL"
        )

    # -- calls

    async def start(self) -> tuple[str, dict[str, Any]]:
        """An execution, and the command of its first step, which is claimed."""
        answer = await self.user.post("/api/execute", {"path": "t/p"})
        assert answer.status == 200, answer.body
        claimed = await self.worker.post("/api/commands/claim", {"worker_id": WORKER, "limit": 10})
        assert claimed.status == 200, claimed.body
        (command,) = claimed.json["commands"]
        return answer.json["execution_id"], command

    async def report(self, command: dict[str, Any], **outcome: Any) -> dict[str, Any] | None:
        """The command of the next step, if there is one."""
        named = {key: command[key] for key in ("execution_id", "command_id", "fence")}
        body = {"worker_id": WORKER, "outcomes": [{**named, "status": "done", **outcome}], "capacity": 10}
        answer = await self.worker.post("/api/commands/report", body)
        assert answer.status == 200, answer.body
        commands = answer.json["commands"]
        assert len(commands) <= 1, commands
        return commands[0] if commands else None

    async def end_of(self, id: str) -> datetime | None:
        rows = await self.database.run("SELECT ended_at FROM noetl.execution WHERE execution_id = :id", id=int(id))
        ended: datetime | None = rows[0][0]
        return ended

    async def rows(self) -> set[tuple[str, str]]:
        """Those of results that can be read, or could if they had not expired."""
        sql = "SELECT store, key FROM noetl.result_ref WHERE deleted_at IS NULL"
        return {(store, key) for store, key in await self.database.run(sql)}

    # -- collection

    async def collect_some(self) -> None:
        """A pass with little time."""
        await self.database.run("UPDATE noetl.chore SET due_at = now() + interval '1 h'")
        task = self.random.choice(TASKS)
        await self.database.run("UPDATE noetl.chore SET due_at = now() WHERE name = :name", name=task)
        with patch.object(retention, "TASK_SECONDS", self.random.choice((0.0, 0.02))):
            await self.reconciler.run_next_task()

    async def collect_all(self) -> None:
        for name in TASKS:
            is_due = True
            while is_due:
                await self.database.run(
                    "UPDATE noetl.chore SET due_at = now() + CASE WHEN name = :name THEN interval '0' "
                    "ELSE interval '1 h' END",
                    name=name,
                )
                await self.reconciler.run_next_task()
                [[is_due]] = await self.database.run(
                    "SELECT due_at <= now() FROM noetl.chore WHERE name = :name", name=name
                )

    async def objects_in_stores(self) -> set[tuple[str, str]]:
        """As the stores list them."""

        async def listed(name: str, tier: Tier) -> set[tuple[str, str]]:
            return {(name, key) async for key in tier.control_plane.list("")}

        found = await asyncio.gather(*(listed(name, tier) for name, tier in self.tiers.items()))
        return set().union(*found)

    async def rest(self) -> list[str]:
        """All that there is in the stores and in folders for files on their way, by other means."""
        found = [f"{name}: {it}" for name, tier in self.tiers.items() for it in await tier.rest()]
        return found + [str(path) for folder in (self.scratch, self.of_requests) for path in folder.rglob("*")]


async def _nothing() -> None: ...


@contextlib.asynccontextmanager
async def deployed(
    objects: Tier, postgres_url: str, nats_url: str, bucket: str, random: Random, folder: Path, part_bytes: int
) -> AsyncIterator[Deployment]:
    migrate(postgres_url)
    with contextlib.closing(connect(postgres_url)) as connection:
        connection.run(CLOCK)
    database = Database(postgres_url, 4)
    to_postgres, to_nats = Relay(postgres_url), Relay(nats_url)
    kv = KvTier(to_nats, await to_nats.start(), nats_url, bucket)
    postgres = PostgresTier(to_postgres, await to_postgres.start(), database, WORKER, CHUNK_BYTES)
    deployment = Deployment(database, [objects, kv, postgres], random, folder, part_bytes)

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return deployment.now("reader")

    try:
        answer = await deployment.user.post(
            "/api/catalog/register", {"content": playbook(), "resource_type": "Playbook"}
        )
        assert answer.status == 200, answer.body
        with (
            patch.object(offload, "now", lambda: deployment.now("writer")),
            patch.object(reader, "datetime", Moved),
        ):
            yield deployment
    finally:
        deployment.shared.close()
        for tier in deployment.tiers.values():
            await tier.end()
        await database.close()
