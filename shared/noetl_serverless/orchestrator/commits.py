"""From decided turns to the store, and on to whom it concerns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..errors import Busy, Conflict, NotFound, Problem, Unavailable
from ..limits import PAYLOADS_BYTES
from ..ports import EventStore, LockedExecution
from ..protocol import ClaimedCommand, Held
from ..records import Claimant, CommitResult, ExecutionCommit, Inbox, Lease, LoadedExecution, UnstorableCommit
from ..telemetry import metrics
from .children import again
from .execution_cache import Cases
from .notifications import Doorbell
from .payloads import REF, Payloads, weight_of
from .plans import Playbooks
from .quarantine import dropped, released
from .start import open_child
from .transition import Turn

logger = logging.getLogger(__name__)

# how often a commit that lost its race is decided anew before the caller is told to come back
ATTEMPTS = 12
# how often a cancellation races, before it locks the row
CANCELS = 3


class Commits:
    def __init__(
        self,
        log: EventStore,
        playbooks: Playbooks,
        payloads: Payloads,
        doorbell: Doorbell,
        clock: Callable[[], int],
        on_commit: Callable[[str, bool], None],
    ) -> None:
        """`clock`: milliseconds since 1970; `on_commit` hears of every execution that went on, and
        whether it has ended."""
        self.cases = Cases(log)
        self._log = log
        self._playbooks = playbooks
        self._payloads = payloads
        self._doorbell = doorbell
        self._clock = clock
        self._on_commit = on_commit

    async def turn(self, execution: LoadedExecution, worker: str | None = None) -> Turn:
        return Turn(execution, await self._playbooks.plan(execution.plan_hash), worker)

    async def commit(
        self, turns: Sequence[Turn], claimant: Claimant | None = None
    ) -> tuple[CommitResult, dict[str, LoadedExecution]]:
        """Write the turns, and in the same transaction open the children they start. Gives all their cases too.

        If one cannot be stored, each is written by itself, and that one is put into quarantine; so is one whose
        children cannot be opened.
        """
        parts = [part for turn in turns for part in await self._parts(turn)]
        try:
            committed = await self.write(parts, claimant)
        except UnstorableCommit as error:
            if len(turns) > 1:
                return await self._one_by_one(turns, claimant)
            logger.error("an execution cannot be stored: %s", error, extra={"execution_id": turns[0].case.execution_id})
            return await self._give_up(turns[0], error)
        executions = {part.execution.execution_id: part.execution for part in parts}
        # a turn may be that of an execution whose part lost its race
        others = [lease for lease in committed.leases if lease.execution_id not in committed.committed]
        if claimant is not None and others:
            own = [lease for lease in committed.leases if lease.execution_id in committed.committed]
            others, more = await self.known(claimant.worker, others)
            committed, executions = replace(committed, leases=own + others), {**executions, **more}
        return committed, executions

    async def _parts(self, turn: Turn) -> list[ExecutionCommit]:
        """What a turn writes, and then the openings of its children. Raises Unavailable."""
        try:
            return [turn.part(), *[await self._child(turn, started) for started in turn.children]]
        except Unavailable:
            raise
        except Exception as error:
            logger.exception("a child cannot be opened", extra={"execution_id": turn.case.execution_id})
            return [turn.give_up(error).part()]

    async def _give_up(self, turn: Turn, error: UnstorableCommit) -> tuple[CommitResult, dict[str, LoadedExecution]]:
        """Into quarantine, with what it was given, unless that is what cannot be stored."""
        part = turn.give_up(error).part()
        try:
            committed = await self.write([part])
        except UnstorableCommit:
            part = turn.give_up(error, keep=False).part()
            committed = await self.write([part])
        return committed, {part.execution.execution_id: part.execution}

    async def _one_by_one(
        self, turns: Sequence[Turn], claimant: Claimant | None
    ) -> tuple[CommitResult, dict[str, LoadedExecution]]:
        whole = CommitResult(frozenset(), [], [], [])
        known: dict[str, LoadedExecution] = {}
        for turn in turns:
            committed, executions = await self.commit([turn], claimant)
            if claimant is not None:
                given = claimant.fair_claim and bool(committed.committed)
                room = max(0, claimant.limit - len(committed.leases) + given)
                claimant = replace(claimant, limit=room, fair_claim=claimant.fair_claim and not given)
            whole = CommitResult(
                whole.committed | committed.committed,
                whole.leases + committed.leases,
                whole.pending + committed.pending,
                whole.with_new_facts + committed.with_new_facts,
            )
            known |= executions
        return whole, known

    async def write(self, parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        """In one transaction; then keep what was written, and tell who waits for it."""
        with metrics.commit_seconds.time():
            committed = await self._log.commit(parts, claimant)
        if claimant is not None and claimant.fair_claim and committed.committed:
            committed = await self._with_turn(committed, claimant)
        await self._written(parts, committed)
        return committed

    async def _with_turn(self, committed: CommitResult, claimant: Claimant) -> CommitResult:
        """With one command more, of whoever's turn it is: what the commit issued takes part, and is told to nobody else
        if it is that."""
        try:
            leases = await self._log.claim(replace(claimant, limit=1), None)
        except Problem as error:
            # the commit is good; it is somebody's turn with the next
            logger.warning("no turn could be given: %s", error)
            return committed
        taken = {(lease.execution_id, lease.command_id) for lease in leases}
        waiting = [told for told in committed.pending if (told[1].execution_id, told[1].command_id) not in taken]
        return replace(committed, leases=[*committed.leases, *leases], pending=waiting)

    async def known(self, worker: str, leases: Sequence[Lease]) -> tuple[list[Lease], dict[str, LoadedExecution]]:
        """The leases with their cases, without those that only a newer release can go on with."""
        if not leases:
            return [], {}
        executions = await self.cases.get(lease.execution_id for lease in leases)
        await self.leave(worker, [lease for lease in leases if _is_newer(lease, executions)])
        return [lease for lease in leases if not _is_newer(lease, executions)], executions

    async def leave(self, worker: str, leases: Sequence[Lease | ClaimedCommand]) -> None:
        """Give back what only a newer release can go on with: it is no failed delivery, and nobody here is rung."""
        if leases:
            await self._log.release_leases(worker, [Held.of(lease) for lease in leases])

    async def _written(self, parts: Sequence[ExecutionCommit], committed: CommitResult) -> None:
        for part in parts:
            id = part.execution.execution_id
            metrics.commits.labels("committed" if id in committed.committed else "lost").inc()
            if id in committed.committed:
                self.cases.keep(part.execution)
                self._on_commit(id, part.execution.state.ended)
                if part.quarantine:
                    _tell_of_quarantine(part)
            else:
                self.cases.forget(id)
        await self._doorbell.ring(committed.pending)
        if timers := [
            due for part in parts if part.execution.execution_id in committed.committed for due in _timers(part)
        ]:
            await self._doorbell.wake((min(timers) - self._clock()) / 1000)

    async def append(
        self,
        execution_id: str,
        fact: Event | None = None,
        closes: tuple[str, int] | None = None,
        claimant: Claimant | None = None,
    ) -> tuple[CommitResult, dict[str, LoadedExecution]] | None:
        """Take in the inbox, and then `fact`. None if there is nothing to take in, or the execution has ended, or
        `fact` closes a timer that is set no more; raises NotFound, and Busy if others always came first or only a newer
        release can read it."""
        taken: tuple[CommitResult, dict[str, LoadedExecution]] | None = None
        attempt = 0
        while attempt < ATTEMPTS:
            if attempt:
                await asyncio.sleep(0.001 * attempt)
            async with self.cases.alone([execution_id]):
                turn = await self._open(execution_id, fact, closes)
                if turn is None:
                    return taken if fact is None else None
                committed, executions = await self.commit([turn], None if turn.cut else claimant)
            if not committed.committed:
                attempt += 1
                continue
            await self.follow(committed.with_new_facts)
            if not turn.cut:
                return committed, executions
            # the rest of the inbox, and then `fact`
            taken, attempt = (committed, executions), 0
        raise Busy(f"execution {execution_id} is very busy; try again")

    async def cancel(self, execution_id: str, fact: Event) -> bool:
        """Append the end that somebody wants; False if it has ended already, or was dropped from quarantine. No loop is
        too busy for it: who cannot win the race for the row locks it. Raises NotFound."""
        for _ in range(CANCELS):
            async with self.cases.alone([execution_id]):
                execution = await self._fresh(execution_id)
                if execution.state.quarantined:
                    # its log does not tell whether it was dropped
                    break
                part = _end(execution, await self._log.read_inbox(execution_id), fact)
                if part is None:
                    return False
                committed = await self.write([part])
            if committed.committed:
                await self.follow(committed.with_new_facts)
                return True
        done = await self._log.commit_exclusively(execution_id, lambda locked: _end_of(locked, fact))
        if done is None:
            return False
        part, committed = done
        await self._written([part], committed)
        await self.follow(committed.with_new_facts)
        return True

    async def advance(self, execution_id: str) -> bool:
        """Take in what lies in its inbox; whether it went on."""
        return await self.append(execution_id) is not None

    async def follow(self, execution_ids: Sequence[str]) -> None:
        """Go on with executions that a commit gave a fact; what fails here the reconciler does."""
        for id in execution_ids:
            try:
                await self.advance(id)
            except Problem as error:
                logger.warning("execution %s goes on later: %s", id, error)
            except Exception:
                # the commit before it is good, and so is its answer
                metrics.setbacks.labels("follow").inc()
                logger.exception("execution %s cannot go on", id)

    async def release(self, execution_id: str, at: int) -> CommitResult:
        """Let an execution go on that is in quarantine, as it was; `at` in ms. Raises NotFound, Conflict if it is not
        there or still cannot go on, and Unavailable."""
        async with self.cases.alone([execution_id]):
            plan = await self._playbooks.plan((await self._fresh(execution_id)).plan_hash)
            try:
                done = await self._log.commit_exclusively(
                    execution_id, lambda locked: released(locked, plan, at).part()
                )
            except UnstorableCommit as error:
                raise Conflict(f"execution {execution_id} cannot be stored as it would go on: {error}") from error
            if done is None:
                raise NotFound(f"there is no execution {execution_id}")
            part, committed = done
            await self._written([part], committed)
        await self.follow([execution_id, *committed.with_new_facts])
        return committed

    async def drop(self, execution_id: str, at: int, by: Mapping[str, Any] | None) -> bool:
        """Take an execution out of quarantine, and leave it as it ended; `at` in ms. False if it is not there."""

        def part(locked: LockedExecution) -> ExecutionCommit | None:
            turn = dropped(locked, at, by)
            return None if turn is None else turn.part()

        async with self.cases.alone([execution_id]):
            done = await self._log.commit_exclusively(execution_id, part)
            if done is None:
                return False
            await self._written([done[0]], done[1])
        await self.follow(done[1].with_new_facts)
        return True

    async def _open(self, execution_id: str, fact: Event | None, closes: tuple[str, int] | None) -> Turn | None:
        execution = await self._fresh(execution_id)
        if execution.is_from_newer_release:
            raise Busy(f"execution {execution_id} is left to a newer release: {execution.read_error}")
        if execution.state.ended:
            await self._log.clear_inbox(execution_id)
            return None
        inbox = await self._log.read_inbox(execution_id)
        if cancelled := next((waiting for _, waiting in inbox.facts if waiting.type == e.CANCELLED), None):
            return _ended(execution, inbox, cancelled)
        turn = await self.turn(execution)
        turn.cut = inbox.more
        read = 0
        for taken, waiting in inbox.facts:
            read += weight_of(waiting.payload.get("child", {}).get(REF))
            if read > PAYLOADS_BYTES and turn.events:
                turn.cut = True
                break
            if turn.state.ended and not turn.quarantined:
                turn.taken.append(taken)
            else:
                turn.take(await again(self._playbooks, self._payloads, turn, waiting, self._clock()), taken=taken)
        # of a state that cannot be read nobody knows it; the timer's row does
        gone = closes is not None and execution.read_error is None and closes[0] not in turn.state.timers
        if fact is not None and not turn.cut and not gone and not turn.state.ended:
            turn.take(fact, closes)
        return turn if turn.events else None

    async def _fresh(self, execution_id: str) -> LoadedExecution:
        """As it stands in the store; raises NotFound."""
        execution = (await self.cases.get([execution_id], fresh=True)).get(execution_id)
        if execution is None:
            raise NotFound(f"there is no execution {execution_id}")
        return execution

    async def _child(self, parent: Turn, started: Event) -> ExecutionCommit:
        plan = await self._playbooks.plan(started.payload["plan_hash"])
        payload = await self._payloads.of(parent.case.execution_id, started.payload)
        opening = open_child(parent.case, started, plan, payload)
        turn = Turn(opening.case, plan)
        turn.take(opening.fact)
        return turn.part(opening.row)


def _is_newer(lease: Lease, executions: Mapping[str, LoadedExecution]) -> bool:
    return lease.execution_id in executions and executions[lease.execution_id].is_from_newer_release


def _ended(execution: LoadedExecution, inbox: Inbox, fact: Event) -> Turn | None:
    """The turn that ends it by `fact`; None if it has ended. That needs no playbook, and what waits in the inbox comes
    too late."""
    if execution.state.ended and not execution.state.quarantined:
        return None
    turn = Turn(execution, None)
    turn.take(fact)
    turn.taken += [taken for taken, _ in inbox.facts]
    return turn


def _end(execution: LoadedExecution, inbox: Inbox, fact: Event) -> ExecutionCommit | None:
    turn = _ended(execution, inbox, fact)
    return None if turn is None else turn.part()


def _end_of(locked: LockedExecution, fact: Event) -> ExecutionCommit | None:
    if locked.case.state.quarantined and locked.quarantined() is None:
        return None
    return _end(locked.case, locked.inbox(), fact)


def _tell_of_quarantine(part: ExecutionCommit) -> None:
    assert part.quarantine is not None
    error, id = part.quarantine["error"], part.execution.execution_id
    metrics.quarantined.labels(error["code"]).inc()
    extra = {"operation": "quarantine", "execution_id": id, "place": error["place"], "path": part.execution.path}
    logger.error("audit: execution %s is in quarantine: %s", id, error["message"], extra=extra)


def _timers(part: ExecutionCommit) -> list[int]:
    """When the timers that it sets are due, in ms."""
    return [event.payload["due"] for event in part.events if event.type == e.TIMER_SET]
