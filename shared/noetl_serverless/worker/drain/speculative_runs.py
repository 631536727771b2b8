"""Speculative runs of pipelined executions; each reports its outcomes in order, with one report under way at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ...errors import InvalidRequest, Problem, TooLarge
from ...playbook.plan import Step
from ...protocol import ClaimedCommand, Order, Outcome, ReportResponse
from ..execution.background_write import BackgroundWrite
from ..execution.executor import released
from ..execution.lease import Lease
from ..execution.time_budget import TimeBudget
from .calls import Calls
from .context import WorkerContext
from .keys import Key, key_of, names_of
from .reporter import MAX_OUTCOMES, MAX_REPORTS_UNDER_WAY, Accept, Reporter
from .retry import NextTry, Retry, next_try
from .running import Running
from .slots import Slots
from .speculation import Speculation, as_received
from .speculative_run import SpeculativeRun, SpeculativeStep
from .summary import Summary

logger = logging.getLogger(__name__)

# while steps still run, the first outcome waits this many seconds for a batch of this size: fewer, larger commits
BATCH_SECONDS = 0.01
BATCH_OUTCOMES = 16


class SpeculativeRuns:
    def __init__(
        self,
        context: WorkerContext,
        calls: Calls,
        slots: Slots,
        reporter: Reporter,
        *,
        budget: TimeBudget,
        summary: Summary,
        start: Callable[[ClaimedCommand, Lease], None],
        abandon: Callable[[Running], None],
        accept: Accept,
    ) -> None:
        """`start`: run a command that is not claimed yet, under the lease of its predecessor; `abandon`: stop a
        command; `accept`: begin the commands that an answer brings."""
        self._calls = calls
        self._slots = slots
        self._reporter = reporter
        self._budget = budget
        self._summary = summary
        self._context = context
        self._start = start
        self._abandon = abandon
        self._accept = accept
        self._runs: dict[str, SpeculativeRun] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    # -- running

    def begin(self, command: ClaimedCommand, lease: Lease) -> None:
        """A claimed command is about to run: if its successors may run speculatively, it anchors a speculative run."""
        plan = self._context.plans.get(command.plan)
        ahead = (
            Speculation.of(command, plan, self._context.worker_id, self._is_for_this_worker)
            if plan is not None
            else None
        )
        if ahead is None:
            return
        if (old := self._runs.get(command.execution_id)) is not None:
            self._drop(old)
        self._runs[command.execution_id] = SpeculativeRun(command, ahead, lease)

    def is_newest(self, command: ClaimedCommand) -> bool:
        """Whether it is the newest step of a run, which reports it."""
        run = self._runs.get(command.execution_id)
        return run is not None and run.newest.command is command

    def end(self, command: ClaimedCommand, outcome: Outcome, write: BackgroundWrite | None = None) -> bool:
        """A command has ended; False if the caller has to report it. `write`: of its result."""
        if not self.is_newest(command):
            return False
        run = self._runs[command.execution_id]
        if outcome.status == "released":
            return self._released(run, outcome)
        outcome.at = self._context.clock()
        try:
            run.end(as_received(outcome), self._now(), write)
        except ValueError:
            # the control plane will report what is wrong with it, and nothing is decided on it here
            run.end(outcome, self._now(), write)
        if write is not None and write.is_under_way:
            write.on_end(partial(self._written, run, run.newest))
        elif write is not None and write.error is not None:
            run.fail_write(run.newest)
        if self._should_yield(run):
            run.stop()
        elif self._slots.accepts_work:
            run.speculate()
        self._begin_newest(run)
        self._flush()
        return True

    def _written(self, run: SpeculativeRun, step: SpeculativeStep) -> None:
        """The result of a step has been stored, or could not be."""
        if self._runs.get(run.execution_id) is not run or step not in run.steps:
            return
        if step.write is not None and step.write.error is not None:
            following = run.newest
            run.fail_write(step)
            if following is not step:
                self._stop(following.command)
        self._flush()

    def _should_yield(self, run: SpeculativeRun) -> bool:
        """Whether a run whose newest step has ended is to stop, so that a fair claim can get its slot."""
        others = (other for other in self._runs.values() if other is not run)
        return self._calls.is_fair_claim_due() and not any(other.has_ended for other in others)

    def _begin_newest(self, run: SpeculativeRun) -> None:
        """Begin the newest step, if it has not begun and may begin."""
        step = run.newest
        if step.begun:
            return
        if not self._slots.accepts_work:
            run.remove_newest()
            if not run.steps:
                self._remove(run)
                self._reporter.submit(released(step.command))
        elif run.may_begin(self._now()) and not run.lease.has_expired:
            step.begun = True
            self._start(step.command, run.lease)

    def _released(self, run: SpeculativeRun, outcome: Outcome) -> bool:
        step = run.newest
        run.remove_newest()
        if run.steps:
            # it has no lease of its own: the control plane leases it once its predecessors are reported
            self._flush()
            return True
        self._remove(run)
        outcome.fence = step.command.fence
        return False

    def _is_for_this_worker(self, step: Step) -> bool:
        settings = self._context.settings
        if step.pool is not None:
            return step.pool == settings.pool
        return all(settings.pools.get(task.kind, "shared") == settings.pool for task in step.tasks)

    # -- reporting

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        latest = now - BATCH_SECONDS
        waiting = [run for run in self._runs.values() if run.ready]
        unsent = [run for run in waiting if run.retry is None or run.retry.due <= now]
        # runs that continue come first: the capacity of the report is then sure to cover their next commands
        ready = sorted((run for run in unsent if run.due(BATCH_OUTCOMES, latest)), key=lambda run: run.has_ended)
        if len(ready) < len(unsent):
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)
        elif later := [run.retry.due for run in waiting if run.retry is not None and run.retry.due > now]:
            self._timer = asyncio.get_running_loop().call_at(min(later), self._flush)
        while ready and len(self.tasks) < MAX_REPORTS_UNDER_WAY:
            batch: dict[SpeculativeRun, list[Outcome]] = {}
            count = 0
            while ready and count < MAX_OUTCOMES:
                run = ready.pop(0)
                batch[run] = run.send()
                count += len(batch[run])
                alone = run.retry is not None and run.retry.separate_report
                if alone or (ready and ready[0].retry is not None and ready[0].retry.separate_report):
                    break
            task = asyncio.create_task(self._report(batch))
            self.tasks.add(task)
            task.add_done_callback(self._reported)

    def _reported(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reporting failed", exc_info=error)
        self._flush()
        self._slots.wake()

    async def _report(self, batch: Mapping[SpeculativeRun, list[Outcome]]) -> None:
        free_slots = max(0, self._slots.free) if any(run.has_ended for run in batch) else 0
        self._slots.reserved += free_slots
        try:
            async with self._calls.lock.shared():
                await self._deliver(batch, free_slots)
        finally:
            self._slots.reserved -= free_slots
            for run in batch:
                if run.sent:
                    # cancelled, or failed unexpectedly
                    self._drop(run)

    async def _deliver(self, batch: Mapping[SpeculativeRun, list[Outcome]], free_slots: int) -> None:
        outcomes = [outcome for sent in batch.values() for outcome in sent]
        running = [order for run in batch if (order := run.next_anchor()) is not None]
        sent_at = self._now()
        # commands that already run need no free slot, so they count even when no new work is accepted
        capacity = len(batch) + free_slots if self._slots.accepts_work else len(running)
        fair_claim = capacity > len(running) and self._calls.is_fair_claim_due()
        try:
            answer = await self._calls.report(outcomes, capacity, running, fair_claim=fair_claim)
        except (InvalidRequest, TooLarge) as problem:
            for run in batch:
                self._send_less(run, problem)
            return
        except Problem as problem:
            self._failed(batch, problem, sent_at)
            return
        doubtful = answer.doubtful
        if not doubtful and any(run.retry is not None and run.retry.doubtful for run in batch):
            doubtful = True
            self._calls.recover()
        await self._settle(batch, running, answer.body, doubtful, sent_at)

    def _failed(self, batch: Mapping[SpeculativeRun, list[Outcome]], problem: Problem, sent_at: float) -> None:
        """The control plane did not answer, or its answer says nothing about the outcomes. They are sent again: each
        execution in a report of its own if one of them may be the cause, and in smaller reports if that fails too."""
        now = self._now()
        for run, outcomes in batch.items():
            retry = run.retry = run.retry or Retry(sent_at)
            following = next_try(retry, problem, time_left=self._budget.left(), answered_at=self._calls.answered_at)
            if following is NextTry.NONE:
                # `_report` drops the runs
                logger.error("%d outcomes could not be reported: %s", len(outcomes), problem.detail)
                self._summary.count_unreported(len(outcomes))
            elif following is NextTry.LATER:
                retry.postpone(now)
                run.sent = 0
            elif len(batch) > 1:
                retry.separate_report = True
                run.sent = 0
            else:
                self._send_less(run, problem)

    async def _settle(
        self,
        batch: Mapping[SpeculativeRun, list[Outcome]],
        running: Sequence[Order],
        answer: ReportResponse,
        doubtful: bool,
        sent: float,
    ) -> None:
        statuses: dict[Key, str] = {}
        for result in answer.results:
            statuses[key_of(result)] = result.status
            if result.status != "accepted":
                logger.info("an outcome was not accepted: %s", result.detail, extra=names_of(result))
                self._summary.refused += result.status == "refused"
        claimed = {key_of(command): command for command in answer.commands}
        for run in batch:
            self._apply_answer(run, statuses, claimed, doubtful, sent)
        for order in running:
            # it came without the data needed to run it, and does not run here any more
            command = claimed.get(key_of(order))
            if command is not None and command.order == order.order:
                self._reporter.submit(released(claimed.pop(key_of(order))))
        await self._accept(list(claimed.values()), answer.plans, sent)

    def _apply_answer(
        self,
        run: SpeculativeRun,
        statuses: Mapping[Key, str],
        claimed: dict[Key, ClaimedCommand],
        doubtful: bool,
        sent: float,
    ) -> None:
        self._count(run.apply_results(statuses))
        if self._runs.get(run.execution_id) is not run:
            return
        if not run.steps:
            self._remove(run)
            return
        key = key_of(run.leased)
        if key in claimed and run.lease_moved_to(claimed[key]) is not None:
            del claimed[key]
            run.lease.prolong(self._calls.lease_end(sent))
            self._begin_newest(run)
        elif doubtful:
            run.doubtful = True
        else:
            logger.info("a speculative run was rejected", extra=names_of(run.leased))
            self._drop(run)

    def _send_less(self, run: SpeculativeRun, problem: Problem) -> None:
        if run.send_half() or self._runs.get(run.execution_id) is not run:
            return
        first = run.steps[0].outcome
        logger.info("an outcome is reported separately: %s", problem.detail, extra=names_of(run.leased))
        self._drop(run)
        if run.retry is not None and run.retry.doubtful:
            self._calls.recover()
        if first is not None:
            self._reporter.submit(first)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self._summary.count(outcome)
            self._summary.speculative += outcome.order is not None

    # -- for the rest of the worker

    @property
    def busy(self) -> bool:
        return bool(self._runs or self.tasks)

    @property
    def waiting(self) -> int:
        """How many runs occupy a slot in which nothing runs."""
        return sum(not run.newest.begun or run.has_ended for run in self._runs.values())

    def leased_commands(self) -> list[ClaimedCommand]:
        """The anchors whose leases are certainly held."""
        return [run.leased for run in self._runs.values() if not run.doubtful]

    def leases(self) -> dict[Key, Lease]:
        """The leases of the anchors."""
        return {key_of(run.leased): run.lease for run in self._runs.values()}

    def run_with(self, key: Key) -> SpeculativeRun | None:
        """The speculative run that contains the command."""
        run = self._runs.get(key[0])
        return run if run is not None and run.has(key) else None

    def is_doubtful(self, key: Key) -> bool:
        """Whether the command belongs to a run whose lease is in doubt."""
        run = self.run_with(key)
        return run is not None and run.doubtful

    def accept_lease(self, command: ClaimedCommand, sent: float) -> bool:
        """Use a lease that is for one of the runs; False if it is for none. `sent`: when the call that brought it was
        sent."""
        run = self.run_with(key_of(command))
        if run is None or run.sent:
            return False
        if command.fence < run.leased.fence:
            return True
        taken = run.lease_moved_to(command)
        if taken is None:
            return False
        run.lease.prolong(self._calls.lease_end(sent))
        self._count(taken)
        self._begin_newest(run)
        self._flush()
        return True

    def lease_expired(self, command: ClaimedCommand) -> bool:
        """The lease of a running command has expired: stop the command. Outcomes of steps that ended before it are
        still reported; the control plane decides whether they are too late. False if the command is of no run."""
        run = self._runs.get(command.execution_id)
        if run is None or run.newest.command is not command:
            return False
        run.remove_newest()
        if not run.steps:
            self._remove(run)
        self._stop(command)
        self._flush()
        return True

    def lease_lost(self, key: Key, fence: int | None) -> bool:
        """A heartbeat reported a lease as lost; False if it belongs to no run."""
        run = self.run_with(key)
        if run is None:
            return False
        # a report that is under way may just have ended the command
        if not run.is_lease_uncertain and key_of(run.leased) == key and run.leased.fence == fence:
            logger.warning("the lease of an execution was lost", extra=names_of(run.leased))
            self._drop(run)
        return True

    def recovered(self, commands: Sequence[ClaimedCommand], sent: float) -> list[ClaimedCommand]:
        """Use the recovered leases that are for a run, and return the other commands. Doubtful runs that recovered no
        lease have lost it, and are dropped."""
        rest = [command for command in commands if not self.accept_lease(command, sent)]
        for run in [run for run in self._runs.values() if run.doubtful]:
            self._drop(run)
        return rest

    def forget(self, command: ClaimedCommand) -> None:
        """The command was stopped, so nothing of its run can be reported any more."""
        run = self._runs.get(command.execution_id)
        if run is not None and run.newest.command is command:
            self._remove(run)

    def _drop(self, run: SpeculativeRun) -> None:
        """Abandon the run: other workers continue from the head of the log."""
        if self._runs.get(run.execution_id) is run:
            self._remove(run)
            self._stop(run.newest.command)

    def _stop(self, command: ClaimedCommand) -> None:
        running = self._slots.running.get(key_of(command))
        if running is not None and running.command is command:
            self._abandon(running)

    def _remove(self, run: SpeculativeRun) -> None:
        if self._runs.get(run.execution_id) is run:
            del self._runs[run.execution_id]
            run.cancel_writes()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
