"""Recordings of what real workers with real tools have run, over a log in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests.integration.worker.stack import Catalog, Direct

from noetl_serverless.capsule.recording import Recording, Result
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.testing.event_store import MemoryEventStore
from noetl_serverless.tools import registry
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.worker.worker import Worker


class RecordingHarness:
    """`processes` python processes, `at_once` commands in one worker, `workers` workers."""

    def __init__(self, scratch: Path, processes: int = 2, at_once: int = 16, workers: int = 1) -> None:
        self.catalog = Catalog()
        self.log = MemoryEventStore(time.time)
        self.notifier = MemoryNotifier()
        self.orchestrator = Orchestrator(
            self.log, Plans(self.catalog), Notifications(self.notifier, None, after_response=False)
        )
        self.store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
        settings = Settings(scratch=str(scratch), max_in_flight=at_once)
        client: Any = Direct(self.orchestrator, self.log)
        self.workers = [
            Worker(
                settings,
                client,
                self.notifier,
                ResultStores(self.store),
                registry.load,
                PythonPool(processes, 1024, scratch),
                load_plan,
            )
            for _ in range(workers)
        ]

    async def record(self, body: str, **payload: Any) -> Recording:
        """Run a playbook to its end."""
        self.catalog.add("t/t", dedent(body))
        id = (await self.orchestrator.start(path="t/t", payload=payload)).execution_id
        for turn in range(200):
            await self.workers[turn % len(self.workers)].drain(20)
            if (await self.log.load([id]))[id].state.ended:
                return await self.recording(id)
            for row in [row.row for row in self.log.commands.values() if row.status == "timer"]:
                await self.orchestrator.fire_timer(row["id"], row["command"], row["step"], row["generation"])
        raise AssertionError("the execution did not end")

    async def recording(self, id: str) -> Recording:
        execution = self.log.executions[id]
        entry = next(entry for entry in self.catalog.entries if entry.hash == execution.loaded.plan_hash)
        refs = [ref for ref in self.log.refs.values() if ref["execution_id"] == id]
        children = [child for child, other in self.log.executions.items() if other.parent_id == id]
        return Recording(
            execution_id=id,
            path=execution.loaded.path,
            version=execution.loaded.version,
            plan_hash=execution.loaded.plan_hash,
            playbook=entry.content,
            workload=execution.workload,
            events=list(await self.log.events(id)),
            children=[await self.recording(child) for child in sorted(children)],
            results={ref["key"]: await self._result(ref) for ref in refs},
        )

    async def _result(self, ref: dict[str, Any]) -> Result:
        content = await self.store.get(ref["key"])
        return Result(
            key=ref["key"],
            ref=ref["ref"],
            size=ref["bytes"],
            sha256=ref["sha256"],
            content_type=ref["content_type"],
            content=content,
        )

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Callable[..., RecordingHarness]]:
    made: list[RecordingHarness] = []

    def make(**how: Any) -> RecordingHarness:
        made.append(RecordingHarness(tmp_path, **how))
        return made[-1]

    yield make
    for harness in made:
        await harness.close()
    await registry.close()
