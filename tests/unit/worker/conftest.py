from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker.builders import FakeTool, claimed, plan

from noetl_serverless.playbook.plan import Step
from noetl_serverless.protocol import VERSION, ClaimedCommand, Frame
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.shared_memory import SharedMemory
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.tools.port import Credential
from noetl_serverless.worker.execution.executor import Executor
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import TimeBudget
from noetl_serverless.worker.execution.toolbox import Toolbox


class Bench:
    """An executor over fake tools, an in-memory store and a budget."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
        self.stores = ResultStores(self.store)
        self.shared = SharedMemory(tmp_path / "shared", 100_000_000)
        self.files = ResultFiles(tmp_path, self.shared, "w-1")
        self.resolver = Resolver(self.stores, files=self.files)
        self.tools: dict[str, FakeTool] = {}
        self.budget = TimeBudget(60.0)
        self.lease = Lease()
        self.scratch = tmp_path
        # the version of the protocol that the control plane speaks
        self.wire = VERSION

    def tool(self, name: str, *script: Any) -> FakeTool:
        self.tools[name] = FakeTool(*script)
        return self.tools[name]

    @property
    def executor(self) -> Executor:
        async def credential(name: str) -> Credential:
            return Credential(name, "fake", {"password": "s3cr3t-value", "user": "ann"})

        load: Any = self.tools.__getitem__
        python: Any = None
        toolbox = Toolbox(
            load_tool=load,
            python=python,
            credential=credential,
            stores=self.stores,
            resolver=self.resolver,
            scratch=self.scratch,
            files=self.files,
            supports=lambda version: self.wire >= version,
        )
        return Executor(toolbox, "w-1")

    def command(self, each: Step, **more: Any) -> ClaimedCommand:
        return claimed(each.name, **more)

    async def run(self, each: Step, *, ctx: Any = None, steps: Any = None, variables: Any = None, **more: Any) -> Any:
        scope = {"ctx": ctx or {}, "steps": steps or {}, **({"vars": variables} if variables else {})}
        command = self.command(each, scope=scope, **more)
        return await self.executor.run(command, plan(each), self.budget, self.lease)

    async def frame(
        self, each: Step, items: Sequence[Any], /, concurrency: int = 1, start: int = 0, **more: Any
    ) -> Any:
        frame = Frame(index=0, start=start, end=start + len(items), concurrency=concurrency)
        more = {"count": start + len(items), "items": list(items), **more}
        return await self.run(each, kind="frame", frame=frame, **more)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.shared.close()
