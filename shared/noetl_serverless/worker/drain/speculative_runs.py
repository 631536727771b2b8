"""Pipelined executions: their steps run ahead, and their outcomes follow in order, one report of each under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import InvalidRequest, Problem, TooLarge, Unavailable
from ...playbook.plan import Step
from ...protocol import ClaimedCommand, Order, Outcome, ReportResponse
from ..execution.executor import released
from ..execution.lease import Lease
from .keys import Key, key_of, names_of
from .retry import Retry, at_fault
from .speculation import Ahead, as_sent
from .speculative_run import Chain

if TYPE_CHECKING:
    from .drain import Shift

logger = logging.getLogger(__name__)

# so many reports may be under way at once, of so many outcomes
CALLS = 4
MOST_OUTCOMES = 64
# while steps run on, the first outcome waits so long, in seconds, for so many to go with it: fewer, larger commits
HOLD = 0.01
ENOUGH = 16


class Chains:
    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._chains: dict[str, Chain] = {}
        self.calls: set[asyncio.Task[None]] = set()
        self._hold: asyncio.TimerHandle | None = None

    # -- running

    def begin(self, command: ClaimedCommand, lease: Lease) -> None:
        """A claimed command is about to run: if it may be run ahead of, it is a chain's anchor."""
        plan = self._shift.worker.plans.get(command.plan)
        ahead = Ahead.of(command, plan, self._shift.worker.id, self._runs) if plan is not None else None
        if ahead is None:
            return
        if (old := self._chains.get(command.execution_id)) is not None:
            self._drop(old)
        self._chains[command.execution_id] = Chain(command, ahead, lease)

    def end(self, command: ClaimedCommand, outcome: Outcome) -> bool:
        """A command has ended; False if it is for others to report it."""
        chain = self._chains.get(command.execution_id)
        if chain is None or chain.newest.command is not command:
            return False
        if outcome.status == "released":
            return self._handed_back(chain, outcome)
        outcome.at = self._shift.worker.clock()
        try:
            chain.end(as_sent(outcome), self._now())
        except ValueError:
            # the control plane will say what is wrong with it
            chain.end(outcome, self._now())
            chain.stop()
        if self._yields(chain):
            chain.stop()
        elif self._shift.taking:
            chain.follow()
        self._go_on(chain)
        self._flush()
        return True

    def _yields(self, chain: Chain) -> bool:
        """Whether a chain whose newest has ended is to end there, for its slot to be given away with the report."""
        others = (other for other in self._chains.values() if other is not chain)
        return self._shift.is_turn() and not any(other.over for other in others)

    def _go_on(self, chain: Chain) -> None:
        """Begin the newest, if it waits for that and nothing is against it."""
        link = chain.newest
        if link.begun:
            return
        if not self._shift.taking:
            chain.take_back()
            if not chain.links:
                self._remove(chain)
                self._shift.reports.hand_in(released(link.command))
        elif chain.may_begin(self._now()) and not chain.lease.over:
            link.begun = True
            self._shift.run_ahead(link.command, chain.lease)

    def _handed_back(self, chain: Chain, outcome: Outcome) -> bool:
        link = chain.newest
        chain.take_back()
        if chain.links:
            # no lease of its own: the control plane gives it out once it hears of those before it
            self._flush()
            return True
        self._remove(chain)
        outcome.fence = link.command.fence
        return False

    def _runs(self, step: Step) -> bool:
        settings = self._shift.worker.settings
        return all(settings.pools.get(task.kind, "shared") == settings.pool for task in step.tasks)

    # -- reporting

    def _flush(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        now = self._now()
        latest = now - HOLD
        waiting = [chain for chain in self._chains.values() if chain.ready]
        unsent = [chain for chain in waiting if chain.retry is None or chain.retry.due <= now]
        # those that run on first: of what the report may claim, their next is sure to be
        ready = sorted((chain for chain in unsent if chain.due(ENOUGH, latest)), key=lambda chain: chain.over)
        if len(ready) < len(unsent):
            self._hold = asyncio.get_running_loop().call_later(HOLD, self._flush)
        elif later := [chain.retry.due for chain in waiting if chain.retry is not None and chain.retry.due > now]:
            self._hold = asyncio.get_running_loop().call_at(min(later), self._flush)
        while ready and len(self.calls) < CALLS:
            batch: dict[Chain, list[Outcome]] = {}
            count = 0
            while ready and count < MOST_OUTCOMES:
                chain = ready.pop(0)
                batch[chain] = chain.send()
                count += len(batch[chain])
                alone = chain.retry is not None and chain.retry.alone
                if alone or (ready and ready[0].retry is not None and ready[0].retry.alone):
                    break
            task = asyncio.create_task(self._report(batch))
            self.calls.add(task)
            task.add_done_callback(self._reported)

    def _reported(self, task: asyncio.Task[None]) -> None:
        self.calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reporting failed", exc_info=error)
        self._flush()
        self._shift.wake()

    async def _report(self, batch: Mapping[Chain, list[Outcome]]) -> None:
        spare = max(0, self._shift.free()) if any(chain.over for chain in batch) else 0
        self._shift.reserved += spare
        try:
            async with self._shift.gate.shared():
                await self._deliver(batch, spare)
        finally:
            self._shift.reserved -= spare
            for chain in batch:
                if chain.sent:
                    # cancelled, or it failed in a way that nobody thought of
                    self._drop(chain)

    async def _deliver(self, batch: Mapping[Chain, list[Outcome]], spare: int) -> None:
        outcomes = [outcome for sent in batch.values() for outcome in sent]
        running = [order for chain in batch if (order := chain.unsent()) is not None]
        began = self._now()
        # what runs already needs no more room, whether or not there is any
        capacity = len(batch) + spare if self._shift.taking else len(running)
        turn = capacity > len(running) and self._shift.is_turn()
        try:
            answer = await self._shift.reports.send(outcomes, capacity, running, turn=turn)
        except (InvalidRequest, TooLarge) as problem:
            for chain in batch:
                self._send_less(chain, problem)
            return
        except Problem as problem:
            self._failed(batch, problem, began)
            return
        doubtful = answer.doubtful
        if not doubtful and any(chain.retry is not None and chain.retry.doubtful for chain in batch):
            doubtful = True
            self._shift.recover()
        await self._settle(batch, running, answer.body, doubtful, began)

    def _failed(self, batch: Mapping[Chain, list[Outcome]], problem: Problem, began: float) -> None:
        """The control plane did not answer, or with what says nothing of the outcomes: they are sent again, each
        execution's in a report of its own if it may be one that it fails at, and fewer of them if that fails too."""
        now = self._now()
        for chain, outcomes in batch.items():
            retry = chain.retry = chain.retry or Retry(began)
            retry.doubtful |= bool(problem.extra.get("doubtful"))
            if not isinstance(problem, Unavailable) or self._shift.budget.left() <= retry.pause:
                # the leases run out, and others do it again; they are dropped with their chain
                logger.error("%d outcomes could not be reported: %s", len(outcomes), problem.detail)
                self._shift.summary.unreported += len(outcomes)
                self._shift.summary.more = True
            elif not at_fault(problem, retry.since, self._shift.answered):
                retry.put_off(now)
                chain.sent = 0
            elif len(batch) > 1:
                retry.alone = True
                chain.sent = 0
            else:
                self._send_less(chain, problem)

    async def _settle(
        self,
        batch: Mapping[Chain, list[Outcome]],
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
                self._shift.summary.refused += result.status == "refused"
        claimed = {key_of(command): command for command in answer.commands}
        for chain in batch:
            self._answered(chain, statuses, claimed, doubtful, sent)
        for order in running:
            # it came without what it takes to run it, and is not run here any more
            command = claimed.get(key_of(order))
            if command is not None and command.order == order.order:
                self._shift.reports.hand_in(released(claimed.pop(key_of(order))))
        await self._shift.accept(list(claimed.values()), answer.plans, sent)

    def _answered(
        self,
        chain: Chain,
        statuses: Mapping[Key, str],
        claimed: dict[Key, ClaimedCommand],
        doubtful: bool,
        sent: float,
    ) -> None:
        self._count(chain.settle(statuses))
        if self._chains.get(chain.execution_id) is not chain:
            return
        if not chain.links:
            self._remove(chain)
            return
        key = key_of(chain.anchor)
        if key in claimed and chain.anchor_at(claimed[key]) is not None:
            del claimed[key]
            chain.lease.prolong(self._shift.until(sent))
            self._go_on(chain)
        elif doubtful:
            chain.doubtful = True
        else:
            logger.info("what was run ahead is not what follows", extra=names_of(chain.anchor))
            self._drop(chain)

    def _send_less(self, chain: Chain, problem: Problem) -> None:
        if chain.halve() or self._chains.get(chain.execution_id) is not chain:
            return
        first = chain.links[0].outcome
        logger.info("an outcome goes by itself: %s", problem.detail, extra=names_of(chain.anchor))
        self._drop(chain)
        if chain.retry is not None and chain.retry.doubtful:
            self._shift.recover()
        if first is not None:
            self._shift.reports.hand_in(first)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self._shift.summary.count(outcome)
            self._shift.summary.ahead += outcome.order is not None

    # -- what the rest of the worker asks and tells

    @property
    def busy(self) -> bool:
        return bool(self._chains or self.calls)

    @property
    def waiting(self) -> int:
        """How many have a slot, and nothing that runs in it."""
        return sum(not chain.newest.begun or chain.over for chain in self._chains.values())

    def anchors(self) -> list[ClaimedCommand]:
        """The leases that are held."""
        return [chain.anchor for chain in self._chains.values() if not chain.doubtful]

    def leases(self) -> dict[Key, Lease]:
        """Those of the anchors."""
        return {key_of(chain.anchor): chain.lease for chain in self._chains.values()}

    def holds(self, key: Key) -> Chain | None:
        """The chain that the command is part of."""
        chain = self._chains.get(key[0])
        return chain if chain is not None and chain.has(key) else None

    def doubts(self, key: Key) -> bool:
        """Whether the command is run ahead of what may be ours or not."""
        chain = self.holds(key)
        return chain is not None and chain.doubtful

    def meet(self, command: ClaimedCommand, sent: float) -> bool:
        """A lease came that is for one of the chains; `sent`: when the call was that brought it."""
        chain = self.holds(key_of(command))
        if chain is None or chain.sent:
            return False
        if command.fence < chain.anchor.fence:
            return True
        taken = chain.anchor_at(command)
        if taken is None:
            return False
        chain.lease.prolong(self._shift.until(sent))
        self._count(taken)
        self._go_on(chain)
        self._flush()
        return True

    def run_out(self, command: ClaimedCommand) -> bool:
        """The lease has run out under which a command runs: it is stopped, and what ended before it is reported all the
        same, for the control plane to say whether it comes too late. False if it is of no chain."""
        chain = self._chains.get(command.execution_id)
        if chain is None or chain.newest.command is not command:
            return False
        chain.take_back()
        if not chain.links:
            self._remove(chain)
        self._stop(command)
        self._flush()
        return True

    def lost(self, key: Key, fence: int | None) -> bool:
        """A heartbeat says that a lease is not ours; False if it is none of these."""
        chain = self.holds(key)
        if chain is None:
            return False
        # a report that is under way may just have ended the command
        if not chain.uncertain and key_of(chain.anchor) == key and chain.anchor.fence == fence:
            logger.warning("an execution is no longer ours", extra=names_of(chain.anchor))
            self._drop(chain)
        return True

    def recovered(self, commands: Sequence[ClaimedCommand], sent: float) -> list[ClaimedCommand]:
        """Of all that is ours, what is for others; chains in doubt of which nothing is ours have lost their race."""
        rest = [command for command in commands if not self.meet(command, sent)]
        for chain in [chain for chain in self._chains.values() if chain.doubtful]:
            self._drop(chain)
        return rest

    def forget(self, command: ClaimedCommand) -> None:
        """The command is stopped: so nothing of its chain can be reported any more."""
        chain = self._chains.get(command.execution_id)
        if chain is not None and chain.newest.command is command:
            self._remove(chain)

    def _drop(self, chain: Chain) -> None:
        """Others go on, from where the log stands."""
        if self._chains.get(chain.execution_id) is chain:
            self._remove(chain)
            self._stop(chain.newest.command)

    def _stop(self, command: ClaimedCommand) -> None:
        running = self._shift.running.get(key_of(command))
        if running is not None and running.command is command:
            self._shift.lose(running)

    def _remove(self, chain: Chain) -> None:
        if self._chains.get(chain.execution_id) is chain:
            del self._chains[chain.execution_id]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
