"""`Worker`: lives as long as the process, and runs one drain at a time."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import Problem
from ..limits import MIB
from ..playbook.plan import SHARED
from ..ports import Notifier
from ..protocol import ClaimedCommand, CommandKey, HeartbeatRequest, Instance, Outcome
from ..records import Claimant
from ..results.files import ResultFiles
from ..results.reader import Resolver
from ..results.shared_memory import SharedMemory
from ..results.stores import ResultStores
from ..settings import Settings
from ..telemetry.presence import ALONE_AFTER_SECONDS, Presence, Status, described, instance_id
from ..tools.python_pool import PythonPool
from .archive import ArchiveWriter
from .client import ControlPlane
from .drain.context import Requests, WorkerContext
from .drain.drain import Drain
from .drain.offer import Offer
from .execution.background_write import BackgroundWrite
from .execution.errors import step_error
from .execution.executor import Executor, failed, released
from .execution.lease import Lease
from .execution.time_budget import GRACE_SECONDS, TimeBudget
from .execution.toolbox import LoadTool, Toolbox
from .orchestrator import Orchestrator
from .plans import Compile, PlanCache

logger = logging.getLogger(__name__)

# how long the registry is waited for
REGISTRY_SECONDS = 2.0


def wall_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Worker:
    def __init__(
        self,
        settings: Settings,
        client: ControlPlane,
        notifier: Notifier,
        stores: ResultStores,
        load_tool: LoadTool,
        python_pool: PythonPool,
        compile_plan: Compile,
        *,
        id: str | None = None,
        orchestrator: Orchestrator | None = None,
        shared_memory: SharedMemory | None = None,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        """`load_tool`: kind -> tool (`tools.registry.load`); `compile_plan`: text -> Plan; `id`: under which `stores`
        know it; `orchestrator`: if commands are not claimed through `client`; `grace`: seconds that running commands
        get to end after `stop`; `clock`: milliseconds since 1970."""
        self.settings = settings
        self.client = client
        self._orchestrator = orchestrator or client
        self.notifier = notifier
        self.plans = PlanCache(compile_plan)
        # one id per process, so that leases granted in a lost answer can be recovered
        self.id = id or instance_id()
        self.presence = Presence(
            described(
                "worker_pool",
                self.id,
                pool=settings.pool,
                capacity=settings.max_in_flight,
                labels=dict(settings.labels),
                meta={"function": settings.function, "host": settings.host, "orchestrator": settings.orchestrator},
            )
        )
        self.python = python_pool
        self.clock = clock
        self._grace = grace
        self._scratch = Path(settings.scratch or tempfile.gettempdir())
        self._shared_memory = shared_memory
        files = ResultFiles(self._scratch, shared_memory, self.id)
        self._stores = stores
        self.archive_writer = ArchiveWriter(client, lambda: stores.objects(), self._scratch, self.id)
        toolbox = Toolbox(
            load_tool=load_tool,
            python=python_pool,
            credential=client.credential,
            stores=stores,
            resolver=Resolver(stores, client.manifest, files=files),
            scratch=self._scratch,
            files=files,
            allow_private_http=settings.http_allow_private,
            secrets=client,
            supports=self._orchestrator.supports,
        )
        self._executor = Executor(toolbox, self.id)
        self._drain: Drain | None = None
        # prepared by an offer; `_start_drain` lets it be run
        self._is_prepared = False
        self._start_drain: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests = Requests()
        self._stopped = False
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def facts(self) -> dict[str, str]:
        """What its readiness page says of it."""
        shared = self._shared_memory
        return {"shared_memory": "off" if shared is None else f"memory, {shared.budget // MIB} MiB"}

    async def drain(
        self, seconds: float, *, sweep: bool = False, commands: Sequence[CommandKey] = ()
    ) -> dict[str, Any]:
        """Work until there is nothing left to do or `seconds` have nearly passed; returns a summary.

        One drain runs at a time: a call during a drain makes it look for work again, and returns at once. `sweep`:
        also claim whatever is pending, because the bus may have lost pointers. `commands`: commands to claim first,
        before the bus points to them.
        """
        self._requests.sweep |= sweep
        if self._stopped and not self._is_prepared:
            return {"status": "stopped"}
        if self._drain is not None and not self._is_prepared:
            self._requests.notified = True
            return {"status": "draining"}
        drain = self._drain or self._prepare_drain(seconds)
        self._is_prepared = False
        try:
            summary = await drain.run(commands)
        finally:
            self._drain = None
            self._ended.set()
        notified, sweep = self._requests.take_notified(), self._requests.take_sweep()
        more = summary.more or notified or sweep
        return {"status": "stopped" if self._stopped else "drained", **asdict(summary), "more": more}

    def _prepare_drain(self, seconds: float) -> Drain:
        self._loop = asyncio.get_running_loop()
        context = WorkerContext(
            worker_id=self.id,
            settings=self.settings,
            orchestrator=self._orchestrator,
            notifier=self.notifier,
            plans=self.plans,
            execute=self.execute,
            unfinished=self._stores.unfinished,
            presence=self.presence,
            clock=self.clock,
        )
        self._drain = Drain(context, TimeBudget(seconds, grace=self._grace), self._requests)
        self._ended.clear()
        return self._drain

    # -- what is handed over by the orchestrator in this process: see `orchestrator.handover.LocalWorker`

    def accept_offers(self, start_drain: Callable[[], object]) -> None:
        """Take commands from now on. `start_drain`: let `drain` be called soon."""
        self._start_drain = start_drain

    def offer(self, limit: int) -> Offer | None:
        if self._stopped or self._start_drain is None:
            return None
        if self._drain is None:
            self._prepare_drain(self.settings.time_budget)
            self._is_prepared = True
            self._start_drain()
        assert self._drain is not None
        return self._drain.offer(limit)

    async def take(self, offer: Claimant, commands: Sequence[ClaimedCommand], plans: Mapping[str, str]) -> None:
        # a drain does not end while an offer is open
        assert isinstance(offer, Offer) and self._drain is not None
        await self._drain.take_offered(offer, commands, plans)

    def knows(self) -> Sequence[str]:
        return self.plans.recent()

    # -- in the registry

    async def show(self, status: Status, *, after: float = 0.0) -> None:
        """Tell the registry, if it is at least so many seconds since the last time. It never fails."""
        try:
            if not self._orchestrator.supports(3):
                # nothing has been answered yet, or by the release before
                await self._heartbeat(None)
                if not self._orchestrator.supports(3):
                    return
            is_busy = self._drain is not None and not self._is_prepared
            running = len(self._drain.slots.running) if self._drain is not None else 0
            shown: Status = "busy" if is_busy and status != "ended" else status
            if (instance := self.presence.due(shown, running, after=after)) is not None:
                await self._heartbeat(instance)
        except Problem as problem:
            self.presence.forget()
            logger.info("the registry was not reached: %s", problem.detail)

    async def _heartbeat(self, instance: Instance | None) -> None:
        request = HeartbeatRequest(worker_id=self.id, commands=[], instance=instance)
        await self._orchestrator.heartbeat(request, timeout=REGISTRY_SECONDS)

    async def keep_showing(self, status: Status) -> None:
        """Until cancelled: `status` between two drains."""
        while True:
            await self.show(status, after=ALONE_AFTER_SECONDS)
            await asyncio.sleep(ALONE_AFTER_SECONDS)

    def start_python(self) -> None:
        """Start the Python processes before the first command needs one. On a laptop, where all pools share the
        machine, those beside `shared` wait for their first command."""
        if self.settings.host != "local" or self.settings.pool == SHARED:
            self.python.start()

    def stop(self) -> None:
        """Claim nothing more, let running commands end within the grace period, and release the rest. May be called
        from a signal handler."""
        self._stopped = True
        drain, loop = self._drain, self._loop
        if drain is not None and loop is not None:
            drain.budget.stop()
            loop.call_soon_threadsafe(drain.slots.wake)

    async def close(self) -> None:
        """Stop, wait for the drain to end, and close the Python processes and the client."""
        self.stop()
        await self._ended.wait()
        if self.presence.shown is not None:
            await self.show("ended")
        await self.python.close()
        await self.client.close()

    async def execute(
        self, command: ClaimedCommand, budget: TimeBudget, lease: Lease, write: BackgroundWrite | None = None
    ) -> Outcome:
        plan = self.plans.get(command.plan)
        if plan is None and (fault := self.plans.compile_error(command.plan)) is not None:
            message = f"this worker cannot compile the playbook: {fault}"
            return failed(command, step_error("worker", "worker.no_plan", message))
        if plan is None:
            # the next claim does not name it as cached, so the control plane will send it
            logger.warning("no plan for a command", extra={"execution_id": command.execution_id})
            return released(command)
        return await self._executor.run(command, plan, budget, lease, write)
