"""One drain from its first pull to its last report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from ...errors import Problem
from ...ports import Pointer
from ...protocol import ClaimedCommand, CommandKey
from ...telemetry import metrics
from ..execution.background_write import BackgroundWrite
from ..execution.executor import released
from ..execution.lease import Lease
from ..execution.time_budget import TimeBudget
from .calls import Calls
from .context import Requests, WorkerContext
from .heartbeat import Heartbeat
from .keys import Key, key_of
from .offer import Offer
from .reporter import Reporter
from .running import Running
from .slots import Slots
from .speculative_runs import SpeculativeRuns
from .summary import Summary

logger = logging.getLogger(__name__)

# how long a pull waits for more while commands run
PULL_WAIT_SECONDS = 0.25
# how long a pull waits at least before an idle drain ends
LAST_PULL_WAIT_SECONDS = 0.05


class Drain:
    def __init__(self, context: WorkerContext, budget: TimeBudget, requests: Requests) -> None:
        """`requests`: requests that arrive during the drain."""
        self.budget = budget
        self.summary = Summary()
        self.slots = Slots(context.settings.max_in_flight, budget)
        self._context = context
        self._requests = requests
        self._calls = Calls(context, budget, self.slots, self.recover)
        self.reporter = Reporter(self._calls, self.slots, budget, self.summary, self.accept)
        self.speculative_runs = SpeculativeRuns(
            context,
            self._calls,
            self.slots,
            self.reporter,
            budget=budget,
            summary=self.summary,
            start=self._begin,
            abandon=self.cancel_lost,
            accept=self.accept,
        )
        self._heartbeat = Heartbeat(self._calls, self.slots, self.reporter, self.speculative_runs, self.cancel_lost)
        self.slots.add_holder(lambda: len(self.reporter.unanswered))
        self.slots.add_holder(lambda: self.speculative_runs.waiting)
        # offers that are not answered yet
        self._offers = 0
        self._is_ending = False
        # claimed by name, held or ended here; their pointers have not arrived yet
        self._expected_pointers: set[Key] = set()
        self._recoveries: set[asyncio.Task[None]] = set()

    async def run(self, commands: Sequence[CommandKey] = ()) -> Summary:
        """`commands`: commands to claim first."""
        background_tasks = [
            asyncio.create_task(task) for task in (self._heartbeat.send(), self._heartbeat.stop_expired())
        ]
        try:
            if commands and not self.budget.is_closing:
                keys = commands[: max(0, self.slots.free)]
                # set before the claim: a command that is released at once is removed again
                self._expected_pointers = {key_of(key) for key in keys}
                claimed = await self._claim(keys)
                self._expected_pointers &= {key_of(command) for command in claimed or ()}
            while True:
                await self._take_work()
                self._is_ending = True
                await self._finish()
                if self.budget.is_closing or not self._requests.take_notified():
                    break
                self._is_ending = False
        finally:
            for task in background_tasks:
                task.cancel()
            metrics.commands_in_flight.set(0)
        return self.summary

    # -- being handed over

    def offer(self, limit: int) -> Offer | None:
        """Reserve at most `limit` free slots for what a commit in this process issues, until `take_offered`."""
        count = min(limit, self.slots.free)
        if self._is_ending or not self.slots.accepts_work or count <= 0 or not self._calls.lock.enter_now():
            return None
        self._offers += 1
        self.slots.reserved += count
        offered_at = asyncio.get_running_loop().time()
        return Offer(
            self._context.worker_id,
            self._context.settings.pool,
            self._calls.lease_seconds,
            count,
            offered_at=offered_at,
        )

    async def take_offered(self, offer: Offer, commands: Sequence[ClaimedCommand], plans: Mapping[str, str]) -> None:
        try:
            await self.accept(commands, plans, offer.offered_at)
        finally:
            self._offers -= 1
            self.slots.reserved -= offer.limit
            self._calls.lock.leave()
            self.slots.wake()

    # -- taking

    async def _take_work(self) -> None:
        while not self.budget.is_closing:
            if self.slots.isolated is not None:
                await self._run_alone(self.slots.isolated)
                continue
            if self._requests.take_sweep():
                await self._claim([])
            free = self.slots.free
            if free <= 0:
                await self.slots.wait_for_change(min(1.0, self.budget.until_closing()))
                continue
            pointers = await self._pull(free)
            if pointers:
                await self._claim_pointed(pointers)
            elif not self._busy:
                return
        self.summary.more = True

    async def _pull(self, limit: int) -> list[Pointer]:
        wait = PULL_WAIT_SECONDS if self._busy else max(LAST_PULL_WAIT_SECONDS, self._context.settings.linger)
        wait = min(wait, self.budget.until_closing())
        try:
            return await self._context.notifier.pull(self._context.settings.pool, limit, wait)
        except Exception as error:
            # the bus only carries pointers: pending commands can be claimed without it
            logger.warning("the bus does not answer (%s); claiming pending commands", type(error).__name__)
        claimed = await self._claim([])
        if not claimed and self._busy:
            await self.slots.wait_for_change(wait)
        return []

    async def _claim_pointed(self, pointers: Sequence[Pointer]) -> None:
        # only the first pointer to an expected command is redundant: another one means that it is pending again
        expected = [pointer for pointer in pointers if key_of(pointer.key) in self._expected_pointers]
        self._expected_pointers.difference_update(key_of(pointer.key) for pointer in expected)
        unexpected = [pointer for pointer in pointers if pointer not in expected]
        if unexpected and await self._claim([pointer.key for pointer in unexpected]) is None:
            unexpected = []
        await self._ack([*expected, *unexpected])

    async def _claim(self, keys: Sequence[CommandKey]) -> list[ClaimedCommand] | None:
        """Claim `keys` or, without any, whatever is pending, with executions taking turns. None if the claim failed or
        its result is unknown."""
        limit = len(keys) or max(0, self.slots.free)
        self.slots.reserved += limit
        try:
            async with self._calls.lock.shared():
                sent = asyncio.get_running_loop().time()
                answer = await self._calls.claim(keys, limit)
                await self.accept(answer.body.commands, answer.body.plans, sent)
        except Problem as problem:
            logger.error("claiming failed: %s", problem.detail)
            self.summary.more = True
            if problem.extra.get("doubtful"):
                self.recover()
            # do not retry at once: the bus will deliver the pointers again
            await self.slots.wait_for_change(min(1.0, self.budget.until_closing()))
            return None
        finally:
            self.slots.reserved -= limit
        if answer.doubtful:
            self.recover()
        return answer.body.commands

    async def _ack(self, pointers: Sequence[Pointer]) -> None:
        if not pointers:
            return
        try:
            await self._context.notifier.ack(pointers)
        except Exception as error:
            # they are delivered again, and a claim then finds the commands gone
            logger.warning("acknowledging pointers failed: %s", type(error).__name__)

    async def accept(self, commands: Sequence[ClaimedCommand], plans: Mapping[str, str], sent: float) -> None:
        """`sent`: when the call that brought them was sent."""
        if plans:
            await self._context.plans.add(plans)
        for command in commands:
            key = (command.execution_id, command.command_id)
            if self.speculative_runs.accept_lease(command, sent):
                continue
            if (running := self.slots.running.get(key)) is not None:
                if running.command.fence >= command.fence:
                    continue
                self.cancel_lost(running)
            elif (outcome := self.reporter.unanswered.get(key)) is not None and outcome.fence >= command.fence:
                continue
            self.reporter.supersede(key, command.fence)
            self.summary.claimed += 1
            self._start(key, command, Lease(self._calls.lease_end(sent)))
        metrics.commands_in_flight.set(len(self.slots.running))

    def _start(self, key: Key, command: ClaimedCommand, lease: Lease) -> None:
        if self.budget.is_over or lease.has_expired:
            self._forget_expected(key)
            self.reporter.submit(released(command))
            return
        running = Running(command, lease)
        self.slots.running[key] = running
        if command.delivery >= max(2, self._context.settings.max_deliveries):
            self._isolate(running)
        else:
            self.speculative_runs.begin(command, lease)
            running.task = asyncio.create_task(self._run(key, running))

    def _begin(self, command: ClaimedCommand, lease: Lease) -> None:
        key = key_of(command)
        running = self.slots.running[key] = Running(command, lease)
        running.task = asyncio.create_task(self._run(key, running))

    # -- the last delivery

    def _isolate(self, running: Running) -> None:
        """Run a command on its last delivery while nothing else runs.

        If it is what killed its workers, then all other commands that they held were lost with it as often, and would
        become dead letters with it. Other commands on their last delivery are released, which undoes the delivery.
        """
        if self.slots.isolated is None:
            self.slots.isolated = running
        else:
            self._release(running)

    async def _run_alone(self, isolated: Running) -> None:
        key = (isolated.command.execution_id, isolated.command.command_id)
        while self._others_running and self.slots.running.get(key) is isolated and not self.budget.is_closing:
            await self.slots.wait_for_change(self.budget.until_closing())
        if self.slots.running.get(key) is isolated and not self.budget.is_closing:
            isolated.task = asyncio.create_task(self._run(key, isolated))
            while self.slots.running.get(key) is isolated and not self.budget.is_closing:
                await self.slots.wait_for_change(self.budget.until_closing())
        if self.slots.isolated is isolated and self.slots.running.get(key) is not isolated:
            self.slots.isolated = None

    @property
    def _others_running(self) -> bool:
        return len(self.slots.running) > 1 or self._unsettled

    async def _run(self, key: Key, running: Running) -> None:
        command = running.command
        # what is reported by a speculative run may wait for its write there
        write = BackgroundWrite(self._context.unfinished) if self.speculative_runs.is_newest(command) else None
        outcome = await self._context.execute(command, self.budget, running.lease, write)
        if write is not None and not self.speculative_runs.is_newest(command):
            # nobody is left to report it
            outcome = released(command)
        if outcome.status == "released":
            self._forget_expected(key)
            if write is not None:
                write.cancel()
        if self.slots.running.get(key) is running:
            del self.slots.running[key]
        if running.is_lease_lost:
            self.summary.lost += 1
            self.slots.wake()
        elif not self.speculative_runs.end(command, outcome, write):
            self.reporter.submit(outcome)

    # -- recovering

    def recover(self) -> None:
        task = asyncio.create_task(self._recover())
        self._recoveries.add(task)
        task.add_done_callback(self._recovered)

    def _recovered(self, task: asyncio.Task[None]) -> None:
        self._recoveries.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("recovering failed", exc_info=error)
        self.slots.wake()

    async def _recover(self) -> None:
        """Request the commands that were leased to this worker in an answer that never arrived."""
        # exclusively, because commands that another call is about to bring would look lost too
        async with self._calls.lock.exclusive():
            keys = [key for key in self.slots.running if not self.speculative_runs.is_doubtful(key)]
            keys += [*self.reporter.unanswered, *(key_of(leased) for leased in self.speculative_runs.leased_commands())]
            sent = asyncio.get_running_loop().time()
            try:
                answer = await self._calls.recover_leases(keys)
            except Problem as problem:
                # they become pending again when their leases expire
                logger.error("recovering failed: %s", problem.detail)
                self.summary.more = True
                self.speculative_runs.recovered([], sent)
                return
            await self.accept(self.speculative_runs.recovered(answer.body.commands, sent), answer.body.plans, sent)

    def cancel_lost(self, running: Running) -> None:
        running.is_lease_lost = True
        self._forget_expected(key_of(running.command))
        self.slots.running.pop(key_of(running.command), None)
        self.speculative_runs.forget(running.command)
        if running.task is not None:
            running.task.cancel()
        self.slots.wake()

    # -- ending

    async def _finish(self) -> None:
        if self.slots.isolated is not None and self.slots.isolated.task is None:
            self._release(self.slots.isolated)
        while self._busy and not self.budget.is_over:
            await self.slots.wait_for_change(self.budget.until_over())
        # a task that is cancelled before it begins could not release its command
        await asyncio.sleep(0)
        for running in list(self.slots.running.values()):
            if running.task is not None:
                running.task.cancel()
        while self._busy and self.budget.left() > 0:
            await self.slots.wait_for_change(self.budget.left())
        self.reporter.give_up()
        tasks = [*self.reporter.tasks, *self.speculative_runs.tasks, *self._recoveries]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _release(self, running: Running) -> None:
        """Release a command that has not begun, if this worker still holds it."""
        key = (running.command.execution_id, running.command.command_id)
        if self.slots.running.pop(key, None) is not None:
            self._forget_expected(key)
            self.reporter.submit(released(running.command))

    def _forget_expected(self, key: Key) -> None:
        """A command that is no longer held here gets a new pointer, for any worker."""
        self._expected_pointers.discard(key)

    @property
    def _busy(self) -> bool:
        return bool(self.slots.running) or self._unsettled

    @property
    def _unsettled(self) -> bool:
        under_way = self.reporter.unanswered or self.reporter.tasks or self._recoveries or self._offers
        return bool(under_way) or self.speculative_runs.busy
