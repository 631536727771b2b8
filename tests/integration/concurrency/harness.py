"""Three control planes, three workers and three reconcilers over one PostgreSQL, each with what it keeps to itself.

A worker speaks to a control plane after the other, as through a load balancer; all share one bus.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.audit import audit

from noetl_serverless.engine.events import Event
from noetl_serverless.errors import NotFound
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator, wall_clock
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.protocol import (
    VERSION,
    ClaimedCommand,
    ClaimRequest,
    HeartbeatRequest,
    Outcome,
    ReportRequest,
    ReportResponse,
)
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit, ReportedFact
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.store.catalog import NewResource, PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.schedules import Schedules
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.tools import registry
from noetl_serverless.tools.plans import load_plan
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolOutcome
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.worker.direct import DirectOrchestrator
from noetl_serverless.worker.orchestrator import Response
from noetl_serverless.worker.worker import Worker

MANY = 3
MAX_DELIVERIES = 5
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t, path: {path}}}\n"


class BusyLog(PostgresEventStore):
    """Before its next commits others may come first: each entry of `first` is awaited ahead of one of them.
    `handing_in` is called ahead of each fact that goes into an inbox."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.first: list[Callable[[], Awaitable[Any]]] = []
        self.handed_in = 0
        self.handing_in: Callable[[], None] = lambda: None

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        if self.first:
            await self.first.pop(0)()
        return await super().commit(commits, claimant)

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        self.handed_in += 1
        self.handing_in()
        return await super().append_to_inbox(facts)


class Plane:
    """A control plane."""

    def __init__(
        self,
        url: str,
        bus: MemoryNotifier,
        clock: Callable[[], int] = wall_clock,
        results: Callable[[], ResultStores] | None = None,
    ) -> None:
        self.database = Database(url, 4)
        self.log = BusyLog(self.database)
        self.notifications = Notifications(bus, None, after_response=False)
        playbooks = Plans(PostgresCatalog(self.database))
        self.orchestrator = Orchestrator(self.log, playbooks, self.notifications, clock=clock, results=results)

    def reconciler(self) -> Reconciler:
        """One that shares nothing with any other, if the plane is its own."""
        schedules = Schedules(self.database)
        return Reconciler(self.log, self.orchestrator, schedules, self.notifications, max_deliveries=MAX_DELIVERIES)

    async def claim(self, worker: str = "w", limit: int = 1000, **more: Any) -> list[ClaimedCommand]:
        return (await self.orchestrator.claim(ClaimRequest(worker_id=worker, limit=limit, **more))).commands

    async def report(self, *outcomes: Outcome, worker: str = "w", capacity: int = 0, **more: Any) -> ReportResponse:
        request = ReportRequest(worker_id=worker, outcomes=list(outcomes), capacity=capacity, **more)
        return await self.orchestrator.report(request)

    async def tell(self, command: ClaimedCommand, data: Any = 1, worker: str = "w") -> str:
        """Report one command alone; gives what became of it."""
        return (await self.report(done(command, data), worker=worker)).results[0].status


class Balanced:
    """The control planes one after the other, with everything put into JSON and back."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._planes = itertools.cycle(planes)

    def supports(self, version: int) -> bool:
        return version <= VERSION

    async def claim(self, request: ClaimRequest, *, timeout: float) -> Response[Any]:
        return Response(_again(await next(self._planes).orchestrator.claim(_again(request))), doubtful=False)

    async def report(self, request: ReportRequest, *, timeout: float) -> Response[Any]:
        return Response(_again(await next(self._planes).orchestrator.report(_again(request))), doubtful=False)

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> Any:
        return await next(self._planes).orchestrator.heartbeat(request)

    async def credential(self, name: str) -> Any:
        raise NotFound(f"there is no credential {name}")

    async def manifest(self, execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        raise NotFound("the results stand in the log")

    async def close(self) -> None:
        return None


class Tool:
    """Gives back its input, once `let_go` is set, and counts its runs by idempotency key. `waiting`: one has begun."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.waiting, self.let_go = asyncio.Event(), asyncio.Event()
        self.let_go.set()

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        self.ran[context.idempotency_key] += 1
        self.waiting.set()
        await self.let_go.wait()
        await asyncio.sleep(0)
        return ToolOutcome("ok", data=dict(call.input))

    async def close(self) -> None:
        return None


class Harness:
    def __init__(self, url: str, scratch: Path, worker_url: str | None = None) -> None:
        """`worker_url`: as whom each worker reaches the database by itself; otherwise it goes through the planes."""
        self.url = url
        self.bus = MemoryNotifier()
        self.tool = Tool()
        self.results = ResultStores(FsspecResultStore(f"memory://{secrets.token_hex(6)}"))
        self.planes = [Plane(url, self.bus, results=lambda: self.results) for _ in range(MANY)]
        self.keepers = [Plane(url, self.bus, results=lambda: self.results) for _ in range(MANY)]
        self.reconcilers = [keeper.reconciler() for keeper in self.keepers]
        self.direct = (
            [Plane(worker_url, self.bus, results=lambda: self.results) for _ in range(MANY)] if worker_url else []
        )
        self.workers = [self._worker(scratch, number) for number in range(MANY)]

    async def add(self, path: str, body: str) -> None:
        content = HEAD.format(path=path) + dedent(body)
        document = NewResource(
            path=path, kind="Playbook", content=content, hash=load_plan(content).hash, meta={}, payload={}
        )
        await PostgresCatalog(self.planes[0].database).register(document)

    async def start(self, path: str, **payload: Any) -> str:
        return (await self.planes[0].orchestrator.start(path=path, payload=payload)).execution_id

    async def settle(self, ids: Sequence[str], within: float = 60.0) -> None:
        """All instances at work at once, until the executions have ended."""
        async with asyncio.timeout(within):
            while not await self.ended(ids):
                drains = [worker.drain(10, sweep=True) for worker in self.workers]
                passes = [reconciler.reconcile() for reconciler in self.reconcilers]
                await asyncio.gather(*drains, *passes)

    async def ended(self, ids: Sequence[str]) -> bool:
        cases = await self.planes[0].log.load(ids)
        return all(cases[id].state.ended for id in ids)

    async def events(self, id: str, *types: str) -> list[Event]:
        """Those of the `types` named, or all."""
        return [event for event in await self.planes[0].log.events(id) if not types or event.type in types]

    def findings(self) -> list[str]:
        """What the logs, the states and the projections have against each other."""
        return [str(finding) for finding in audit(self.url)]

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()
        for plane in (*self.planes, *self.keepers, *self.direct):
            await plane.notifications.close()
            await plane.database.close()

    def _worker(self, scratch: Path, number: int) -> Worker:
        client: Any = Balanced(self.planes[number:] + self.planes[:number])
        settings = Settings(scratch=str(scratch), max_in_flight=4)
        load: Any = lambda kind: registry.load(kind) if kind == "playbook" else self.tool  # noqa: E731
        pool = PythonPool(1, 256, scratch)
        orchestrator = DirectOrchestrator(self.direct[number].orchestrator) if self.direct else None
        worker = Worker(settings, client, self.bus, self.results, load, pool, load_plan, orchestrator=orchestrator)
        if self.direct:
            self.direct[number].orchestrator.connect_worker(worker)
        # they share a process, and with it the name they would have
        worker.id = f"w-{number}"
        return worker


def done(command: ClaimedCommand, data: Any = 1, **more: Any) -> Outcome:
    names = {"execution_id": command.execution_id, "command_id": command.command_id, "fence": command.fence}
    return Outcome(**{**names, "status": "done", "data": data, **more})


def _again(message: Any) -> Any:
    return type(message).model_validate_json(message.model_dump_json())
