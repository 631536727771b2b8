"""One drain from its first pull to its last report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, Problem, TooLarge
from ..ports import Pointer
from ..protocol import (
    ClaimedCommand,
    ClaimRequest,
    CommandKey,
    HeartbeatRequest,
    Held,
    Outcome,
    ReportRequest,
    ReportResponse,
)
from ..telemetry import metrics
from .budget import Budget
from .errors import step_error
from .execute import released
from .gate import Gate

if TYPE_CHECKING:
    from .drain import Worker

logger = logging.getLogger(__name__)

Key = tuple[str, str]

# so many reports may be under way at once
REPORTS = 4
# with one under way, an outcome waits this long for others to go with it
HOLD = 0.002
MOST_OUTCOMES = 64
REFUSED = "outcome_refused"
# while commands run, the bus is asked this long for more
PULL_WAIT = 0.25
# without anything to do, it is asked this long before the drain ends
LAST_PULL_WAIT = 0.05


@dataclass(slots=True, eq=False)
class Running:
    command: ClaimedCommand
    task: asyncio.Task[None] | None = None
    # no longer this worker's: its outcome is not wanted
    lost: bool = False


@dataclass(slots=True)
class Summary:
    """`more`: work may be left that nobody will ring for."""

    claimed: int = 0
    done: int = 0
    failed: int = 0
    suspended: int = 0
    released: int = 0
    lost: int = 0
    refused: int = 0
    unreported: int = 0
    more: bool = False


class Shift:
    def __init__(self, worker: Worker, budget: Budget) -> None:
        self.worker = worker
        self.budget = budget
        self.summary = Summary()
        self._running: dict[Key, Running] = {}
        # outcomes not yet answered for: their leases are still ours
        self._unanswered: dict[Key, Outcome] = {}
        self._ready: list[Outcome] = []
        self._reports: set[asyncio.Task[None]] = set()
        self._hold: asyncio.TimerHandle | None = None
        # slots promised to calls that are under way
        self._reserved = 0
        self._gate = Gate()
        self._changed = asyncio.Event()
        self._recoveries: set[asyncio.Task[None]] = set()

    async def run(self) -> Summary:
        heart = asyncio.create_task(self._beat())
        try:
            while True:
                await self._take_work()
                await self._finish()
                if self.budget.closing or not self.worker.rung():
                    break
        finally:
            heart.cancel()
            metrics.commands_in_flight.set(0)
        return self.summary

    # -- taking

    async def _take_work(self) -> None:
        while not self.budget.closing:
            if self.worker.sweep_wanted():
                await self._claim([])
            free = self._free()
            if free <= 0:
                await self._change(min(1.0, self.budget.until_closing()))
                continue
            pointers = await self._pull(free)
            if pointers:
                await self._claim(pointers)
            elif not self._busy:
                return
        self.summary.more = True

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

    async def _claim(self, pointers: Sequence[Pointer]) -> int:
        settings = self.worker.settings
        request = ClaimRequest(
            worker_id=self.worker.id,
            pool=settings.pool,
            commands=[pointer.key for pointer in pointers],
            limit=len(pointers) or max(0, self._free()),
            lease=settings.lease,
            plans=self.worker.plans.recent(),
        )
        self._reserved += request.limit
        try:
            async with self._gate.shared():
                answer = await self.worker.client.claim(request, within=self._within())
                await self._accept(answer.body.commands, answer.body.plans)
        except Problem as problem:
            logger.error("claiming failed: %s", problem.detail)
            self.summary.more = True
            if problem.extra.get("doubtful"):
                self._start_recovery()
            # not at once again: the bus will point to them once more
            await self._change(min(1.0, self.budget.until_closing()))
            return 0
        finally:
            self._reserved -= request.limit
        if answer.doubtful:
            self._start_recovery()
        await self._ack(pointers)
        return len(answer.body.commands)

    async def _ack(self, pointers: Sequence[Pointer]) -> None:
        if not pointers:
            return
        try:
            await self.worker.notifier.ack(pointers)
        except Exception as error:
            # they come again, and are then found to be gone
            logger.warning("the bus took no acknowledgement: %s", type(error).__name__)

    async def _accept(self, commands: Sequence[ClaimedCommand], plans: Mapping[str, str]) -> None:
        if plans:
            await self.worker.learn(plans)
        for command in commands:
            key = (command.execution_id, command.command_id)
            if (held := self._running.get(key)) is not None:
                if held.command.fence >= command.fence:
                    continue
                self._lose(held)
            elif (outcome := self._unanswered.get(key)) is not None and outcome.fence >= command.fence:
                continue
            self.summary.claimed += 1
            self._start(key, command)
        metrics.commands_in_flight.set(len(self._running))

    def _start(self, key: Key, command: ClaimedCommand) -> None:
        if self.budget.over:
            self._hand_in(released(command))
            return
        running = Running(command)
        self._running[key] = running
        running.task = asyncio.create_task(self._run(key, running))

    async def _run(self, key: Key, running: Running) -> None:
        outcome = await self.worker.execute(running.command, self.budget)
        if self._running.get(key) is running:
            del self._running[key]
        if running.lost:
            self.summary.lost += 1
            self._changed.set()
        else:
            self._hand_in(outcome)

    # -- reporting

    def _hand_in(self, outcome: Outcome) -> None:
        """Alone and at once if nothing is under way, else with those that end within a moment."""
        self._unanswered[_key(outcome)] = outcome
        self._ready.append(outcome)
        if not self._reports or len(self._ready) >= MOST_OUTCOMES:
            self._flush()
        elif self._hold is None:
            self._hold = asyncio.get_running_loop().call_later(HOLD, self._flush)

    def _flush(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        while self._ready and len(self._reports) < REPORTS:
            batch, self._ready = self._ready[:MOST_OUTCOMES], self._ready[MOST_OUTCOMES:]
            task = asyncio.create_task(self._report(batch))
            self._reports.add(task)
            task.add_done_callback(self._reported)

    def _reported(self, task: asyncio.Task[None]) -> None:
        self._reports.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reporting failed", exc_info=error)
        self._flush()
        self._changed.set()

    async def _report(self, batch: list[Outcome]) -> None:
        # the slots of the batch itself are free again with the answer
        spare = max(0, self._free())
        self._reserved += spare
        try:
            async with self._gate.shared():
                await self._deliver(batch, spare)
        finally:
            self._reserved -= spare
            for outcome in batch:
                kept = self._unanswered.get(_key(outcome))
                if kept is not None and kept.fence == outcome.fence:
                    del self._unanswered[_key(outcome)]

    async def _deliver(self, batch: list[Outcome], spare: int = 0) -> None:
        """Report, and begin what the answer brings. What the control plane will not have is sent as an error."""
        try:
            answer = await self._send(batch, len(batch) + spare)
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
            self.summary.unreported += len(batch)
            self.summary.more = True
            return
        self._settle(batch, answer)
        await self._accept(answer.commands, answer.plans)

    async def _send(self, batch: list[Outcome], capacity: int) -> ReportResponse:
        settings = self.worker.settings
        request = ReportRequest(
            worker_id=self.worker.id,
            pool=settings.pool,
            outcomes=batch,
            capacity=0 if self.budget.closing else min(capacity, 1000),
            lease=settings.lease,
            plans=self.worker.plans.recent(),
        )
        answer = await self.worker.client.report(request, within=self._within())
        if answer.doubtful:
            self._start_recovery()
        return answer.body

    def _settle(self, batch: list[Outcome], answer: ReportResponse) -> None:
        sent = {_key(outcome): outcome for outcome in batch}
        for result in answer.results:
            outcome = sent[_key(result)]
            self._unanswered.pop(_key(outcome), None)
            match result.status:
                case "accepted":
                    self._tally(outcome)
                case "refused":
                    # the control plane has put an error in its place
                    logger.error("an outcome was refused: %s", result.detail, extra=_names(result))
                    self.summary.refused += 1
                case "stale":
                    # another holds it by now, or it was accepted before and the answer was lost
                    logger.info("a stale outcome", extra=_names(result))

    def _reworded(self, outcome: Outcome, detail: str) -> list[Outcome]:
        """In place of an outcome that cannot be sent, an error that says so; nothing the second time."""
        logger.error("an outcome could not be reported: %s", detail, extra=_names(outcome))
        refused_before = (outcome.error or {}).get("code") == REFUSED
        if refused_before or outcome.status == "released":
            self.summary.refused += 1
            return []
        error = step_error("worker", REFUSED, f"the control plane refused the outcome: {detail}")
        names = _names(outcome)
        return [Outcome(**names, fence=outcome.fence, status="error", error=error)]

    def _tally(self, outcome: Outcome) -> None:
        match outcome.status:
            case "done":
                self.summary.done += 1
            case "error":
                self.summary.failed += 1
            case "deferred" | "parked":
                self.summary.suspended += 1
            case "released":
                self.summary.released += 1

    # -- recovering

    def _start_recovery(self) -> None:
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
        async with self._gate.exclusive():
            held = [*self._running, *self._unanswered]
            request = ClaimRequest(
                worker_id=self.worker.id,
                pool=self.worker.settings.pool,
                limit=0,
                lease=self.worker.settings.lease,
                plans=self.worker.plans.recent(),
                recover=True,
                holding=[CommandKey(execution_id=a, command_id=b) for a, b in held],
            )
            try:
                answer = await self.worker.client.claim(request, within=self._within())
            except Problem as problem:
                # they come back when their leases run out
                logger.error("recovering failed: %s", problem.detail)
                self.summary.more = True
                return
            await self._accept(answer.body.commands, answer.body.plans)

    # -- keeping

    async def _beat(self) -> None:
        settings = self.worker.settings
        while True:
            await asyncio.sleep(settings.lease / 3)
            held = [
                *(_held(running.command) for running in self._running.values()),
                *(_held(outcome) for outcome in self._unanswered.values()),
            ]
            if not held:
                continue
            request = HeartbeatRequest(worker_id=self.worker.id, commands=held[:1000], lease=settings.lease)
            try:
                answer = await self.worker.client.heartbeat(request, within=settings.lease / 3)
            except Problem as problem:
                logger.warning("a heartbeat was not heard: %s", problem.detail)
                continue
            for key in answer.lost:
                running = self._running.get(_key(key))
                if running is not None:
                    logger.warning("a command is no longer ours", extra=_names(key))
                    self._lose(running)

    def _lose(self, running: Running) -> None:
        running.lost = True
        self._running.pop((running.command.execution_id, running.command.command_id), None)
        if running.task is not None:
            running.task.cancel()

    # -- ending

    async def _finish(self) -> None:
        while self._busy and not self.budget.over:
            await self._change(self.budget.until_over())
        # one that never began could not hand its command back
        await asyncio.sleep(0)
        for running in list(self._running.values()):
            if running.task is not None:
                running.task.cancel()
        while self._busy and self.budget.left() > 0:
            await self._change(self.budget.left())
        leftover = [*self._reports, *self._recoveries]
        for task in leftover:
            task.cancel()
        if leftover:
            await asyncio.wait(leftover)

    @property
    def _busy(self) -> bool:
        return bool(self._running or self._unanswered or self._reports or self._recoveries)

    def _free(self) -> int:
        return self.worker.settings.max_in_flight - len(self._running) - len(self._unanswered) - self._reserved

    def _within(self) -> float:
        return max(1.0, self.budget.left())

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


def _key(named: CommandKey) -> Key:
    return named.execution_id, named.command_id


def _held(named: ClaimedCommand | Outcome) -> Held:
    return Held(execution_id=named.execution_id, command_id=named.command_id, fence=named.fence)


def _names(named: CommandKey) -> dict[str, str]:
    return {"execution_id": named.execution_id, "command_id": named.command_id}
