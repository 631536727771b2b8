"""The control plane, and a worker's archivist that calls it, over a real PostgreSQL and a folder of results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import BaseModel
from tests.integration.control_plane.conftest import (  # noqa: F401
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
    user,
    watchers,
    worker,
)

from noetl_serverless.engine.ids import EPOCH_MS
from noetl_serverless.errors import Problem
from noetl_serverless.ports import StoredObject
from noetl_serverless.reconciler.retention import Retention
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.archives import Archives
from noetl_serverless.store.database import Database
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.worker.archive import ArchiveWriter

LATER = datetime(2100, 1, 1, tzinfo=UTC)
LOOP = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: loop, path: demo/loop}
workload: {note: "naïve \\u0022quotes\\u0022 \\\\ and\\nlines"}
workflow:
  - step: each
    loop: {in: "{{ range(6) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
    tool: {kind: noop}
    next: {arcs: [{step: after}]}
  - {step: after, tool: {kind: noop}}
"""


class Killed(BaseException):
    """What a test's kill -9 looks like inside."""


class Over:
    """The worker's client, without HTTP. `dies` names what is to be the last call: before it, or after its answer."""

    def __init__(self, client: Client, dies: str = "", *, answered: bool = False) -> None:
        self._client = client
        self._dies = dies
        self._answered = answered

    async def call(
        self, method: str, path: str, answer: type[BaseModel], request: BaseModel | None = None, *, timeout: float = 30
    ) -> Any:
        place, _, query = path.partition("?")
        body = None if request is None else request.model_dump_json().encode()
        fatal = bool(self._dies) and place.endswith(self._dies)
        if fatal and not self._answered:
            raise Killed
        got = await self._client.call(method, place, body, query=dict(parse_qsl(query)))
        if fatal:
            raise Killed
        if got.status >= 400:
            raise Problem(f"{got.status} {got.body.decode()}")
        return answer.model_validate_json(got.body)


class DyingStore(FsspecResultStore):
    """Is killed in the middle: before or after the put of the nth file."""

    def __init__(self, url: str, *, at: int, after: bool) -> None:
        super().__init__(url)
        self._left = at
        self._after = after

    async def put(self, key: str, data: bytes) -> StoredObject:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        stored = await super().put(key, data)
        if self._left == 0:
            raise Killed
        return stored


@dataclass
class ArchiveHarness:
    """Executions, and what archives them."""

    user: Client
    hands: FakeWorker
    database: Database
    store: FsspecResultStore
    root: Path
    scratch: Path

    async def run(self, path: str = "demo/loop", **payload: Any) -> str:
        """The id of an execution that has come to its end."""
        answer = await self.user.post("/api/execute", {"path": path, "payload": payload})
        assert answer.status == 200, answer.body
        id = str(answer.json["execution_id"])
        await self.finish()
        assert (await self.user.get(f"/api/executions/{id}")).json["status"] != "RUNNING"
        return id

    async def finish(self) -> None:
        while commands := await self.hands.claim():
            await self.work(commands)

    async def work(self, commands: list[dict[str, Any]]) -> None:
        for command in commands:
            outcome: dict[str, Any] = {"data": {"n": 1}}
            if command["kind"] == "open":
                outcome = {"data": list(range(6)), "count": 6}
            if command["kind"] == "frame":
                start, end = command["frame"]["start"], command["frame"]["end"]
                frame = {"start": start, "end": end, "ok": end - start, "failed": 0}
                outcome = {"data": [{"i": i} for i in range(start, end)], "frame": frame}
            await self.work((await self.hands.report(command, **outcome))["commands"])

    def archivist(
        self, dies: str = "", *, answered: bool = False, store: FsspecResultStore | None = None
    ) -> ArchiveWriter:
        client: Any = Over(self.hands.client, dies, answered=answered)
        return ArchiveWriter(client, lambda: store or self.store, self.scratch, "w-archive")

    async def plan(self, before: datetime = LATER) -> dict[str, Any]:
        body = {"before": before.isoformat()}
        answer = await self.user.of("operator").post("/api/archives", body)
        assert answer.status == 200, answer.body
        return answer.json  # type: ignore[no-any-return]

    async def archive(self) -> None:
        """All that has ended."""
        while (await self.plan())["planned"]:
            summary = await self.archivist().run(600)
            assert (summary.failed, summary.registered > 0) == (0, True)

    async def count(self, table: str, where: str = "true") -> int:
        return int((await self.database.run(f"SELECT count(*) FROM noetl.{table} WHERE {where}"))[0][0])

    async def sql(self, text: str, **values: Any) -> list[Any]:
        return await self.database.run(text, **values)

    async def forget_leases(self) -> None:
        """As if the time of every lease were over."""
        await self.sql("UPDATE noetl.archive SET lease_until = now() - interval '1 s' WHERE status = 'planned'")

    def retention(self, **ages: Any) -> Retention:
        async def invoke_worker() -> None:
            await self.archivist().run(600)

        return Retention(
            Archives(self.database),
            MaintenanceTasks(self.database),
            lambda: ResultStores(self.store),
            invoke_worker,
            **ages,
        )

    async def do_tasks(self, retention: Retention, *names: str) -> dict[str, int]:
        """Each of these until it finds no more to do; what was done in all."""
        total: dict[str, int] = {}
        for name in names:
            await self.sql("UPDATE noetl.chore SET due_at = now() + interval '1 h'")
            await self.sql("UPDATE noetl.chore SET due_at = now() WHERE name = :name", name=name)
            for _ in range(50):
                for kind, count in (await retention.run_next_task()).items():
                    total[kind] = total.get(kind, 0) + count
        return total

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())

    async def shift(self, id: str, days: float) -> str:
        """The execution as if all of it had happened so many days before; its new id."""
        moved = str(int(id) - (round(days * 86_400_000) << 22))
        for table in ("event", "execution", "stage", "frame", "result_ref", "command"):
            await self.sql(f"UPDATE noetl.{table} SET execution_id = :to WHERE execution_id = :id", to=moved, id=id)
        await self.sql(
            """UPDATE noetl.execution SET created_at = created_at - make_interval(secs => :s),
            ended_at = ended_at - make_interval(secs => :s) WHERE execution_id = :id""",
            s=days * 86400,
            id=moved,
        )
        return moved


def started_at(id: str) -> datetime:
    return datetime.fromtimestamp(((int(id) >> 22) + EPOCH_MS) / 1000, UTC)


@pytest.fixture
async def harness(
    user: Client,  # noqa: F811
    hands: FakeWorker,  # noqa: F811
    database: Database,  # noqa: F811
    registered: dict[str, Any],  # noqa: F811
    results_url: str,  # noqa: F811
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> ArchiveHarness:
    assert (await user.post("/api/catalog/register", {"content": LOOP})).status == 200
    scratch = tmp_path_factory.mktemp("scratch")
    return ArchiveHarness(user, hands, database, FsspecResultStore(results_url), tmp_path, scratch)


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
