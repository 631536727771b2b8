"""The worker with its real tools and python processes, over the real orchestrator and a log in memory."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

from noetl_serverless.errors import NotFound
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import VERSION, ClaimRequest, HeartbeatRequest, Instance, ReportRequest
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.testing.catalog import MemoryCatalog, MemoryCatalogEntry
from noetl_serverless.testing.event_store import MemoryEventStore
from noetl_serverless.testing.rows import manifest_parts
from noetl_serverless.tools import registry
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.worker.direct import DirectOrchestrator
from noetl_serverless.worker.orchestrator import Response
from noetl_serverless.worker.worker import Worker


class Catalog(MemoryCatalog):
    def add(self, path: str, body: str) -> MemoryCatalogEntry:
        # in place of what stood there
        self.entries = [entry for entry in self.entries if entry.path != path]
        return self.register(
            f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t, path: {path}}}\n{dedent(body)}"
        )


class Direct:
    """The control plane without HTTP, but with everything put into JSON and back."""

    def __init__(self, orchestrator: Orchestrator, log: MemoryEventStore) -> None:
        self.orchestrator = orchestrator
        self.log = log
        self.reports: list[ReportRequest] = []
        # awaited before a report is carried out
        self.meanwhile: Callable[[ReportRequest], Awaitable[None]] | None = None
        # seconds that a report takes
        self.delay = 0.0
        # the answers to the next so many reports are lost: they are sent again
        self.lose = 0

    def supports(self, version: int) -> bool:
        return version <= VERSION

    async def claim(self, request: ClaimRequest, *, timeout: float) -> Response[Any]:
        return Response(_again(await self.orchestrator.claim(_again(request))), doubtful=False)

    async def report(self, request: ReportRequest, *, timeout: float) -> Response[Any]:
        self.reports.append(_again(request))
        await asyncio.sleep(self.delay)
        if self.meanwhile is not None:
            await self.meanwhile(request)
        answer = await self.orchestrator.report(_again(request))
        if not self.lose:
            return Response(_again(answer), doubtful=False)
        self.lose -= 1
        return Response(_again(await self.orchestrator.report(_again(request))), doubtful=True)

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> Any:
        return await self.orchestrator.heartbeat(request)

    async def credential(self, name: str) -> Any:
        raise NotFound(f"there is no credential {name}")

    async def manifest(self, execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        return {"parts": manifest_parts(await self.log.events(execution_id), step, generation)}

    async def close(self) -> None:
        return None


def _again(message: Any) -> Any:
    return type(message).model_validate_json(message.model_dump_json())


class Stack:
    def __init__(self, scratch: Path, load: Callable[[str], Any] = registry.load, *, in_process: bool = False) -> None:
        """`in_process`: the worker takes commands from the orchestrator as it is, with nothing put into JSON.
        `registered` is what workers have shown of themselves."""
        self.in_process = in_process
        self.scratch = scratch
        self.load = load
        self.catalog = Catalog()
        self.log = MemoryEventStore(time.time)
        self.notifier = MemoryNotifier()
        self.store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
        self.stores = ResultStores(self.store)
        notifications = Notifications(self.notifier, None, after_response=False)
        self.registered: list[Instance] = []

        async def register(instance: Instance) -> None:
            self.registered.append(instance)

        self.orchestrator = Orchestrator(
            self.log, Plans(self.catalog), notifications, results=lambda: self.stores, register=register
        )
        self.client = Direct(self.orchestrator, self.log)
        self.worker = self.another(self.client)

    def another(self, client: Direct, **settings: Any) -> Worker:
        """A worker that is not closed with the stack."""
        speaks: Any = client
        return Worker(
            Settings(scratch=str(self.scratch), **settings),
            speaks,
            self.notifier,
            self.stores,
            self.load,
            PythonPool(2, 1024, self.scratch),
            load_plan,
            orchestrator=DirectOrchestrator(self.orchestrator) if self.in_process else None,
        )

    async def run(self, body: str, **payload: Any) -> Any:
        """Register, start, and drain until the execution has ended; gives its state."""
        self.catalog.add("t/t", body)
        id = (await self.orchestrator.start(path="t/t", payload=payload)).execution_id
        for _ in range(50):
            await self.worker.drain(20)
            state = await self.state(id)
            if state.ended:
                return state
            for name, timer in list(state.timers.items()):
                step, _, generation = timer.key.rpartition("#")
                await self.orchestrator.fire_timer(id, name, step, int(generation))
        raise AssertionError(f"the execution did not end: {state}")

    async def state(self, id: str) -> Any:
        return (await self.log.load([id]))[id].state

    def types(self, id: str) -> list[str]:
        return [event.type for event in self.log.executions[id].events]
