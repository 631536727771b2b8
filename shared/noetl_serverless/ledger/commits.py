"""From decided turns to the store, and on to whom it concerns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from ..engine import events as e
from ..engine.events import Event
from ..errors import NotFound, Unavailable
from ..store.log import Case, Claimant, Committed, Log, Part
from ..telemetry import metrics
from .cases import Cases
from .doorbell import Doorbell
from .openings import open_child
from .playbooks import Playbooks
from .turn import Turn

logger = logging.getLogger(__name__)

# how often a commit that lost its race is decided anew before the caller is told to come back
ATTEMPTS = 12


class Commits:
    def __init__(
        self,
        log: Log,
        playbooks: Playbooks,
        doorbell: Doorbell,
        clock: Callable[[], int],
        on_commit: Callable[[str, bool], None],
    ) -> None:
        """`clock`: milliseconds since 1970; `on_commit` hears of every execution that went on, and
        whether it has ended."""
        self.cases = Cases(log)
        self._log = log
        self._playbooks = playbooks
        self._doorbell = doorbell
        self._clock = clock
        self._on_commit = on_commit

    async def turn(self, case: Case, worker: str | None = None) -> Turn:
        return Turn(case, await self._playbooks.plan(case.plan_hash), worker)

    async def commit(
        self, turns: Sequence[Turn], claimant: Claimant | None = None
    ) -> tuple[Committed, dict[str, Case]]:
        """Write the turns, and in the same transaction open the children they start. Gives all their cases too."""
        parts = [turn.part() for turn in turns]
        for turn in turns:
            parts += [await self._child(turn, started) for started in turn.children]
        return await self.write(parts, claimant), {part.case.execution_id: part.case for part in parts}

    async def write(self, parts: Sequence[Part], claimant: Claimant | None = None) -> Committed:
        """In one transaction; then keep what was written, and tell who waits for it."""
        with metrics.commit_seconds.time():
            committed = await self._log.commit(parts, claimant)
        for part in parts:
            id = part.case.execution_id
            metrics.commits.labels("committed" if id in committed.good else "lost").inc()
            if id in committed.good:
                self.cases.keep(part.case)
                self._on_commit(id, part.case.state.ended)
            else:
                self.cases.forget(id)
        await self._doorbell.ring(committed.waiting)
        if timers := [due for part in parts if part.case.execution_id in committed.good for due in _timers(part)]:
            await self._doorbell.wake((min(timers) - self._clock()) / 1000)
        return committed

    async def append(
        self,
        execution_id: str,
        fact: Event | None = None,
        closes: tuple[str, int] | None = None,
        claimant: Claimant | None = None,
    ) -> tuple[Committed, dict[str, Case]] | None:
        """Take in the inbox, and then `fact`. None if there is nothing to take in, or the execution has ended, or
        `fact` closes a timer that is set no more; raises NotFound, and Unavailable if others always came first."""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(0.001 * attempt)
            async with self.cases.alone([execution_id]):
                turn = await self._open(execution_id, fact, closes)
                if turn is None:
                    return None
                committed, cases = await self.commit([turn], claimant)
            if committed.good:
                await self.follow(committed.appended)
                return committed, cases
        raise Unavailable(f"execution {execution_id} is very busy; try again")

    async def advance(self, execution_ids: Iterable[str]) -> int:
        """Take in what lies in their inboxes; returns how many executions went on."""
        return sum([await self.append(id) is not None for id in execution_ids])

    async def follow(self, execution_ids: Sequence[str]) -> None:
        """Go on with executions that a commit gave a fact; what fails here the reconciler does."""
        for id in execution_ids:
            try:
                await self.advance([id])
            except Unavailable as error:
                logger.warning("execution %s goes on later: %s", id, error)

    async def _open(self, execution_id: str, fact: Event | None, closes: tuple[str, int] | None) -> Turn | None:
        case = (await self.cases.get([execution_id], fresh=True)).get(execution_id)
        if case is None:
            raise NotFound(f"there is no execution {execution_id}")
        if case.state.ended:
            await self._log.discard(execution_id)
            return None
        turn = await self.turn(case)
        for taken, waiting in await self._log.inbox(execution_id):
            if turn.state.ended:
                turn.taken.append(taken)
            else:
                turn.take(waiting, taken=taken)
        gone = closes is not None and closes[0] not in turn.state.timers
        if fact is not None and not gone and not turn.state.ended:
            turn.take(fact, closes)
        return turn if turn.events else None

    async def _child(self, parent: Turn, started: Event) -> Part:
        plan = await self._playbooks.plan(started.payload["plan_hash"])
        opening = open_child(parent.case, started, plan)
        turn = Turn(opening.case, plan)
        turn.take(opening.fact)
        return turn.part(opening.row)


def _timers(part: Part) -> list[int]:
    """When the timers that it sets are due, in ms."""
    return [event.payload["due"] for event in part.events if event.type == e.TIMER_SET]
