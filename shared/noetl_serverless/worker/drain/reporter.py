"""Reporting: outcomes are sent in few calls and without delay, and the answers bring the commands that follow.

A report that fails is sent again, in halves if one of its outcomes may be the cause. So an outcome that the control
plane can never process holds up no others; in the end, its lease expires. Outcomes of one execution stay in order.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import InvalidRequest, Problem, TooLarge
from ...protocol import ClaimedCommand, Outcome, ReportResponse
from ..execution.errors import step_error
from ..execution.time_budget import TimeBudget
from .calls import Calls
from .keys import Key, key_of, names_of
from .retry import FIRST_PAUSE_SECONDS, NextTry, Retry, next_try
from .slots import Slots
from .summary import Summary

logger = logging.getLogger(__name__)

# begins the commands of an answer; takes the commands, the texts of playbooks, and when the call was sent
Accept = Callable[[Sequence[ClaimedCommand], Mapping[str, str], float], Awaitable[None]]

# how many reports may be under way at once
MAX_REPORTS_UNDER_WAY = 4
# while a report is under way, an outcome waits for its end, or this long, and is sent with others
BATCH_SECONDS = 0.01
MAX_OUTCOMES = 64
REFUSED = "outcome.refused"
# how often an outcome that the previous release does not understand is sent again after it was refused: control planes
# of both releases may share the address
MAX_TRIES_ELSEWHERE = 8


@dataclass(slots=True, eq=False)
class OutcomeBatch:
    """`number`: the number of the report in which the outcomes were first sent."""

    outcomes: list[Outcome]
    number: int
    retry: Retry | None = None
    under_way: bool = False
    # how often it was refused, possibly by a control plane of the previous release
    refused: int = 0

    def executions(self) -> set[str]:
        return {outcome.execution_id for outcome in self.outcomes}

    def halves(self) -> list[OutcomeBatch]:
        half = len(self.outcomes) // 2
        return [OutcomeBatch(self.outcomes[:half], self.number), OutcomeBatch(self.outcomes[half:], self.number)]


class Reporter:
    def __init__(self, calls: Calls, slots: Slots, budget: TimeBudget, summary: Summary, accept: Accept) -> None:
        """`accept`: begin the commands that an answer brings."""
        self._calls = calls
        self._slots = slots
        self._budget = budget
        self._summary = summary
        self._accept = accept
        # outcomes without an answer yet: this worker still holds their leases
        self.unanswered: dict[Key, Outcome] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._ready: list[Outcome] = []
        self._sent = 0
        # batches that were sent before, ordered by number, including those under way
        self._to_resend: list[OutcomeBatch] = []
        # its time is kept separately: not every event loop has it on the handle of a call that is due at once
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0

    def submit(self, outcome: Outcome) -> None:
        """Report an outcome at once if no report is under way, else together with others that end within a moment."""
        self.supersede(key_of(outcome), outcome.fence)
        self.unanswered[key_of(outcome)] = outcome
        self._ready.append(outcome)
        if not self.tasks or len(self._ready) >= MAX_OUTCOMES:
            self._flush()
        else:
            self._flush_at(asyncio.get_running_loop().time() + BATCH_SECONDS)

    def supersede(self, key: Key, fence: int) -> None:
        """The command is held under `fence` now: the outcome of an earlier lease can only be stale."""
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
        """Time has run out: outcomes without an answer are dropped, and their leases expire."""
        if self._timer is not None:
            self._timer.cancel()
        if self.unanswered:
            logger.error("%d outcomes could not be reported in time", len(self.unanswered))
            self._summary.count_unreported(len(self.unanswered))
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
        # batches that are due already wait for a call under way, at whose end this runs again
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
        """What to send now: batches that were sent before come first, but one call is always left for new outcomes."""
        if not (self._to_resend or self._ready):
            return None
        now = asyncio.get_running_loop().time()
        ahead: set[str] = set()
        free_calls = MAX_REPORTS_UNDER_WAY - 1 - sum(batch.under_way for batch in self._to_resend)
        for batch in self._to_resend:
            due = batch.retry is None or batch.retry.due <= now
            if due and free_calls > 0 and not batch.under_way and ahead.isdisjoint(batch.executions()):
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
        # the slots of the batch itself become free with the answer
        free_slots = max(0, self._slots.free)
        self._slots.reserved += free_slots
        rest: list[OutcomeBatch] = []
        try:
            async with self._calls.lock.shared():
                rest = await self._deliver(batch, free_slots)
        finally:
            self._slots.reserved -= free_slots
            self._replace(batch, rest)

    def _replace(self, batch: OutcomeBatch, rest: Iterable[OutcomeBatch]) -> None:
        """Replace the batch with `rest`, which is still to be sent; the others have been answered or given up."""
        for left in rest:
            # outcomes that were superseded meanwhile are not sent again
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

    async def _deliver(self, batch: OutcomeBatch, free_slots: int) -> list[OutcomeBatch]:
        """Report, and begin the commands of the answer. Returns what is still to be sent: parts of the batch, or an
        error in place of an outcome that was refused."""
        outcomes = batch.outcomes
        sent_at = asyncio.get_running_loop().time()
        capacity = len(outcomes) + free_slots if self._slots.accepts_work else 0
        fair_claim = capacity > 0 and self._calls.is_fair_claim_due()
        try:
            answer = await self._calls.report(outcomes, capacity, fair_claim=fair_claim)
        except (InvalidRequest, TooLarge) as problem:
            if len(outcomes) > 1:
                return batch.halves()
            if isinstance(problem, InvalidRequest) and (_omit_set_by(batch) or self._retry_elsewhere(batch, sent_at)):
                return [batch]
            return [OutcomeBatch(self._replace_with_error(outcomes[0], problem.detail), batch.number)]
        except Problem as problem:
            return self._failed(batch, problem, sent_at)
        if batch.retry is not None and batch.retry.doubtful and not answer.doubtful:
            self._calls.recover()
        self._settle(outcomes, answer.body)
        await self._accept(answer.body.commands, answer.body.plans, sent_at)
        return []

    def _retry_elsewhere(self, batch: OutcomeBatch, sent_at: float) -> bool:
        """Whether another control plane may understand the refused outcome; if so, it is postponed."""
        (outcome,) = batch.outcomes
        is_newer = bool(outcome.set_refs or outcome.parts) or (
            outcome.child is not None and outcome.child.payload_ref is not None
        )
        if not is_newer or batch.refused == MAX_TRIES_ELSEWHERE or self._budget.left() <= FIRST_PAUSE_SECONDS:
            return False
        batch.refused += 1
        batch.under_way = False
        batch.retry = batch.retry or Retry(sent_at)
        batch.retry.due = asyncio.get_running_loop().time() + FIRST_PAUSE_SECONDS
        return True

    def _failed(self, batch: OutcomeBatch, problem: Problem, sent_at: float) -> list[OutcomeBatch]:
        """The control plane did not answer, or its answer says nothing about the outcomes; returns what to resend."""
        now = asyncio.get_running_loop().time()
        retry = batch.retry = batch.retry or Retry(sent_at)
        following = next_try(retry, problem, time_left=self._budget.left(), answered_at=self._calls.answered_at)
        if following is NextTry.NONE or self._is_hopeless(batch, now):
            logger.error("%d outcomes could not be reported: %s", len(batch.outcomes), problem.detail)
            self._summary.count_unreported(len(batch.outcomes))
            return []
        if following is NextTry.DIVIDED and len(batch.outcomes) > 1:
            first, second = batch.halves()
            first.retry = Retry(now, doubtful=retry.doubtful)
            return [first, second]
        batch.under_way = False
        retry.postpone(now)
        return [batch]

    def _is_hopeless(self, batch: OutcomeBatch, now: float) -> bool:
        """Whether a single outcome has failed for the time of a lease while the control plane answered other calls."""
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
                    # the control plane has replaced it with an error
                    logger.error("an outcome was refused: %s", result.detail, extra=names_of(result))
                    self._summary.refused += 1
                case "stale":
                    # another worker holds the command by now, or it was accepted before and the answer was lost
                    logger.info("a stale outcome", extra=names_of(result))

    def _replace_with_error(self, outcome: Outcome, detail: str) -> list[Outcome]:
        """An error in place of an outcome that cannot be sent; nothing for a release, or if that error is refused."""
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


def _omit_set_by(batch: OutcomeBatch) -> bool:
    """Whether the refused outcome had `set_by`, which the previous release does not know; it is sent again without."""
    (outcome,) = batch.outcomes
    if outcome.set_by is None:
        return False
    outcome.set_by = None
    batch.under_way = False
    return True
