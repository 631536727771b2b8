"""Every change to an execution: start, restart, claim, report, timers, and `controls`. The services call this class."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import State
from ..errors import InvalidRequest, NotFound, Unavailable
from ..playbook.plan import SHARED, Plan
from ..ports import CatalogEntry, EventStore
from ..protocol import (
    ClaimedCommand,
    ClaimRequest,
    ClaimResponse,
    CommandKey,
    HeartbeatRequest,
    HeartbeatResponse,
    Held,
    Instance,
    Outcome,
    ReportRequest,
    ReportResponse,
)
from ..records import (
    Claimant,
    DeadLetter,
    IdempotentStart,
    Lease,
    LoadedExecution,
    QuarantinedExecution,
    RelatedRestart,
    UnstorableCommit,
)
from ..results.stores import ResultStores
from .claims import Claims
from .commits import Commits
from .controls import Controls
from .handover import Handover, LocalWorker
from .idempotency_keys import find_start, stored_keys
from .notifications import Notifications
from .older_workers import OlderWorkers
from .payloads import Payloads
from .plans import Plans
from .reports import ReportBatch, Reports
from .start import (
    Started,
    check_agent,
    initial_values,
    new_root,
    repeated_start,
    request_hash,
    validated_payload,
    with_schedule,
)
from .transition import Transition

if TYPE_CHECKING:
    from ..inspection.restart import Restart
    from .restart import Restarted

logger = logging.getLogger(__name__)


# attempts of a start whose id or key another start takes first, of the same principal or of another
MAX_START_ATTEMPTS = 3


def wall_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Orchestrator:
    def __init__(
        self,
        event_store: EventStore,
        playbooks: Plans,
        notifications: Notifications,
        *,
        clock: Callable[[], int] = wall_clock,
        on_commit: Callable[[LoadedExecution], None] = lambda execution: None,
        results: Callable[[], ResultStores] | None = None,
        register: Callable[[Instance], Awaitable[object]] | None = None,
    ) -> None:
        """`results` makes the result stores, where workers put what is too large for a report; `register` writes a
        worker into the registry."""
        self._event_store = event_store
        self._playbooks = playbooks
        self._notifications = notifications
        self._clock = clock
        self._register = register
        self._results = results
        payloads = Payloads(results)
        self._claims = Claims(event_store, playbooks)
        self._handover = Handover(self._claims)
        self._commits = Commits(event_store, playbooks, payloads, notifications, clock, on_commit, self._handover)
        self.controls = Controls(event_store, self._commits, clock)
        self._older_workers = OlderWorkers(payloads)
        self._reports = Reports(event_store, playbooks, payloads, self._commits, self._claims, clock)

    def connect_worker(self, worker: LocalWorker, pool: str = SHARED) -> None:
        """Hand over to `worker`, which runs in this process, what no other worker of the pool has asked for."""
        self._handover.connect(worker, pool)

    # -- users

    async def start(
        self,
        *,
        path: str | None = None,
        catalog_id: str | None = None,
        version: int | None = None,
        payload: dict[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        principal: Mapping[str, Any] | None = None,
        announce: Callable[[str], None] = lambda execution_id: None,
        origin: Mapping[str, str] | None = None,
        agents_only: bool = False,
    ) -> Started:
        """Start an execution. `principal`: who or what starts it; its children inherit it, and the idempotency key
        belongs to it. `schedule`: what a playbook may request as `workload.schedule`. `announce` is called with the id
        before it begins. `origin`: the executions that it comes from, by relation; the log keeps them, and nothing
        depends on them. `agents_only`: refuse what is no agent. Raises NotFound, InvalidRequest, and Conflict for a key
        that has started something else."""
        entry = await self._playbooks.entry(path, version, catalog_id)
        if agents_only:
            await asyncio.to_thread(check_agent, entry)
        requested_version = entry.version if catalog_id is not None else version
        workload = payload or {}
        if schedule is not None:
            workload = with_schedule((await self._playbooks.plan(entry.hash)).workload, workload, schedule)
        for _ in range(MAX_START_ATTEMPTS):
            key: str | None = None
            if idempotency_key is not None:
                key_or_start = await self._key_or_start(idempotency_key, principal)
                if isinstance(key_or_start, IdempotentStart):
                    return repeated_start(key_or_start, entry.path, requested_version, workload, origin)
                key = key_or_start
            started = await self._start_once(entry, workload, key, principal, announce, origin)
            if started is not None:
                return started
        raise Unavailable("the id of the execution is already in use; try again")

    async def check_start(self, path: str, version: int, payload: Mapping[str, Any]) -> None:
        """Raises NotFound, and InvalidRequest for a payload with which no execution of the playbook would start."""
        entry = await self._playbooks.entry(path, version)
        initial_values(await self._playbooks.plan(entry.hash), validated_payload(payload))

    async def find_started(self, idempotency_key: str, principal: Mapping[str, Any] | None) -> str | None:
        """The execution that this principal has started under the key, whatever its playbook and its payload."""
        start = await self._key_or_start(idempotency_key, principal)
        return start.execution_id if isinstance(start, IdempotentStart) else None

    async def _key_or_start(self, idempotency_key: str, principal: Mapping[str, Any] | None) -> str | IdempotentStart:
        """What this principal has started under the key; else the key as it is to be stored."""
        found = await self._event_store.starts_by_key(stored_keys(idempotency_key, principal))
        return find_start(found, idempotency_key, principal)

    async def _start_once(
        self,
        entry: CatalogEntry,
        payload: dict[str, Any],
        key: str | None,
        principal: Mapping[str, Any] | None,
        announce: Callable[[str], None],
        origin: Mapping[str, str] | None,
    ) -> Started | None:
        """None if its id or its key is taken."""
        plan = await self._playbooks.plan(entry.hash)
        new = new_root(entry, plan, payload, self._clock(), key, principal, origin)
        transition = Transition(new.execution, plan)
        transition.apply(new.fact)
        if not await self._write_start(transition, new.row, announce):
            return None
        return Started(new.execution.execution_id, sum(event.type == e.ISSUED for event in transition.events))

    async def _write_start(self, transition: Transition, row: dict[str, Any], announce: Callable[[str], None]) -> bool:
        """Whether it is started; not if its id or its key is taken."""
        announce(transition.execution.execution_id)
        try:
            result = await self._commits.write([transition.to_commit(row)])
        except UnstorableCommit as error:
            raise InvalidRequest(f"the execution cannot be stored: {error}") from error
        return bool(result.committed)

    async def restart(
        self,
        execution_id: str,
        events: Sequence[Event],
        workload: Mapping[str, Any],
        *,
        step: str | None = None,
        version: int | Literal["latest"] | None = None,
        payload: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        principal: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        announce: Callable[[str], None] = lambda execution_id: None,
    ) -> Restarted:
        """Start an execution that goes on with one that has ended, whose log and workload are given, from `step`, by
        default from what has failed or was under way; in the same version of its playbook by default. The other
        parameters are as in `start`; with `dry_run` nothing is started. Raises NotFound, InvalidRequest, and Conflict
        for an execution that cannot be restarted, and for a key that has started something else."""
        # restarts are rare, and a cold start does not need them
        from ..inspection.restart import restart
        from .related_restarts import check_related
        from .restart import Restarted, check_results, restart_transition

        origin = next((event.payload for event in events if event.seq == 1), None)
        if origin is None:
            raise NotFound(f"there is no execution {execution_id}")
        wanted = origin["version"] if version is None else None if version == "latest" else version
        recorded = await self._playbooks.plan(origin["plan"])
        changes = payload or {}
        request = ("restart", execution_id, step)
        goes_on_with = partial(restart, execution_id, events, workload)
        for _ in range(MAX_START_ATTEMPTS):
            key: str | None = None
            if idempotency_key is not None:
                key_or_start = await self._key_or_start(idempotency_key, principal)
                if isinstance(key_or_start, IdempotentStart):
                    earlier = repeated_start(key_or_start, origin["path"], wanted, changes, restart=request)
                    entry = await self._playbooks.entry(origin["path"], key_or_start.version)
                    plan = await self._playbooks.plan(entry.hash)
                    again = await asyncio.to_thread(goes_on_with, recorded, plan, step, changes, version=entry.version)
                    return Restarted(earlier.execution_id, entry.version, again, replayed=True)
                key = key_or_start
            entry = await self._playbooks.entry(origin["path"], wanted)
            plan = await self._playbooks.plan(entry.hash)
            goes_on = await asyncio.to_thread(goes_on_with, recorded, plan, step, changes, version=entry.version)
            if goes_on.references and self._results is not None:
                await check_results(goes_on, self._results(), datetime.fromtimestamp(self._clock() / 1000, UTC))
            hashed = request_hash(entry.path, entry.version, validated_payload(changes), *request) if key else None
            keys = {"idempotency_key": key, "request_hash": hashed}
            transition, row = restart_transition(
                goes_on, entry, plan, workload, changes, self._clock(), keys, principal
            )
            row["seen"] = await self._check_running(goes_on)
            related = await self._event_store.related_restarts(execution_id)
            check_related(goes_on, related, await self._archived_plans(entry.path, related))
            row |= {"related": [other.execution_id for other in related], "undoes": bool(goes_on.undoes)}
            if dry_run:
                return Restarted(None, entry.version, goes_on)
            if await self._write_start(transition, row, announce):
                issued = sum(event.type == e.ISSUED for event in transition.events)
                return Restarted(transition.execution.execution_id, entry.version, goes_on, issued)
        raise Unavailable("the id of the execution is already in use; try again")

    async def _archived_plans(self, path: str, related: Sequence[RelatedRestart]) -> dict[str, Plan]:
        """Of those of which it is not known what they have undone, if the playbook still has their versions."""
        plans: dict[str, Plan] = {}
        for other in related:
            if other.may_have_undone:
                with contextlib.suppress(NotFound):
                    entry = await self._playbooks.entry(path, other.version)
                    plans[other.execution_id] = await self._playbooks.plan(entry.hash)
        return plans

    async def _check_running(self, restart: Restart) -> list[str]:
        """What still runs of what has done the same before. Raises Conflict if some of it has still to undo what it has
        done: it would be done again meanwhile."""
        from .related_restarts import check_running

        below = await self._event_store.running_restarts(restart.execution_id)
        running = await self._event_store.load(list(below))
        plans = {it.plan_hash: await self._playbooks.plan(it.plan_hash) for it in running.values()}
        check_running(restart, below, [(it.state, plans[it.plan_hash]) for it in running.values()])
        return list(below)

    async def state(self, execution_id: str) -> State:
        """The current state of an execution; raises NotFound."""
        execution = (await self._event_store.load([execution_id])).get(execution_id)
        if execution is None:
            raise NotFound(f"there is no execution {execution_id}")
        return execution.state

    async def states(self, execution_ids: Sequence[str]) -> list[State]:
        """Of those that are stored."""
        found = await self._event_store.load(execution_ids) if execution_ids else {}
        return [execution.state for execution in found.values()]

    # -- workers

    async def claim(self, request: ClaimRequest) -> ClaimResponse:
        async with self._registering(request.instance):
            return await self._claim(request)

    async def _claim(self, request: ClaimRequest) -> ClaimResponse:
        claimant = Claimant(request.worker_id, request.pool, request.lease, request.limit)
        leases: list[Lease] = []
        if request.recover:
            leases = await self._event_store.recover_leases(request.worker_id, request.lease, request.holding)
        elif request.limit:
            leases = await self._event_store.claim(claimant, request.commands or None)
        commands = await self._claims.to_commands(*await self._commits.readable(request.worker_id, leases))
        return ClaimResponse(commands=commands, plans=await self._claims.playbook_texts(commands, request.plans))

    async def for_older_worker(self, worker_id: str, commands: Sequence[ClaimedCommand]) -> list[ClaimedCommand]:
        """Those of `commands` that the worker, of the previous release, can run; the others are released."""
        converted = [(command, await self._older_workers.without_references(command)) for command in commands]
        await self._commits.return_to_newer(worker_id, [command for command, readable in converted if readable is None])
        return [readable for _, readable in converted if readable is not None]

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        async with self._registering(request.instance):
            kept = (
                await self._event_store.extend_leases(request.worker_id, request.commands, request.lease)
                if request.commands
                else set()
            )
        lost = [key for key in request.commands if (key.execution_id, key.command_id, key.fence) not in kept]
        return HeartbeatResponse(
            lost=[CommandKey(execution_id=key.execution_id, command_id=key.command_id) for key in lost]
        )

    @contextlib.asynccontextmanager
    async def _registering(self, instance: Instance | None) -> AsyncIterator[None]:
        """Beside what is done meanwhile; a failure of the registry is none of it."""
        if instance is None or self._register is None:
            yield
            return
        registering = asyncio.ensure_future(self._register(instance))
        try:
            yield
        finally:
            try:
                await registering
            except Exception as error:
                logger.warning("the registry does not know of %s: %s", instance.name, type(error).__name__)

    async def report(self, request: ReportRequest) -> ReportResponse:
        batch = ReportBatch.of(request)
        if released := [outcome for outcome in request.outcomes if outcome.status == "released"]:
            await self._return_released(batch, released)
        await self._reports.process(batch)
        results = [batch.results[item.execution_id, item.command_id, item.fence] for item in request.outcomes]
        plans = await self._claims.playbook_texts(batch.commands, request.plans)
        return ReportResponse(results=results, commands=batch.commands, plans=plans)

    async def return_commands(self, worker_id: str, commands: Sequence[ClaimedCommand]) -> None:
        """Release commands that were claimed for a worker and are not sent to it after all."""
        held = [Held.of(command) for command in commands]
        await self._notifications.notify(await self._event_store.release_leases(worker_id, held))

    async def _return_released(self, batch: ReportBatch, released: list[Outcome]) -> None:
        not_begun: list[Held] = []
        begun: list[Held] = []
        for outcome in released:
            # a worker sets `started_at` for what it had begun
            (begun if "started_at" in outcome.meta else not_begun).append(Held.of(outcome))
        pending = await self._event_store.release_leases(batch.request.worker_id, not_begun, begun)
        pending_keys = {(key.execution_id, key.command_id) for _, key in pending}
        for outcome in released:
            batch.settle(outcome, "accepted" if (outcome.execution_id, outcome.command_id) in pending_keys else "stale")
        await self._notifications.notify(pending)

    # -- the reconciler

    async def fire_timer(self, execution_id: str, timer: str, step: str, generation: int) -> bool:
        """Fire a timer that is due; False if it is no longer set."""
        fact = Event(e.TIMER_FIRED, self._clock(), step=step, generation=generation, payload={"timer": timer})
        return await self._commits.commit_fact(execution_id, fact, (timer, 0)) is not None

    async def newest_plan(self, path: str) -> tuple[int, Plan]:
        """The newest version of a playbook, and its plan. Raises NotFound."""
        entry = await self._playbooks.entry(path, None)
        return entry.version, await self._playbooks.plan(entry.hash)

    async def plan(self, hash: str) -> Plan:
        """The plan of the playbook with this hash. Raises NotFound."""
        return await self._playbooks.plan(hash)

    async def plan_of(self, execution_id: str) -> Plan | None:
        """The execution's plan; None if its row is lost, and with it the hash of its playbook."""
        executions = await self._event_store.load([execution_id])
        return await self._playbooks.plan(executions[execution_id].plan_hash) if executions else None

    async def fail_undeliverable(self, dead_letter: DeadLetter) -> bool:
        """Fail the step of a command that was delivered too often, and keep the command as a dead letter."""
        message = (
            f"the command was delivered to {dead_letter.deliveries} workers and none reported an outcome; "
            f"the last was {dead_letter.worker}. It may crash its worker: see the worker's log"
        )
        outcome = Outcome(
            execution_id=dead_letter.execution_id,
            command_id=dead_letter.command_id,
            fence=dead_letter.fence,
            status="error",
            error={"kind": "engine", "code": "command.delivery_limit", "message": message, "retryable": False},
            meta={"deliveries": dead_letter.deliveries},
        )
        batch = ReportBatch.of(ReportRequest(worker_id=dead_letter.worker or "reconciler", outcomes=[outcome]))
        await self._reports.process(batch)
        if batch.results[dead_letter.execution_id, dead_letter.command_id, dead_letter.fence].status != "accepted":
            return False
        await self._event_store.add_dead_letter(dead_letter)
        return True

    async def process_inbox(self, execution_id: str) -> bool:
        """Process the inbox of an execution; whether this advanced it."""
        return await self._commits.process_inbox(execution_id)

    # -- quarantine

    async def quarantined_executions(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        """As `EventStore.list_quarantined`."""
        return await self._event_store.list_quarantined(limit, after)

    async def quarantined_execution(self, execution_id: str) -> QuarantinedExecution:
        """With its facts. Raises NotFound."""
        found = await self._event_store.get_quarantined(execution_id)
        if found is None:
            raise NotFound(f"execution {execution_id} is not in quarantine")
        return found

    async def retry_quarantined(self, execution_id: str) -> State:
        """Let an execution in quarantine continue as it was: what could not be decided is decided again. Raises
        NotFound, and Conflict if it is not in quarantine."""
        await self._commits.commit_retry(execution_id, self._clock())
        return await self.state(execution_id)

    async def drop_quarantined(self, execution_id: str, by: Mapping[str, Any] | None = None) -> None:
        """Leave it as it ended and cancel its running children; `by`: who requests it, for the log. Raises NotFound."""
        if not await self._commits.commit_drop(execution_id, self._clock(), by):
            raise NotFound(f"execution {execution_id} is not in quarantine")
