"""One drain from its first pull to its last report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import Problem
from ...ports import Pointer
from ...protocol import ClaimedCommand, ClaimRequest, CommandKey, Outcome
from ...telemetry import metrics
from ..execution.executor import released
from ..execution.lease import Lease
from ..execution.time_budget import TimeBudget
from .gate import Gate
from .heartbeat import send_heartbeats, stop_expired
from .keys import Key, key_of
from .reporter import Reporter
from .running import Running
from .speculative_runs import SpeculativeRuns
from .summary import Summary

if TYPE_CHECKING:
    from ..worker import Worker

logger = logging.getLogger(__name__)

# while commands run, the bus is asked this long for more
PULL_WAIT_SECONDS = 0.25
# without anything to do, it is asked this long before the drain ends
LAST_PULL_WAIT_SECONDS = 0.05
# while all slots are taken by what follows from what ended in them, one goes to whoever waits this often, in seconds
FAIR_CLAIM_SECONDS = 0.1


class Drain:
    def __init__(self, worker: Worker, budget: TimeBudget, named: Sequence[CommandKey] = ()) -> None:
        """`named`: what to claim first."""
        self.worker = worker
        self.budget = budget
        self.summary = Summary()
        self.running: dict[Key, Running] = {}
        self.reporter = Reporter(self)
        self.speculative_runs = SpeculativeRuns(self)
        # see `_set_apart`
        self.isolated: Running | None = None
        # slots promised to calls that are under way
        self.reserved = 0
        # when the control plane last answered anything, by the loop's clock
        self.answered_at = 0.0
        self.gate = Gate()
        self._named = list(named)
        self._turn_at = 0.0
        # claimed by name, held or ended here, and not pointed to yet
        self._expected: set[Key] = set()
        self._changed = asyncio.Event()
        self._recoveries: set[asyncio.Task[None]] = set()

    async def run(self) -> Summary:
        self._turn_at = self.now()
        beside = [asyncio.create_task(task) for task in (send_heartbeats(self), stop_expired(self))]
        try:
            if self._named and not self.budget.is_closing:
                named = self._named[: self.free_slots()]
                # what is let go at once is not to be expected afterwards
                self._expected = {key_of(name) for name in named}
                taken = await self._claim(named)
                self._expected &= {key_of(command) for command in taken or ()}
            while True:
                await self._take_work()
                await self._finish()
                if self.budget.is_closing or not self.worker.take_notified():
                    break
        finally:
            for task in beside:
                task.cancel()
            metrics.commands_in_flight.set(0)
        return self.summary

    # -- taking

    async def _take_work(self) -> None:
        while not self.budget.is_closing:
            if self.isolated is not None:
                await self._run_alone(self.isolated)
                continue
            if self.worker.take_sweep_request():
                await self._claim([])
            free = self.free_slots()
            if free <= 0:
                await self._wait_for_change(min(1.0, self.budget.until_closing()))
                continue
            pointers = await self._pull(free)
            if pointers:
                await self._claim_pointed(pointers)
            elif not self._busy:
                return
        self.summary.more = True

    def is_fair_claim_due(self) -> bool:
        """Whether the next slot that comes free is for whoever's turn it is among all that waits: what follows from a
        loop that is long, or endless, would keep all slots to itself. A report under way has all that are free, and a
        loop of short steps has always one."""
        return (
            self.now() - self._turn_at >= FAIR_CLAIM_SECONDS and self.free_slots() <= 0 and self.worker.client.speaks(2)
        )

    def note_fair_claim(self) -> None:
        self._turn_at = self.now()

    async def _pull(self, limit: int) -> list[Pointer]:
        wait = PULL_WAIT_SECONDS if self._busy else max(LAST_PULL_WAIT_SECONDS, self.worker.settings.linger)
        wait = min(wait, self.budget.until_closing())
        try:
            return await self.worker.notifier.pull(self.worker.settings.pool, limit, wait)
        except Exception as error:
            # the bus only points: what it would have pointed to can be asked for
            logger.warning("the bus does not answer (%s); claiming what is pending", type(error).__name__)
        claimed = await self._claim([])
        if not claimed and self._busy:
            await self._wait_for_change(wait)
        return []

    async def _claim_pointed(self, pointers: Sequence[Pointer]) -> None:
        # only its first pointer says nothing new: with another it would wait again
        known = [pointer for pointer in pointers if key_of(pointer.key) in self._expected]
        self._expected.difference_update(key_of(pointer.key) for pointer in known)
        fresh = [pointer for pointer in pointers if pointer not in known]
        if fresh and await self._claim([pointer.key for pointer in fresh]) is None:
            fresh = []
        await self._ack([*known, *fresh])

    async def _claim(self, keys: Sequence[CommandKey]) -> list[ClaimedCommand] | None:
        """Claim `keys`, or without any, whatever is pending, in turn among executions. None if it is not known what
        became of that."""
        settings = self.worker.settings
        request = ClaimRequest(
            worker_id=self.worker.id,
            pool=settings.pool,
            commands=list(keys),
            limit=len(keys) or max(0, self.free_slots()),
            lease=settings.lease,
            plans=self.worker.plans.recent(),
        )
        self.reserved += request.limit
        try:
            async with self.gate.shared():
                sent = self.now()
                answer = await self.worker.client.claim(request, within=self.call_timeout())
                self.note_answer()
                await self.accept(answer.body.commands, answer.body.plans, sent)
        except Problem as problem:
            logger.error("claiming failed: %s", problem.detail)
            self.summary.more = True
            if problem.extra.get("doubtful"):
                self.recover()
            # not at once again: the bus will point to them once more
            await self._wait_for_change(min(1.0, self.budget.until_closing()))
            return None
        finally:
            self.reserved -= request.limit
        if answer.doubtful:
            self.recover()
        return answer.body.commands

    async def _ack(self, pointers: Sequence[Pointer]) -> None:
        if not pointers:
            return
        try:
            await self.worker.notifier.ack(pointers)
        except Exception as error:
            # they come again, and are then found to be gone
            logger.warning("the bus took no acknowledgement: %s", type(error).__name__)

    async def accept(self, commands: Sequence[ClaimedCommand], plans: Mapping[str, str], sent: float) -> None:
        """`sent`: when the call was that brought them."""
        if plans:
            await self.worker.add_playbooks(plans)
        for command in commands:
            key = (command.execution_id, command.command_id)
            if self.speculative_runs.accept_lease(command, sent):
                continue
            if (held := self.running.get(key)) is not None:
                if held.command.fence >= command.fence:
                    continue
                self.abandon(held)
            elif (outcome := self.reporter.unanswered.get(key)) is not None and outcome.fence >= command.fence:
                continue
            self.reporter.supersede(key, command.fence)
            self.summary.claimed += 1
            self._start(key, command, Lease(self.lease_end(sent)))
        metrics.commands_in_flight.set(len(self.running))

    def _start(self, key: Key, command: ClaimedCommand, lease: Lease) -> None:
        if self.budget.is_over or lease.has_expired:
            self._forget_expected(key)
            self.reporter.submit(released(command))
            return
        running = Running(command, lease)
        self.running[key] = running
        if command.delivery >= max(2, self.worker.settings.max_deliveries):
            self._isolate(running)
        else:
            self.speculative_runs.begin(command, lease)
            running.task = asyncio.create_task(self._run(key, running))

    def run_speculatively(self, command: ClaimedCommand, lease: Lease) -> None:
        """Run what is not claimed yet, under the lease of what it follows from."""
        key = key_of(command)
        running = self.running[key] = Running(command, lease)
        running.task = asyncio.create_task(self._run(key, running))

    # -- the last delivery

    def _isolate(self, running: Running) -> None:
        """A command that is given out for the last time runs when nothing else does.

        If it is what killed its workers, then all that they had in hand was lost with it as often, and would be
        given up with it. The others that are at their end too are handed back, which takes the delivery back.
        """
        if self.isolated is None:
            self.isolated = running
            self._changed.set()
        else:
            self._release(running)

    async def _run_alone(self, alone: Running) -> None:
        key = (alone.command.execution_id, alone.command.command_id)
        while self._others_running and self.running.get(key) is alone and not self.budget.is_closing:
            await self._wait_for_change(self.budget.until_closing())
        if self.running.get(key) is alone and not self.budget.is_closing:
            alone.task = asyncio.create_task(self._run(key, alone))
            while self.running.get(key) is alone and not self.budget.is_closing:
                await self._wait_for_change(self.budget.until_closing())
        if self.isolated is alone and self.running.get(key) is not alone:
            self.isolated = None

    @property
    def accepts_work(self) -> bool:
        """Whether what follows from a report may come with the answer."""
        waits = self.isolated is not None and self.isolated.task is None
        return not (self.budget.is_closing or waits)

    @property
    def _others_running(self) -> bool:
        return len(self.running) > 1 or self._unsettled

    async def _run(self, key: Key, running: Running) -> None:
        outcome = await self.worker.execute(running.command, self.budget, running.lease)
        if outcome.status == "released":
            self._forget_expected(key)
        if self.running.get(key) is running:
            del self.running[key]
        if running.lost:
            self.summary.lost += 1
            self._changed.set()
        elif not self.speculative_runs.end(running.command, outcome):
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
        self._changed.set()

    async def _recover(self) -> None:
        """Ask for what was claimed for this worker in an answer that never came."""
        # alone, for what another call is about to bring would look lost too
        async with self.gate.exclusive():
            held = [key for key in self.running if not self.speculative_runs.is_doubtful(key)]
            held += [*self.reporter.unanswered, *(key_of(leased) for leased in self.speculative_runs.leased_commands())]
            request = ClaimRequest(
                worker_id=self.worker.id,
                pool=self.worker.settings.pool,
                limit=0,
                lease=self.worker.settings.lease,
                plans=self.worker.plans.recent(),
                recover=True,
                holding=[CommandKey(execution_id=a, command_id=b) for a, b in held],
            )
            sent = self.now()
            try:
                answer = await self.worker.client.claim(request, within=self.call_timeout())
            except Problem as problem:
                # they come back when their leases run out
                logger.error("recovering failed: %s", problem.detail)
                self.summary.more = True
                self.speculative_runs.recovered([], sent)
                return
            await self.accept(self.speculative_runs.recovered(answer.body.commands, sent), answer.body.plans, sent)

    def abandon(self, running: Running) -> None:
        running.lost = True
        self._forget_expected(key_of(running.command))
        self.running.pop(key_of(running.command), None)
        self.speculative_runs.forget(running.command)
        if running.task is not None:
            running.task.cancel()
        self._changed.set()

    # -- ending

    async def _finish(self) -> None:
        if self.isolated is not None and self.isolated.task is None:
            self._release(self.isolated)
        while self._busy and not self.budget.is_over:
            await self._wait_for_change(self.budget.until_over())
        # one that never began could not hand its command back
        await asyncio.sleep(0)
        for running in list(self.running.values()):
            if running.task is not None:
                running.task.cancel()
        while self._busy and self.budget.left() > 0:
            await self._wait_for_change(self.budget.left())
        self.reporter.give_up()
        leftover = [*self.reporter.calls, *self.speculative_runs.calls, *self._recoveries]
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover)

    def _release(self, running: Running) -> None:
        """What has not begun, if it is still ours."""
        key = (running.command.execution_id, running.command.command_id)
        if self.running.pop(key, None) is not None:
            self._forget_expected(key)
            self.reporter.submit(released(running.command))

    def _forget_expected(self, key: Key) -> None:
        """What is not held any more is pointed to anew, for whoever comes first."""
        self._expected.discard(key)

    @property
    def unanswered(self) -> Mapping[Key, Outcome]:
        return self.reporter.unanswered

    @property
    def _busy(self) -> bool:
        return bool(self.running) or self._unsettled

    @property
    def _unsettled(self) -> bool:
        return bool(self.reporter.unanswered or self.reporter.calls or self._recoveries) or self.speculative_runs.busy

    def free_slots(self) -> int:
        if self.isolated is not None:
            return 0
        taken = len(self.running) + len(self.reporter.unanswered) + self.speculative_runs.waiting + self.reserved
        return self.worker.settings.max_in_flight - taken

    def call_timeout(self) -> float:
        return max(1.0, self.budget.left())

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def lease_end(self, sent: float) -> float:
        """When a lease runs out that the answer to a call gave which was `sent` then."""
        return sent + self.worker.settings.lease

    def note_answer(self) -> None:
        """The control plane has answered."""
        self.answered_at = self.now()

    def wake(self) -> None:
        """The budget has changed: look at it."""
        self._changed.set()

    async def _wait_for_change(self, timeout: float) -> None:
        """Until something ended, or `timeout` seconds have passed."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
