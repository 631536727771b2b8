"""An orchestrator over the in-memory log, and a worker's hand to drive it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from textwrap import dedent
from typing import Any

import pytest

from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.ports import EventStore, Invoker, LockedExecution, Notifier, Pointer
from noetl_serverless.protocol import (
    ClaimedCommand,
    ClaimRequest,
    CommandKey,
    Frame,
    Outcome,
    ReportRequest,
    ReportResponse,
)
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit, LoadedExecution, PendingWork, ReportedFact
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
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


Load = Callable[[Sequence[str]], Awaitable[dict[str, LoadedExecution]]]
Commit = Callable[[Sequence[ExecutionCommit], Claimant | None], Awaitable[CommitResult]]
Decide = Callable[[LockedExecution], ExecutionCommit | None]
Append = Callable[[Sequence[ReportedFact]], Awaitable[set[tuple[str, str, int]]]]


class InterceptedEventStore(MemoryEventStore):
    """A test may put a function of its own into `loading`, `committing` and the others: it is what that call does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.loading: Load = super().load
        self.committing: Commit = super().commit
        self.appending: Append = super().append_to_inbox
        self.finding_pending: Callable[[float], Awaitable[PendingWork]] = super().pending_work

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        return await self.loading(ids)

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        return await self.committing(commits, claimant)

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        return await self.appending(facts)

    async def pending_work(self, age: float) -> PendingWork:
        return await self.finding_pending(age)


class NotificationRecorder(Notifier, Invoker):
    """Stands for the bus and the invoker, and records which commands and invocations were sent."""

    def __init__(self) -> None:
        self.notified: list[tuple[str, str]] = []

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        self.notified += [(pool, command.command_id) for command in commands]

    async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
        return []

    async def ack(self, pointers: Sequence[Pointer]) -> None:
        return None

    async def close(self) -> None:
        return None

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        self.notified.append((function, "invocation"))


class Engine:
    def __init__(self, log: EventStore | None = None, results: Callable[[], ResultStores] | None = None) -> None:
        self.results = results
        self.seconds = 1_800_000_000.0
        self.catalog = Catalog()
        self.log = log or InterceptedEventStore(lambda: self.seconds)
        self.recorder = NotificationRecorder()
        self.notifications = Notifications(self.recorder, self.recorder, after_response=False)
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
        self,
        *outcomes: Outcome,
        capacity: int = 0,
        turn: bool = False,
        worker: str = "w-1",
        by: Orchestrator | None = None,
    ) -> ReportResponse:
        request = ReportRequest(worker_id=worker, outcomes=list(outcomes), capacity=capacity, turn=turn)
        return await (by or self.orchestrator).report(request)

    @property
    def memory(self) -> InterceptedEventStore:
        assert isinstance(self.log, InterceptedEventStore)
        return self.log

    @property
    def postgres(self) -> PostgresEventStore:
        assert isinstance(self.log, PostgresEventStore)
        return self.log

    def status(self, execution_id: str) -> str:
        return self.memory.executions[execution_id].status

    def types(self, execution_id: str) -> list[str]:
        return [event.type for event in self.memory.executions[execution_id].events]


def frame_of(command: ClaimedCommand) -> Frame:
    assert command.frame is not None
    return command.frame


def outcome(command: ClaimedCommand, data: Any = None, status: str = "done", **more: Any) -> Outcome:
    return Outcome(
        execution_id=command.execution_id,
        command_id=command.command_id,
        fence=command.fence,
        status=status,
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
    database = Database(request.getfixturevalue("migrated_url"), 4)
    yield Engine(PostgresEventStore(database))
    await database.close()
