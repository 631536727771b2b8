"""Reporting: outcomes go out in few calls and without delay, and what follows comes back with the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, Problem, TooLarge
from ..protocol import Order, Outcome, ReportRequest, ReportResponse
from .client import Answer
from .errors import step_error
from .keys import Key, key_of, names_of

if TYPE_CHECKING:
    from .shift import Shift

logger = logging.getLogger(__name__)

# so many reports may be under way at once
CALLS = 4
# with one under way, an outcome waits this long for others to go with it
HOLD = 0.002
MOST_OUTCOMES = 64
REFUSED = "outcome_refused"


class Reports:
    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        # not yet answered for: their leases are still ours
        self.unanswered: dict[Key, Outcome] = {}
        self.calls: set[asyncio.Task[None]] = set()
        self._ready: list[Outcome] = []
        self._hold: asyncio.TimerHandle | None = None

    def hand_in(self, outcome: Outcome) -> None:
        """Alone and at once if nothing is under way, else with those that end within a moment."""
        self.unanswered[key_of(outcome)] = outcome
        self._ready.append(outcome)
        if not self.calls or len(self._ready) >= MOST_OUTCOMES:
            self._flush()
        elif self._hold is None:
            self._hold = asyncio.get_running_loop().call_later(HOLD, self._flush)

    def _flush(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        while self._ready and len(self.calls) < CALLS:
            batch, self._ready = self._ready[:MOST_OUTCOMES], self._ready[MOST_OUTCOMES:]
            task = asyncio.create_task(self._report(batch))
            self.calls.add(task)
            task.add_done_callback(self._reported)

    def _reported(self, task: asyncio.Task[None]) -> None:
        self.calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reporting failed", exc_info=error)
        self._flush()
        self._shift.wake()

    async def _report(self, batch: list[Outcome]) -> None:
        # the slots of the batch itself are free again with the answer
        spare = max(0, self._shift.free())
        self._shift.reserved += spare
        try:
            async with self._shift.gate.shared():
                await self._deliver(batch, spare)
        finally:
            self._shift.reserved -= spare
            for outcome in batch:
                kept = self.unanswered.get(key_of(outcome))
                if kept is not None and kept.fence == outcome.fence:
                    del self.unanswered[key_of(outcome)]

    async def _deliver(self, batch: list[Outcome], spare: int = 0) -> None:
        """Report, and begin what the answer brings. What the control plane will not have is sent as an error."""
        try:
            answer = await self.send(batch, len(batch) + spare if self._shift.taking else 0)
        except (InvalidRequest, TooLarge) as problem:
            half = len(batch) // 2
            parts = [batch[:half], batch[half:]] if half else [self._reworded(batch[0], problem.detail)]
            for part in parts:
                if part:
                    await self._deliver(part)
            return
        except Problem as problem:
            # the leases run out, and others do it again
            logger.error("%d outcomes could not be reported: %s", len(batch), problem.detail)
            self._shift.summary.unreported += len(batch)
            self._shift.summary.more = True
            return
        self._settle(batch, answer.body)
        await self._shift.accept(answer.body.commands, answer.body.plans)

    async def send(self, batch: list[Outcome], capacity: int, running: Sequence[Order] = ()) -> Answer[ReportResponse]:
        """One call, tried until it is answered. Raises Problem."""
        worker = self._shift.worker
        settings = worker.settings
        request = ReportRequest(
            worker_id=worker.id,
            pool=settings.pool,
            outcomes=batch,
            capacity=min(capacity, 1000),
            lease=settings.lease,
            plans=worker.plans.recent(),
            running=list(running),
        )
        answer = await worker.client.report(request, within=self._shift.within())
        if answer.doubtful:
            self._shift.recover()
        return answer

    def _settle(self, batch: list[Outcome], answer: ReportResponse) -> None:
        sent = {key_of(outcome): outcome for outcome in batch}
        for result in answer.results:
            outcome = sent[key_of(result)]
            self.unanswered.pop(key_of(outcome), None)
            match result.status:
                case "accepted":
                    self._shift.summary.count(outcome)
                case "refused":
                    # the control plane has put an error in its place
                    logger.error("an outcome was refused: %s", result.detail, extra=names_of(result))
                    self._shift.summary.refused += 1
                case "stale":
                    # another holds it by now, or it was accepted before and the answer was lost
                    logger.info("a stale outcome", extra=names_of(result))

    def _reworded(self, outcome: Outcome, detail: str) -> list[Outcome]:
        """In place of an outcome that cannot be sent, an error that says so; nothing the second time."""
        logger.error("an outcome could not be reported: %s", detail, extra=names_of(outcome))
        refused_before = (outcome.error or {}).get("code") == REFUSED
        if refused_before or outcome.status == "released":
            self._shift.summary.refused += 1
            return []
        error = step_error("worker", REFUSED, f"the control plane refused the outcome: {detail}")
        names = names_of(outcome)
        return [Outcome(**names, fence=outcome.fence, status="error", error=error)]
