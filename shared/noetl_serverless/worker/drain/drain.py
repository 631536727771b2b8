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
from ..execution.time_budget import Budget
from .gate import Gate
from .heartbeat import beat, watch
from .keys import Key, key_of
from .reporter import Reports
from .running import Running
from .speculative_runs import Chains
from .summary import Summary

if TYPE_CHECKING:
    from ..worker import Worker

logger = logging.getLogger(__name__)

# while commands run, the bus is asked this long for more
PULL_WAIT = 0.25
# without anything to do, it is asked this long before the drain ends
LAST_PULL_WAIT = 0.05
# while all slots are taken by what follows from what ended in them, one goes to whoever waits this often, in seconds
TURN = 0.1


class Shift:
    def __init__(self, worker: Worker, budget: Budget, named: Sequence[CommandKey] = ()) -> None:
        """`named`: what to claim first."""
        self.worker = worker
        self.budget = budget
        self.summary = Summary()
        self.running: dict[Key, Running] = {}
        self.reports = Reports(self)
        self.chains = Chains(self)
        # see `_set_apart`
        self.alone: Running | None = None
        # slots promised to calls that are under way
        self.reserved = 0
        # when the control plane last answered anything, by the loop's clock
        self.answered = 0.0
        self.gate = Gate()
        self._named = list(named)
        self._turn_at = 0.0
        # claimed by name, held or ended here, and not pointed to yet
        self._expected: set[Key] = set()
        self._changed = asyncio.Event()
        self._recoveries: set[asyncio.Task[None]] = set()

    async def run(self) -> Summary:
        self._turn_at = self.now()
        beside = [asyncio.create_task(task) for task in (beat(self), watch(self))]
        try:
            if self._named and not self.budget.closing:
                named = self._named[: self.free()]
                # what is let go at once is not to be expected afterwards
                self._expected = {key_of(name) for name in named}
                taken = await self._claim(named)
                self._expected &= {key_of(command) for command in taken or ()}
            while True:
                await self._take_work()
                await self._finish()
                if self.budget.closing or not self.worker.rung():
                    break
        finally:
            for task in beside:
                task.cancel()
            metrics.commands_in_flight.set(0)
        return self.summary

    # -- taking

    async def _take_work(self) -> None:
        while not self.budget.closing:
            if self.alone is not None:
                await self._run_alone(self.alone)
                continue
            if self.worker.sweep_wanted():
                await self._claim([])
            free = self.free()
            if free <= 0:
                await self._change(min(1.0, self.budget.until_closing()))
                continue
            pointers = await self._pull(free)
            if pointers:
                await self._follow(pointers)
            elif not self._busy:
                return
        self.summary.more = True

    def is_turn(self) -> bool:
        """Whether the next slot that comes free is for whoever's turn it is among all that waits: what follows from a
        loop that is long, or endless, would keep all slots to itself. A report under way has all that are free, and a
        loop of short steps has always one."""
        return self.now() - self._turn_at >= TURN and self.free() <= 0 and self.worker.client.speaks(2)

    def give_turn(self) -> None:
        self._turn_at = self.now()

    async def _pull(self, limit: int) -> list[Pointer]:
        wait = PULL_WAIT if self._busy else max(LAST_PULL_WAIT, self.worker.settings.linger)
        wait = min(wait, self.budget.until_closing())
        try:
            return await self.worker.notifier.pull(self.worker.settings.pool, limit, wait)
        except Exception as error:
            # the bus only points: what it would have pointed to can be asked for
            logger.warning("the bus does not answer (%s); claiming what is pending", type(error).__name__)
        claimed = await self._claim([])
        if not claimed and self._busy:
            await self._change(wait)
        return []

    async def _follow(self, pointers: Sequence[Pointer]) -> None:
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
            limit=len(keys) or max(0, self.free()),
            lease=settings.lease,
            plans=self.worker.plans.recent(),
        )
        self.reserved += request.limit
        try:
            async with self.gate.shared():
                sent = self.now()
                answer = await self.worker.client.claim(request, within=self.within())
                self.heard()
                await self.accept(answer.body.commands, answer.body.plans, sent)
        except Problem as problem:
            logger.error("claiming failed: %s", problem.detail)
            self.summary.more = True
            if problem.extra.get("doubtful"):
                self.recover()
            # not at once again: the bus will point to them once more
            await self._change(min(1.0, self.budget.until_closing()))
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
            await self.worker.learn(plans)
        for command in commands:
            key = (command.execution_id, command.command_id)
            if self.chains.meet(command, sent):
                continue
            if (held := self.running.get(key)) is not None:
                if held.command.fence >= command.fence:
                    continue
                self.lose(held)
            elif (outcome := self.reports.unanswered.get(key)) is not None and outcome.fence >= command.fence:
                continue
            self.reports.supersede(key, command.fence)
            self.summary.claimed += 1
            self._start(key, command, Lease(self.until(sent)))
        metrics.commands_in_flight.set(len(self.running))

    def _start(self, key: Key, command: ClaimedCommand, lease: Lease) -> None:
        if self.budget.over or lease.over:
            self._let_go(key)
            self.reports.hand_in(released(command))
            return
        running = Running(command, lease)
        self.running[key] = running
        if command.delivery >= max(2, self.worker.settings.max_deliveries):
            self._set_apart(running)
        else:
            self.chains.begin(command, lease)
            running.task = asyncio.create_task(self._run(key, running))

    def run_ahead(self, command: ClaimedCommand, lease: Lease) -> None:
        """Run what is not claimed yet, under the lease of what it follows from."""
        key = key_of(command)
        running = self.running[key] = Running(command, lease)
        running.task = asyncio.create_task(self._run(key, running))

    # -- the last delivery

    def _set_apart(self, running: Running) -> None:
        """A command that is given out for the last time runs when nothing else does.

        If it is what killed its workers, then all that they had in hand was lost with it as often, and would be
        given up with it. The others that are at their end too are handed back, which takes the delivery back.
        """
        if self.alone is None:
            self.alone = running
            self._changed.set()
        else:
            self._give_back(running)

    async def _run_alone(self, alone: Running) -> None:
        key = (alone.command.execution_id, alone.command.command_id)
        while self._others and self.running.get(key) is alone and not self.budget.closing:
            await self._change(self.budget.until_closing())
        if self.running.get(key) is alone and not self.budget.closing:
            alone.task = asyncio.create_task(self._run(key, alone))
            while self.running.get(key) is alone and not self.budget.closing:
                await self._change(self.budget.until_closing())
        if self.alone is alone and self.running.get(key) is not alone:
            self.alone = None

    @property
    def taking(self) -> bool:
        """Whether what follows from a report may come with the answer."""
        waits = self.alone is not None and self.alone.task is None
        return not (self.budget.closing or waits)

    @property
    def _others(self) -> bool:
        return len(self.running) > 1 or self._unsettled

    async def _run(self, key: Key, running: Running) -> None:
        outcome = await self.worker.execute(running.command, self.budget, running.lease)
        if outcome.status == "released":
            self._let_go(key)
        if self.running.get(key) is running:
            del self.running[key]
        if running.lost:
            self.summary.lost += 1
            self._changed.set()
        elif not self.chains.end(running.command, outcome):
            self.reports.hand_in(outcome)

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
            held = [key for key in self.running if not self.chains.doubts(key)]
            held += [*self.reports.unanswered, *(key_of(anchor) for anchor in self.chains.anchors())]
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
                answer = await self.worker.client.claim(request, within=self.within())
            except Problem as problem:
                # they come back when their leases run out
                logger.error("recovering failed: %s", problem.detail)
                self.summary.more = True
                self.chains.recovered([], sent)
                return
            await self.accept(self.chains.recovered(answer.body.commands, sent), answer.body.plans, sent)

    def lose(self, running: Running) -> None:
        running.lost = True
        self._let_go(key_of(running.command))
        self.running.pop(key_of(running.command), None)
        self.chains.forget(running.command)
        if running.task is not None:
            running.task.cancel()
        self._changed.set()

    # -- ending

    async def _finish(self) -> None:
        if self.alone is not None and self.alone.task is None:
            self._give_back(self.alone)
        while self._busy and not self.budget.over:
            await self._change(self.budget.until_over())
        # one that never began could not hand its command back
        await asyncio.sleep(0)
        for running in list(self.running.values()):
            if running.task is not None:
                running.task.cancel()
        while self._busy and self.budget.left() > 0:
            await self._change(self.budget.left())
        self.reports.abandon()
        leftover = [*self.reports.calls, *self.chains.calls, *self._recoveries]
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover)

    def _give_back(self, running: Running) -> None:
        """What has not begun, if it is still ours."""
        key = (running.command.execution_id, running.command.command_id)
        if self.running.pop(key, None) is not None:
            self._let_go(key)
            self.reports.hand_in(released(running.command))

    def _let_go(self, key: Key) -> None:
        """What is not held any more is pointed to anew, for whoever comes first."""
        self._expected.discard(key)

    @property
    def unanswered(self) -> Mapping[Key, Outcome]:
        return self.reports.unanswered

    @property
    def _busy(self) -> bool:
        return bool(self.running) or self._unsettled

    @property
    def _unsettled(self) -> bool:
        return bool(self.reports.unanswered or self.reports.calls or self._recoveries) or self.chains.busy

    def free(self) -> int:
        if self.alone is not None:
            return 0
        taken = len(self.running) + len(self.reports.unanswered) + self.chains.waiting + self.reserved
        return self.worker.settings.max_in_flight - taken

    def within(self) -> float:
        return max(1.0, self.budget.left())

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def until(self, sent: float) -> float:
        """When a lease runs out that the answer to a call gave which was `sent` then."""
        return sent + self.worker.settings.lease

    def heard(self) -> None:
        """The control plane has answered."""
        self.answered = self.now()

    def wake(self) -> None:
        """The budget has changed: look at it."""
        self._changed.set()

    async def _change(self, timeout: float) -> None:
        """Until something ended, or `timeout` seconds have passed."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
