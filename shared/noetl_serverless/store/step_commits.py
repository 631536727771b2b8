"""Commits of one step each: those that arrive while a statement is under way go together in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pg8000.exceptions import DatabaseError

from ..records import Claimant, CommitResult
from .database import Database
from .steps import ADVANCE, Step, parameters, result

# a statement that takes longer, because it waits for a row, holds up the others no longer
SLOW_SECONDS = 0.01
MAX_STEPS = 128


@dataclass(slots=True, eq=False)
class _Commit:
    steps: list[Step]
    worker: str | None
    # None: nothing is claimed
    lease_seconds: float | None
    answer: asyncio.Future[CommitResult]

    def fits(self, others: Sequence[_Commit]) -> bool:
        """Whether one statement can write it with the others: it names one worker, each execution once, and one version
        of states. One that is larger than a batch goes by itself."""
        if not others:
            return True
        calls = (self, *others)
        workers = {call.worker for call in calls} - {None}
        leases = {call.lease_seconds for call in calls} - {None}
        ids = [step.execution_id for call in calls for step in call.steps]
        versions = {step.version for call in calls for step in call.steps}
        is_uniform = max(len(workers), len(leases), len(versions)) <= 1
        return is_uniform and len(set(ids)) == len(ids) <= MAX_STEPS


class StepCommits:
    """Nothing waits while no statement is under way."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Commit] = []
        self._under_way = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def commit(self, steps: list[Step], claimant: Claimant | None) -> CommitResult:
        """Raises DatabaseError, with nothing written, if one of the steps cannot be, and Unavailable."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # what was under way ended with its event loop
            self._loop, self._under_way, self._waiting = loop, 0, []
        worker = claimant.worker if claimant is not None else steps[0].commit.worker
        lease = claimant.lease_seconds if claimant is not None else None
        call = _Commit(steps, worker, lease, loop.create_future())
        if self._under_way:
            self._waiting.append(call)
            loop.call_later(SLOW_SECONDS, self._send_if_waiting, call)
        else:
            self._under_way += 1
            await self._write([call])
        return await call.answer

    def _send_if_waiting(self, call: _Commit) -> None:
        if call in self._waiting:
            self._send()

    def _send(self) -> None:
        """Send what waits, as much of it as one statement can write."""
        chosen: list[_Commit] = []
        left: list[_Commit] = []
        for call in self._waiting:
            if not call.answer.done():
                (chosen if call.fits(chosen) else left).append(call)
        self._waiting = left
        if chosen:
            self._under_way += 1
            task = asyncio.ensure_future(self._write(chosen))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write(self, calls: Sequence[_Commit]) -> None:
        try:
            await self._answer(calls)
        finally:
            self._under_way -= 1
            if self._waiting:
                self._send()

    async def _answer(self, calls: Sequence[_Commit]) -> None:
        steps = sorted((step for call in calls for step in call.steps), key=lambda step: step.execution_id)
        worker = next((call.worker for call in calls if call.worker is not None), None)
        lease_seconds = next((call.lease_seconds for call in calls if call.lease_seconds is not None), 0.0)
        try:
            ((granted, lease_ends),) = await self._database.call(ADVANCE, parameters(steps, worker, lease_seconds))
        except DatabaseError as error:
            if len(calls) > 1:
                # of several calls, one may be the cause
                for call in calls:
                    await self._answer([call])
            elif not calls[0].answer.done():
                calls[0].answer.set_exception(error)
        except asyncio.CancelledError:
            # the statement still runs to its end
            for call in calls:
                call.answer.cancel()
            raise
        except Exception as error:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(error)
        else:
            fences = dict(zip((step.execution_id for step in steps), granted.split(","), strict=True))
            for call in calls:
                if not call.answer.done():
                    own = [fences[step.execution_id] for step in call.steps]
                    call.answer.set_result(result(call.steps, own, lease_ends))
