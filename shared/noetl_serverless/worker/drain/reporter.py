"""Reporting: outcomes go out in few calls and without delay, and what follows comes back with the answer.

What the control plane fails at is sent again, in halves if it may be one outcome that it fails at: so one that it
never takes in holds up no others, and is left to its lease in the end. Of one execution none overtakes another.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import InvalidRequest, Problem, TooLarge, Unavailable
from ...protocol import ClaimedCommand, Outcome, ReportResponse
from ..execution.errors import step_error
from ..execution.time_budget import TimeBudget
from .calls import Calls
from .keys import Key, key_of, names_of
from .retry import FIRST_PAUSE_SECONDS, Retry, is_report_at_fault
from .slots import Slots
from .summary import Summary

logger = logging.getLogger(__name__)

# what begins the commands that an answer brings: the commands, the texts of playbooks, and when the call was sent
Accept = Callable[[Sequence[ClaimedCommand], Mapping[str, str], float], Awaitable[None]]

# so many reports may be under way at once
MAX_REPORTS_UNDER_WAY = 4
# with one under way, an outcome waits this long for others to go with it
BATCH_SECONDS = 0.002
MAX_OUTCOMES = 64
REFUSED = "outcome.refused"
# so often what a release before this one does not understand is sent again, if it is refused: behind one address there
# may be control planes of both
MAX_TRIES_ELSEWHERE = 8


@dataclass(slots=True, eq=False)
class OutcomeBatch:
    """`number`: the how-many-eth report that they went with first."""

    outcomes: list[Outcome]
    number: int
    retry: Retry | None = None
    under_way: bool = False
    # how often it has been refused by who may be of the release before
    refused: int = 0

    def executions(self) -> set[str]:
        return {outcome.execution_id for outcome in self.outcomes}

    def halves(self) -> list[OutcomeBatch]:
        half = len(self.outcomes) // 2
        return [OutcomeBatch(self.outcomes[:half], self.number), OutcomeBatch(self.outcomes[half:], self.number)]


class Reporter:
    def __init__(self, calls: Calls, slots: Slots, budget: TimeBudget, summary: Summary, accept: Accept) -> None:
        """`accept`: begin what an answer brings."""
        self._calls = calls
        self._slots = slots
        self._budget = budget
        self._summary = summary
        self._accept = accept
        # not yet answered for: their leases are still ours
        self.unanswered: dict[Key, Outcome] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._ready: list[Outcome] = []
        self._sent = 0
        # what was sent before, by number and in order; also while it is under way
        self._to_resend: list[OutcomeBatch] = []
        # with the time at which it goes off: the handle of what is due at once does not tell it in every loop
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0

    def submit(self, outcome: Outcome) -> None:
        """Alone and at once if nothing is under way, else with those that end within a moment."""
        self.supersede(key_of(outcome), outcome.fence)
        self.unanswered[key_of(outcome)] = outcome
        self._ready.append(outcome)
        if not self.tasks or len(self._ready) >= MAX_OUTCOMES:
            self._flush()
        else:
            self._flush_at(asyncio.get_running_loop().time() + BATCH_SECONDS)

    def supersede(self, key: Key, fence: int) -> None:
        """The command is held under `fence` now: what an earlier hold gave can only be stale."""
        older = self.unanswered.get(key)
        if older is None or older.fence >= fence:
            return
        logger.info("an outcome is superseded", extra=names_of(older))
        del self.unanswered[key]
        self._ready = [outcome for outcome in self._ready if outcome is not older]
        for batch in self._to_resend:
            if not batch.under_way:
                batch.outcomes = [outcome for outcome in batch.outcomes if outcome is not older]
        self._to_resend = [batch for batch in self._to_resend if batch.outcomes]

    def give_up(self) -> None:
        """The time is over: what has not been answered for is left to its lease."""
        if self._timer is not None:
            self._timer.cancel()
        if self.unanswered:
            logger.error("%d outcomes could not be reported in time", len(self.unanswered))
            self._summary.unreported += len(self.unanswered)
            self._summary.more = True
        self.unanswered.clear()
        self._ready.clear()
        self._to_resend.clear()

    # -- sending

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self.tasks) < MAX_REPORTS_UNDER_WAY and (batch := self._next()) is not None:
            batch.under_way = True
            task = asyncio.create_task(self._report(batch))
            self.tasks.add(task)
            task.add_done_callback(self._reported)
        # what is due by now waits for a call that is under way, and is looked at when that ends
        now = asyncio.get_running_loop().time()
        later = [batch.retry.due for batch in self._to_resend if batch.retry is not None and batch.retry.due > now]
        if later:
            self._flush_at(min(later))

    def _flush_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_due <= when:
                return
            self._timer.cancel()
        self._timer, self._timer_due = asyncio.get_running_loop().call_at(when, self._flush), when

    def _next(self) -> OutcomeBatch | None:
        """What to send now: what was sent before, but always with a call left for what was not."""
        if not (self._to_resend or self._ready):
            return None
        now = asyncio.get_running_loop().time()
        ahead: set[str] = set()
        spare = MAX_REPORTS_UNDER_WAY - 1 - sum(batch.under_way for batch in self._to_resend)
        for batch in self._to_resend:
            due = batch.retry is None or batch.retry.due <= now
            if due and spare > 0 and not batch.under_way and ahead.isdisjoint(batch.executions()):
                return batch
            ahead |= batch.executions()
        chosen = [outcome for outcome in self._ready if outcome.execution_id not in ahead][:MAX_OUTCOMES]
        if not chosen:
            return None
        taken = set(map(id, chosen))
        self._ready = [outcome for outcome in self._ready if id(outcome) not in taken]
        self._sent += 1
        return OutcomeBatch(chosen, self._sent)

    def _reported(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reporting failed", exc_info=error)
        self._flush()
        self._slots.wake()

    async def _report(self, batch: OutcomeBatch) -> None:
        # the slots of the batch itself are free again with the answer
        spare = max(0, self._slots.free)
        self._slots.reserved += spare
        rest: list[OutcomeBatch] = []
        try:
            async with self._calls.lock.shared():
                rest = await self._deliver(batch, spare)
        finally:
            self._slots.reserved -= spare
            self._replace(batch, rest)

    def _replace(self, batch: OutcomeBatch, rest: Iterable[OutcomeBatch]) -> None:
        """In its place stands what is left of it to be sent; the rest is answered for, or given up."""
        for left in rest:
            # what was superseded while it was under way is not sent again
            left.outcomes = [outcome for outcome in left.outcomes if self.unanswered.get(key_of(outcome)) is outcome]
        rest = [left for left in rest if left.outcomes]
        known = batch in self._to_resend
        place = (
            self._to_resend.index(batch)
            if known
            else bisect(self._to_resend, batch.number, key=lambda each: each.number)
        )
        self._to_resend[place : place + known] = rest
        kept = {key_of(outcome) for left in rest for outcome in left.outcomes}
        for outcome in batch.outcomes:
            if key_of(outcome) not in kept and self.unanswered.get(key_of(outcome)) is outcome:
                del self.unanswered[key_of(outcome)]

    async def _deliver(self, batch: OutcomeBatch, spare: int) -> list[OutcomeBatch]:
        """Report, and begin what the answer brings. Gives what is to be sent yet: parts of it, and an error in place
        of what the control plane will not have."""
        outcomes = batch.outcomes
        began = asyncio.get_running_loop().time()
        room = len(outcomes) + spare if self._slots.accepts_work else 0
        turn = room > 0 and self._calls.is_fair_claim_due()
        try:
            answer = await self._calls.report(outcomes, room, fair_claim=turn)
        except (InvalidRequest, TooLarge) as problem:
            if len(outcomes) > 1:
                return batch.halves()
            if isinstance(problem, InvalidRequest) and self._understood_elsewhere(batch, began):
                return [batch]
            return [OutcomeBatch(self._error_instead(outcomes[0], problem.detail), batch.number)]
        except Problem as problem:
            return self._failed(batch, problem, began)
        if batch.retry is not None and batch.retry.doubtful and not answer.doubtful:
            self._calls.recover()
        self._settle(outcomes, answer.body)
        await self._accept(answer.body.commands, answer.body.plans, began)
        return []

    def _understood_elsewhere(self, batch: OutcomeBatch, began: float) -> bool:
        """Whether what was refused may be understood by another control plane, and is put off."""
        (outcome,) = batch.outcomes
        by_reference = bool(outcome.set_refs) or (outcome.child is not None and outcome.child.payload_ref is not None)
        if not by_reference or batch.refused == MAX_TRIES_ELSEWHERE or self._budget.left() <= FIRST_PAUSE_SECONDS:
            return False
        batch.refused += 1
        batch.under_way = False
        batch.retry = batch.retry or Retry(began)
        batch.retry.due = asyncio.get_running_loop().time() + FIRST_PAUSE_SECONDS
        return True

    def _failed(self, batch: OutcomeBatch, problem: Problem, began: float) -> list[OutcomeBatch]:
        """The control plane did not answer, or with what says nothing of the outcomes."""
        now = asyncio.get_running_loop().time()
        retry = batch.retry = batch.retry or Retry(began)
        retry.doubtful |= bool(problem.extra.get("doubtful"))
        faulty = is_report_at_fault(problem, retry.since, self._calls.answered_at)
        if not isinstance(problem, Unavailable) or self._budget.left() <= retry.pause or self._is_hopeless(batch, now):
            # the leases run out, and others do it again
            logger.error("%d outcomes could not be reported: %s", len(batch.outcomes), problem.detail)
            self._summary.unreported += len(batch.outcomes)
            self._summary.more = True
            return []
        if faulty and len(batch.outcomes) > 1:
            first, second = batch.halves()
            first.retry = Retry(now, doubtful=retry.doubtful)
            return [first, second]
        batch.under_way = False
        retry.postpone(now)
        return [batch]

    def _is_hopeless(self, batch: OutcomeBatch, now: float) -> bool:
        """One that fails alone for the time of a lease, while the control plane answers others."""
        retry = batch.retry
        assert retry is not None
        lasted = now - retry.since >= self._calls.lease_seconds
        return len(batch.outcomes) == 1 and lasted and self._calls.answered_at > retry.since

    def _settle(self, batch: list[Outcome], answer: ReportResponse) -> None:
        sent = {key_of(outcome): outcome for outcome in batch}
        for result in answer.results:
            outcome = sent[key_of(result)]
            if self.unanswered.get(key_of(outcome)) is outcome:
                del self.unanswered[key_of(outcome)]
            match result.status:
                case "accepted":
                    self._summary.count(outcome)
                case "refused":
                    # the control plane has put an error in its place
                    logger.error("an outcome was refused: %s", result.detail, extra=names_of(result))
                    self._summary.refused += 1
                case "stale":
                    # another holds it by now, or it was accepted before and the answer was lost
                    logger.info("a stale outcome", extra=names_of(result))

    def _error_instead(self, outcome: Outcome, detail: str) -> list[Outcome]:
        """In place of an outcome that cannot be sent, an error that says so; nothing the second time."""
        logger.error("an outcome could not be reported: %s", detail, extra=names_of(outcome))
        refused_before = (outcome.error or {}).get("code") == REFUSED
        if refused_before or outcome.status == "released":
            self._summary.refused += 1
            return []
        error = step_error("worker", REFUSED, f"the control plane refused the outcome: {detail}")
        names = names_of(outcome)
        instead = Outcome(**names, fence=outcome.fence, status="error", error=error)
        if self.unanswered.get(key_of(outcome)) is outcome:
            self.unanswered[key_of(outcome)] = instead
        return [instead]
