"""Every change of an execution: start, report, timers, cancellation. Each is loaded, decided, committed and told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine import events as e
from ..engine.decide import MAX_DEPTH
from ..engine.events import Event
from ..engine.state import State
from ..errors import InvalidRequest, NotFound, Unavailable
from ..protocol import (
    ClaimedCommand,
    ClaimRequest,
    ClaimResponse,
    CommandKey,
    HeartbeatRequest,
    HeartbeatResponse,
    Held,
    Outcome,
    ReportRequest,
    ReportResponse,
    ReportResult,
)
from ..store.log import Case, Claimant, Committed, Dead, Log, Part
from .cases import Cases
from .dispatch import Dispatch
from .doorbell import Doorbell
from .facts import fact_of, references
from .openings import Opening, Started, open_child, open_root
from .playbooks import Playbooks
from .turn import Turn

logger = logging.getLogger(__name__)

# how often a commit that lost its race is decided anew before the caller is told to come back
ATTEMPTS = 12


def wall_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Batch:
    """What a worker reported, by execution, and what became of it."""

    work: dict[str, list[Outcome]]
    results: dict[tuple[str, str], ReportResult] = field(default_factory=dict)
    commands: list[ClaimedCommand] = field(default_factory=list)
    # executions that were given a fact, to be gone on with
    follow: list[str] = field(default_factory=list)

    def settle(self, outcome: Outcome, status: Any, detail: str | None = None) -> None:
        key = (outcome.execution_id, outcome.command_id)
        self.results[key] = ReportResult(
            execution_id=outcome.execution_id, command_id=outcome.command_id, status=status, detail=detail
        )


class Ledger:
    def __init__(
        self,
        log: Log,
        playbooks: Playbooks,
        doorbell: Doorbell,
        *,
        clock: Callable[[], int] = wall_clock,
        on_commit: Callable[[str], None] = lambda execution_id: None,
    ) -> None:
        self._log = log
        self._playbooks = playbooks
        self._doorbell = doorbell
        self._clock = clock
        self._on_commit = on_commit
        self._cases = Cases(log)
        self._dispatch = Dispatch(log, playbooks)

    # -- start

    async def start(
        self,
        *,
        path: str | None = None,
        catalog_id: str | None = None,
        version: int | None = None,
        payload: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Started:
        """Open an execution. Raises NotFound, InvalidRequest, and Conflict for a key that started something else."""
        entry = await self._playbooks.entry(path, version, catalog_id)
        plan = await self._playbooks.plan(entry.hash)
        opening = open_root(entry, plan, payload or {}, self._clock(), idempotency_key)
        if idempotency_key is not None and (known := await self._log.started(idempotency_key)):
            return opening.replay_of(*known)
        turn = Turn(opening.case, plan)
        turn.take(opening.fact)
        part = turn.part(opening.row)
        committed = await self._log.commit([part])
        await self._after([part], committed)
        if not committed.good:
            known = await self._log.started(idempotency_key) if idempotency_key else None
            if known is None:
                raise Unavailable("the execution's id was taken; try again")
            return opening.replay_of(*known)
        return Started(opening.case.execution_id, sum(event.type == e.ISSUED for event in turn.events))

    async def state(self, execution_id: str) -> State:
        """The execution as it stands now; raises NotFound."""
        case = (await self._log.load([execution_id])).get(execution_id)
        if case is None:
            raise NotFound(f"there is no execution {execution_id}")
        return case.state

    # -- workers

    async def claim(self, request: ClaimRequest) -> ClaimResponse:
        claimant = Claimant(request.worker_id, request.pool, request.lease, request.limit)
        leases = []
        if request.recover:
            leases = await self._log.held(request.worker_id, request.lease, request.holding)
        elif request.limit:
            leases = await self._log.claim(claimant, request.commands or None)
        if not leases:
            return ClaimResponse(commands=[])
        cases = await self._cases.get(lease.execution_id for lease in leases)
        commands = await self._dispatch.commands(leases, cases)
        return ClaimResponse(commands=commands, plans=await self._dispatch.plans(commands, request.plans))

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        kept = await self._log.extend(request.commands, request.lease)
        lost = [key for key in request.commands if (key.execution_id, key.command_id) not in kept]
        return HeartbeatResponse(
            lost=[CommandKey(execution_id=key.execution_id, command_id=key.command_id) for key in lost]
        )

    async def report(self, request: ReportRequest) -> ReportResponse:
        """Append what became of commands, decide what follows, and lease it to the worker that reports."""
        batch = Batch({})
        released = [outcome for outcome in request.outcomes if outcome.status == "released"]
        for outcome in request.outcomes:
            if outcome.status != "released":
                batch.work.setdefault(outcome.execution_id, []).append(outcome)
        if released:
            await self._release(batch, released)
        for attempt in range(ATTEMPTS):
            if not batch.work:
                break
            if attempt:
                await asyncio.sleep(0.001 * attempt)
            async with self._cases.alone(batch.work):
                await self._report(batch, request, fresh=attempt > 0)
        await self._follow(batch.follow)
        if batch.work:
            raise Unavailable("the executions are very busy; report again")
        results = [batch.results[(item.execution_id, item.command_id)] for item in request.outcomes]
        plans = await self._dispatch.plans(batch.commands, request.plans)
        return ReportResponse(results=results, commands=batch.commands, plans=plans)

    async def _report(self, batch: Batch, request: ReportRequest, fresh: bool) -> None:
        cases = await self._known(batch, fresh)
        held = await self._held(batch) if fresh else None
        turns: dict[str, Turn] = {}
        for id, outcomes in list(batch.work.items()):
            turn = await self._turn(cases[id]) if id in cases else None
            for outcome in outcomes:
                await self._take(batch, turn, outcome, request.worker_id, held)
            if turn is not None and turn.events:
                turns[id] = turn
            else:
                del batch.work[id]
        if not turns:
            return
        room = max(0, request.capacity - len(batch.commands))
        claimant = Claimant(request.worker_id, request.pool, request.lease, room) if room else None
        committed, cases = await self._commit(list(turns.values()), claimant)
        batch.commands += await self._dispatch.commands(committed.claimed, cases)
        batch.follow += committed.appended
        for id in committed.good & turns.keys():
            for outcome in batch.work.pop(id):
                if (id, outcome.command_id) not in batch.results:
                    batch.settle(outcome, "accepted")

    async def _known(self, batch: Batch, fresh: bool) -> dict[str, Case]:
        """The cases of a batch; loaded anew where the one at hand does not know a command that is reported."""
        cases = await self._cases.get(batch.work, fresh)
        if not fresh:
            odd = [
                id
                for id, outcomes in batch.work.items()
                if id in cases and any(item.command_id not in cases[id].state.commands for item in outcomes)
            ]
            if odd:
                cases.update(await self._cases.get(odd, fresh=True))
        return cases

    async def _held(self, batch: Batch) -> set[tuple[str, str]]:
        held = [
            Held(execution_id=item.execution_id, command_id=item.command_id, fence=item.fence)
            for outcomes in batch.work.values()
            for item in outcomes
        ]
        return await self._log.extend(held, 30.0)

    async def _take(
        self,
        batch: Batch,
        turn: Turn | None,
        outcome: Outcome,
        worker: str,
        held: set[tuple[str, str]] | None,
    ) -> None:
        key = (outcome.execution_id, outcome.command_id)
        command = turn.state.commands.get(outcome.command_id) if turn is not None else None
        if turn is None or command is None or (held is not None and key not in held):
            batch.settle(outcome, "stale", "the command is not this worker's any more")
            return
        try:
            fact = fact_of(outcome, command, self._clock(), worker)
        except InvalidRequest as error:
            batch.settle(outcome, "refused", error.detail)
            reason = {
                "kind": "engine",
                "code": "outcome.refused",
                "message": error.detail,
                "retryable": False,
            }
            kept = {"execution_id", "command_id", "fence", "meta"}
            outcome = Outcome(**outcome.model_dump(include=kept), status="error", error=reason)
            fact = fact_of(outcome, command, self._clock(), worker)
        if fact.type == e.CALL_PARKED:
            fact = await self._find_child(turn, fact)
        turn.refs += references(outcome, fact.step or "")
        turn.take(fact, (outcome.command_id, outcome.fence))

    async def _release(self, batch: Batch, released: list[Outcome]) -> None:
        held = [Held(execution_id=item.execution_id, command_id=item.command_id, fence=item.fence) for item in released]
        waiting = await self._log.release(held)
        back = {(key.execution_id, key.command_id) for _, key in waiting}
        for outcome in released:
            batch.settle(outcome, "accepted" if (outcome.execution_id, outcome.command_id) in back else "stale")
        await self._doorbell.ring(waiting)

    # -- other facts

    async def cancel(self, execution_id: str, reason: str, cascade: bool = True) -> tuple[str, list[str]]:
        """("cancelled" | "already_completed", all executions that were cancelled); raises NotFound."""
        children = await self._descendants(execution_id) if cascade else []
        payload = {"reason": reason, "cascade": cascade}
        fact = Event(e.CANCELLED, self._clock(), payload={**payload, "error": _cancelled(reason)})
        done = await self._append(execution_id, fact)
        return ("cancelled", [execution_id, *children]) if done else ("already_completed", [])

    async def fire(self, execution_id: str, timer: str, step: str, generation: int) -> bool:
        """A timer is due; False if it fired already."""
        fact = Event(e.TIMER_FIRED, self._clock(), step=step, generation=generation, payload={"timer": timer})
        return await self._append(execution_id, fact, (timer, 0))

    async def bury(self, dead: Dead) -> bool:
        """Give up a command that was delivered too often: its step fails, and the command is kept for a look."""
        message = (
            f"the command was given to {dead.deliveries} workers and none came back; "
            f"the last was {dead.worker}. It may kill its worker: see the worker's log"
        )
        error = {"kind": "engine", "code": "delivery_limit", "message": message, "retryable": False}
        outcome = Outcome(
            execution_id=dead.execution_id,
            command_id=dead.command_id,
            fence=dead.fence,
            status="error",
            error=error,
            meta={"deliveries": dead.deliveries},
        )
        batch = Batch({dead.execution_id: [outcome]})
        request = ReportRequest(worker_id=dead.worker or "reconciler", outcomes=[outcome])
        for attempt in range(ATTEMPTS):
            async with self._cases.alone(batch.work):
                await self._report(batch, request, fresh=True)
            if not batch.work:
                break
            await asyncio.sleep(0.001 * attempt)
        await self._follow(batch.follow)
        buried = batch.results.get((dead.execution_id, dead.command_id))
        if buried is None or buried.status != "accepted":
            return False
        await self._log.bury(dead)
        return True

    async def advance(self, execution_ids: Iterable[str]) -> int:
        """Decide the facts that were appended and not yet decided; returns how many executions went on."""
        return sum([await self._append(id, None) for id in execution_ids])

    async def _append(self, execution_id: str, fact: Event | None, closes: tuple[str, int] | None = None) -> bool:
        """One fact from elsewhere than a worker. False if it changes nothing; raises NotFound."""
        for attempt in range(ATTEMPTS):
            async with self._cases.alone([execution_id]):
                case = (await self._cases.get([execution_id], fresh=True)).get(execution_id)
                if case is None:
                    raise NotFound(f"there is no execution {execution_id}")
                if fact is None and case.state.seq == case.head:
                    return False
                if fact is not None and (case.state.ended or (closes and closes[0] not in case.state.timers)):
                    return False
                turn = await self._turn(case)
                if fact is not None:
                    turn.take(fact, closes)
                committed, _ = await self._commit([turn], None)
            if committed.good:
                await self._follow(committed.appended)
                return True
            await asyncio.sleep(0.001 * attempt)
        raise Unavailable(f"execution {execution_id} is very busy; try again")

    async def _descendants(self, execution_id: str) -> list[str]:
        found: list[str] = []
        queue = [execution_id]
        while queue:
            children = await self._log.children(queue.pop())
            found += children
            queue += children
        return found

    # -- turns and commits

    async def _turn(self, case: Case) -> Turn:
        """A turn on the case, the facts that nobody has decided yet decided first."""
        turn = Turn(case, await self._playbooks.plan(case.plan_hash))
        if case.state.seq < case.head:
            for fact in await self._log.undecided(case.execution_id, case.state.seq):
                turn.decide(fact)
        return turn

    async def _commit(self, turns: Sequence[Turn], claimant: Claimant | None) -> tuple[Committed, dict[str, Case]]:
        """Write the turns, and in the same transaction open the children they start. Gives all their cases too."""
        opened = [await self._open(turn, event) for turn in turns for event in turn.children]
        parts = [turn.part() for turn in turns] + [child.part(opening.row) for child, opening in opened]
        committed = await self._log.commit(parts, claimant)
        await self._after(parts, committed)
        return committed, {part.case.execution_id: part.case for part in parts}

    async def _open(self, parent: Turn, started: Event) -> tuple[Turn, Opening]:
        plan = await self._playbooks.plan(started.payload["plan_hash"])
        opening = open_child(parent.case, started, plan)
        turn = Turn(opening.case, plan)
        turn.take(opening.fact)
        return turn, opening

    async def _after(self, parts: Sequence[Part], committed: Committed) -> None:
        for part in parts:
            id = part.case.execution_id
            if id in committed.good:
                self._cases.keep(part.case)
                self._on_commit(id)
            else:
                self._cases.forget(id)
        for id in committed.appended:
            self._cases.forget(id)
        await self._doorbell.ring(committed.waiting)

    async def _follow(self, execution_ids: Sequence[str]) -> None:
        """Go on with executions that this commit gave a fact; what fails here the reconciler does."""
        for id in execution_ids:
            try:
                await self.advance([id])
            except Unavailable as error:
                logger.warning("execution %s goes on later: %s", id, error)

    async def _find_child(self, turn: Turn, fact: Event) -> Event:
        """The fact with the version of the sub-playbook fixed; an error fact if there is none."""
        child = fact.payload["child"]
        error: dict[str, Any] | None = None
        if turn.state.depth + 1 > MAX_DEPTH:
            message = f"playbooks may start each other {MAX_DEPTH} levels deep"
            error = {"kind": "playbook", "code": "child.too_deep", "message": message, "retryable": False}
        else:
            try:
                entry = await self._playbooks.entry(child["path"], child["version"])
                await self._playbooks.plan(entry.hash)
                found = {
                    "catalog_id": str(entry.catalog_id),
                    "version": entry.version,
                    "plan_hash": entry.hash,
                }
                return _with(fact, e.CALL_PARKED, {**fact.payload, "child": {**child, **found}})
            except NotFound as missing:
                error = {
                    "kind": "playbook",
                    "code": "child.not_found",
                    "message": missing.detail,
                    "retryable": False,
                }
        return _failed(turn, fact, error)


def _failed(turn: Turn, fact: Event, error: dict[str, Any]) -> Event:
    command = turn.state.commands[fact.command_id or ""]
    payload = {"error": error, "meta": fact.payload.get("meta", {})}
    if command.frame is None:
        return _with(fact, e.CALL_ERROR, payload)
    _, start, end, _ = command.frame
    items = {"start": start, "end": end, "ok": 0, "failed": end - start, "data": [None] * (end - start)}
    return _with(fact, e.FRAME_COMMITTED, {**payload, **items})


def _with(fact: Event, kind: str, payload: dict[str, Any]) -> Event:
    return Event(kind, fact.at, 0, None, fact.step, fact.generation, fact.command_id, payload)


def _cancelled(reason: str) -> dict[str, Any]:
    return {"kind": "engine", "code": "cancelled", "message": reason or "cancelled"}
