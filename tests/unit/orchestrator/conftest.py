"""An orchestrator over the in-memory log, and a worker's hand to drive it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from textwrap import dedent
from typing import Any

import pytest

from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.ports import EventStore
from noetl_serverless.protocol import ClaimedCommand, ClaimRequest, Outcome, ReportRequest, ReportResponse
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.migrate import migrate
from noetl_serverless.testing.catalog import MemoryCatalog, MemoryCatalogEntry
from noetl_serverless.testing.event_store import MemoryEventStore


class Catalog(MemoryCatalog):
    def add(self, path: str, workflow: str, head: str = "") -> None:
        text = f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t, path: {path}}}\n{dedent(head)}"
        # in place of what stood there
        self.entries = [entry for entry in self.entries if entry.path != path]
        self.register(text + "workflow:\n" + dedent(workflow))

    @property
    def found(self) -> dict[str, MemoryCatalogEntry]:
        """The latest version of each playbook, by path."""
        return {entry.path: entry for entry in self.entries}


class NotificationRecorder:
    """Stands for the bus and the invoker, and records which commands and invocations were sent."""

    def __init__(self) -> None:
        self.notified: list[tuple[str, str]] = []

    async def publish(self, pool: str, commands: Any) -> None:
        self.notified += [(pool, command.command_id) for command in commands]

    async def invoke(self, function: str, payload: Any = None, delay: float = 0.0) -> None:
        self.notified.append((function, "invocation"))


class Engine:
    def __init__(self, log: EventStore | None = None, results: Any = None) -> None:
        self.results = results
        self.seconds = 1_800_000_000.0
        self.catalog = Catalog()
        self.log = log or MemoryEventStore(lambda: self.seconds)
        self.recorder = NotificationRecorder()
        self.notifications = Notifications(self.recorder, self.recorder, after_response=False)  # type: ignore[arg-type]
        self.orchestrator = self.another()

    def another(self) -> Orchestrator:
        """One more instance of the control plane: it shares the log and nothing else."""
        clock = lambda: int(self.seconds * 1000)  # noqa: E731
        playbooks = Plans(self.catalog)
        return Orchestrator(self.log, playbooks, self.notifications, clock=clock, results=self.results)

    async def start(self, path: str = "t/t", **more: Any) -> str:
        return (await self.orchestrator.start(path=path, **more)).execution_id

    async def claim(self, limit: int = 10, worker: str = "w-1", **more: Any) -> list[ClaimedCommand]:
        request = ClaimRequest(worker_id=worker, limit=limit, **more)
        return (await self.orchestrator.claim(request)).commands

    async def report(
        self, *outcomes: Outcome, capacity: int = 0, turn: bool = False, worker: str = "w-1", by: Any = None
    ) -> ReportResponse:
        request = ReportRequest(worker_id=worker, outcomes=list(outcomes), capacity=capacity, turn=turn)
        return await (by or self.orchestrator).report(request)

    @property
    def memory(self) -> MemoryEventStore:
        assert isinstance(self.log, MemoryEventStore)
        return self.log

    @property
    def postgres(self) -> PostgresEventStore:
        assert isinstance(self.log, PostgresEventStore)
        return self.log

    def status(self, execution_id: str) -> str:
        return self.memory.executions[execution_id].status

    def types(self, execution_id: str) -> list[str]:
        return [event.type for event in self.memory.executions[execution_id].events]


def outcome(command: ClaimedCommand, data: Any = None, status: str = "done", **more: Any) -> Outcome:
    return Outcome(
        execution_id=command.execution_id,
        command_id=command.command_id,
        fence=command.fence,
        status=status,  # type: ignore[arg-type]
        data=data,
        **more,
    )


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture(params=["memory", "postgres"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Over the log in memory, and over PostgreSQL."""
    if request.param == "memory":
        yield Engine()
        return
    url = request.getfixturevalue("postgres_url")
    migrate(url)
    database = Database(url)
    yield Engine(PostgresEventStore(database))
    await database.close()
