"""The whole engine in one process: the orchestrator and a worker's executor, over stores in memory."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..orchestrator.notifications import Notifications
from ..orchestrator.orchestrator import Orchestrator
from ..orchestrator.plans import Plans
from ..protocol import ClaimedCommand, ClaimRequest, Outcome, ReportRequest
from ..results.files import ResultFiles
from ..results.reader import Resolver
from ..results.store import FsspecResultStore
from ..results.stores import ResultStores
from ..tools.port import Credential
from ..tools.python_pool import PythonPool
from ..worker.execution.executor import Executor
from ..worker.execution.time_budget import TimeBudget
from ..worker.execution.toolbox import LoadTool, Toolbox
from .catalog import MemoryCatalog
from .event_store import MemoryEventStore
from .rows import manifest_parts

WORKER = "memory"
BATCH_COMMANDS = 64
LEASE_SECONDS = 3600


class MemoryEngine:
    """Delays take no time: when nothing is left to run, the clock moves to the next timer."""

    def __init__(
        self,
        load_tool: LoadTool,
        scratch: Path,
        *,
        python: PythonPool,
        credential: Callable[[str], Awaitable[Credential]],
        now: float,
        allow_private_http: bool = False,
        answer_waits: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`load_tool`: the tool of a kind; `scratch`: a folder for the tools' files; `credential` raises KeyError if
        there is none of that name; `now`: where the clock begins, in seconds since 1970; `answer_waits` is called
        before the clock moves, and returns whether it has sent a signal."""
        self.now = now
        self._answer_waits = answer_waits or _no_answer
        self.catalog = MemoryCatalog()
        self.event_store = MemoryEventStore(lambda: self.now)
        self.results = ResultStores(FsspecResultStore(f"memory://{secrets.token_hex(8)}"))
        files = ResultFiles(scratch)
        self.resolver = Resolver(self.results, self._manifest, files=files)
        self._plans = Plans(self.catalog)
        self.orchestrator = Orchestrator(
            self.event_store,
            self._plans,
            Notifications(None, None),
            clock=lambda: int(self.now * 1000),
            results=lambda: self.results,
        )
        toolbox = Toolbox(
            load_tool=load_tool,
            python=python,
            credential=credential,
            stores=self.results,
            resolver=self.resolver,
            scratch=scratch,
            files=files,
            allow_private_http=allow_private_http,
        )
        self._executor = Executor(toolbox, WORKER)

    async def start(self, path: str, payload: dict[str, Any]) -> str:
        """The id of a new execution of a registered playbook. Raises NotFound, and InvalidRequest for a payload that
        does not fit."""
        return (await self.orchestrator.start(path=path, payload=payload)).execution_id

    async def run_until_idle(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Run until no command is pending or waits for a rate, and no timer is set, or `stop`, which is called between
        commands, returns true. A command whose tool was cancelled stays leased."""
        while not stop() and (await self._run_pending() or await self._answer_waits() or await self._move_clock()):
            pass

    async def _run_pending(self) -> bool:
        request = ClaimRequest(worker_id=WORKER, limit=BATCH_COMMANDS, lease=LEASE_SECONDS)
        commands = (await self.orchestrator.claim(request)).commands
        outcomes = [await self._execute(command) for command in commands]
        for outcome in outcomes:
            if outcome.status != "released":
                await self.orchestrator.report(ReportRequest(worker_id=WORKER, outcomes=[outcome]))
        return bool(commands)

    async def _execute(self, command: ClaimedCommand) -> Outcome:
        return await self._executor.run(command, await self._plans.plan(command.plan), _NoSleep())

    async def _move_clock(self) -> bool:
        """To the next timer, or to when a command that waits for a rate may begin, whichever comes first."""
        timers = [row.row for row in self.event_store.commands.values() if row.status == "timer"]
        row = min(timers, key=lambda row: (row["due"], row["command"]), default=None)
        seconds = (await self.event_store.startable(1)).next_start
        if seconds and (row is None or self.now + seconds < row["due"] / 1000):
            # of a float, the sum may fall short
            self.now += seconds + 1e-6
            return True
        if row is None:
            return False
        self.now = max(self.now, row["due"] / 1000)
        return await self.orchestrator.fire_timer(row["id"], row["command"], row["step"], row["generation"])

    async def _manifest(self, execution_id: str, step: str, generation: int, after: int) -> dict[str, Any]:
        """The whole manifest as one page, because it is in memory."""
        events = await self.event_store.events(execution_id)
        return {"parts": manifest_parts(events, step, generation)}


class _NoSleep(TimeBudget):
    """Every delay suspends its command at once, so that the clock can be moved instead."""

    def __init__(self) -> None:
        super().__init__(1_000_000.0)

    def until_closing(self) -> float:
        return 0.0


async def _no_answer() -> bool:
    return False
