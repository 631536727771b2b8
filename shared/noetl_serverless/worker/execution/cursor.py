"""A frame of a loop over a cursor: claims rows, and runs the tasks of its step for them.

What is claimed is recorded in the result store before the claim commits: see `tools.postgres_claim`. A worker that
takes over the frame finds the record, and continues with the rows that were claimed instead of claiming others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import orjson

from ...engine import events as e
from ...errors import Problem
from ...playbook.plan import FRAME_MAX_ROWS, Cursor, Loop
from ...playbook.scope import build_scope
from ...playbook.template import render_tree
from ...playbook.template_error import TemplateError
from ...protocol import Frame, FrameOutcome
from ...results.offload import dump
from ...results.reference import storage_key
from ...results.retry import retry_while_away
from ...tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome
from .errors import from_problem, from_template
from .frame import FrameResult, FrameRun
from .job import Job, TaskResult
from .toolbox import CallIdentity, context_of

# what remains of a lease when the claim's transaction has to be over
MARGIN_SECONDS = 2.0
# of a claim under a lease without an end, in a worker that nothing can take a command away from
CLAIM_SECONDS = 60.0
# how often to ask for the end of a transaction that is still under way
STATUS_PAUSE_SECONDS = 0.2
# in what a suspended frame is resumed with: where its claim is recorded
CLAIM = "claim"


class ClaimingTool(Protocol):
    """A tool that claims rows: see `tools.postgres.Postgres`."""

    async def claim(self, call: ToolCall, context: ToolContext, record: Any, seconds: float) -> ToolOutcome: ...

    async def claim_status(self, auth: str, context: ToolContext, transaction: int) -> str: ...


class CursorRun(FrameRun):
    """Its items are the rows that it has claimed; with `process: frame`, the list of them is its only item."""

    def __init__(self, job: Job, loop: Loop, cursor: Cursor, frame: Frame) -> None:
        super().__init__(job, loop, frame)
        self._cursor = cursor
        # unknown while there is something to claim
        self.count = None
        self._started = time.monotonic()
        self._drained = False
        # how often the rows have been processed, this time included
        self._attempt = 1
        # where the claim of this frame is recorded
        self._recorded: str | None = None
        # how many claims have been recorded in this delivery
        self._records = 0
        job.lease.seconds = cursor.lease_seconds
        job.lease.heartbeat_seconds = cursor.heartbeat_seconds

    async def run(self) -> FrameResult:
        try:
            return await super().run()
        except asyncio.CancelledError:
            if self._recorded is None:
                raise
            # the claim may have committed: whoever continues has to look
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            return await self._suspended_result("deferred")
        except ToolFailure as failure:
            return self._not_claimed(failure.error)
        except TemplateError as error:
            return self._not_claimed(from_template(error, self.job.step.place.line))
        except Problem as problem:
            return self._not_claimed(from_problem(problem, "loop"))

    # -- claiming

    async def _load_items(self) -> list[Any]:
        rows = await self._claimed_before()
        if rows is None:
            rows = await self._claim()
        self._drained = not rows
        items = rows if self._cursor.by_row or not rows else [rows]
        start = self.frame.start
        self.frame = Frame(
            index=self.frame.index, start=start, end=start + len(items), concurrency=self._cursor.concurrency
        )
        return items

    async def _claim(self) -> list[Any]:
        call = await self._call()
        outcome = await self._tool.claim(call, self._context(), self._record, self._seconds())
        if outcome.error is None:
            rows: list[Any] = outcome.data["rows"]
            return rows
        # a connection that broke may have committed
        if self._recorded is not None and (rows_after_all := await self._claimed_before()) is not None:
            return rows_after_all
        raise ToolFailure(**outcome.error)

    async def _call(self) -> ToolCall:
        extra = {FRAME_MAX_ROWS: self._cursor.max_rows}
        command = self.job.command

        def render(fetch: Any) -> dict[str, Any]:
            scope = build_scope(
                workload=command.workload,
                ctx=self.job.ctx,
                ctx_refs=command.scope.get(e.CTX_REFS),
                steps=command.scope.get("steps") or {},
                loops=self.job.loops,
                execution_id=command.execution_id,
                fetch=fetch,
                extra=extra,
            )
            config = {"auth": self._cursor.auth, "command": self._cursor.claim}
            return cast(dict[str, Any], render_tree(config, scope))

        config = await self.job.lazy.render(render)
        limits = {"max_rows": self._cursor.max_rows, "max_bytes": self._cursor.max_bytes}
        return ToolCall(self._cursor.kind, "claim", {**config, **limits}, input=dict(extra))

    def _seconds(self) -> float:
        """How long the claim's transaction may last: another worker must not look for its record before it is over."""
        remaining = self.job.lease.until - asyncio.get_running_loop().time() - MARGIN_SECONDS
        if remaining <= 0:
            raise asyncio.CancelledError
        return min(remaining, CLAIM_SECONDS) if math.isfinite(remaining) else CLAIM_SECONDS

    # -- records

    def _key(self, delivery: int, number: int) -> str:
        """Where a claim of one delivery of this command is recorded: the first one, or one after that was rolled
        back."""
        command = self.job.command
        name = f"claim-{command.generation}-{self.frame.index}-{command.attempt}-{delivery}-{number}"
        return storage_key(command.execution_id, command.step, name)

    async def _record(self, rows: list[dict[str, Any]], transaction: int) -> None:
        key = self._key(self.job.command.delivery, self._records)
        content = dump({"rows": rows, "transaction": transaction})
        store = self.job.toolbox.store
        self._recorded = key
        self._records += 1
        await retry_while_away(lambda: store.put(key, content), "the record of claimed rows could not be stored")

    async def _claimed_before(self) -> list[Any] | None:
        """The rows that this frame has claimed already, if it has. This delivery is looked at, too: a worker that took
        its lease for lost, or its answer, may be given the same once more."""
        resume = self.job.resume or {}
        for key in [key for key in (resume.get(CLAIM), self._recorded) if key is not None]:
            if (record := await self._recorded_at(key)) and await self._is_committed(record["transaction"]):
                self._recorded = key
                return list(record["rows"])
        for delivery in range(1, self.job.command.delivery + 1):
            self._records = 0
            while (record := await self._recorded_at(key := self._key(delivery, self._records))) is not None:
                if await self._is_committed(record["transaction"]):
                    self._recorded = key
                    return list(record["rows"])
                self._records += 1
        return None

    async def _recorded_at(self, key: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = orjson.loads(await self.job.toolbox.store.get(key))
        except KeyError:
            return None
        return record

    async def _is_committed(self, transaction: int) -> bool:
        auth = (await self._call()).config["auth"]
        while True:
            status = await self._tool.claim_status(auth, self._context(), transaction)
            if status == "unknown":
                message = "it is no longer known whether rows were claimed: the claim is too long ago"
                raise ToolFailure("loop", "loop.claim_unknown", message)
            if status != "in progress":
                return status == "committed"
            self.job.lease.check()
            await asyncio.sleep(STATUS_PAUSE_SECONDS)

    @property
    def _tool(self) -> ClaimingTool:
        return cast(ClaimingTool, self.job.toolbox.load_tool(self._cursor.kind))

    def _context(self) -> ToolContext:
        command = self.job.command
        name = f"{command.step}/{command.generation}/claim/{self.frame.index}"
        identity = CallIdentity.of(command, name, share=self.job.share)
        return context_of(self.job.toolbox, identity, self.job.stopwatch.paused, self.job.find_credential)

    # -- running

    async def _run_all(self) -> None:
        while True:
            await super()._run_all()
            failed = {index for index, end in self.ends.items() if _is_retryable(end)}
            if not failed or self._failed or self._attempt == self._cursor.max_attempts:
                return
            self._attempt += 1
            again = set(self.ends) if self._cursor.retries_all else failed
            self.ends = {index: end for index, end in self.ends.items() if index not in again}
            self._next = self.frame.start

    def _fails(self, end: TaskResult) -> bool:
        """The others still run if the row may be processed again."""
        is_final = self._attempt == self._cursor.max_attempts or not _is_retryable(end)
        return is_final and super()._fails(end)

    def _next_index(self) -> int | None:
        if self.ends and time.monotonic() - self._started > self._cursor.max_seconds:
            return None
        return super()._next_index()

    # -- ending

    async def _result(self) -> FrameResult:
        if not self._failed and len(self.ends) < self.frame.end - self.frame.start:
            return await self._suspended_result("deferred")
        return await super()._result()

    async def _partial_result(self) -> FrameResult | None:
        return None

    async def _suspended_result(self, status: str) -> FrameResult:
        """It goes on at once, unless the caller says otherwise."""
        suspended = await super()._suspended_result(status)
        return replace(suspended, delay=0.0, resume={**(suspended.resume or {}), CLAIM: self._recorded})

    def _frame_outcome(self, end: int) -> FrameOutcome:
        outcome = super()._frame_outcome(end)
        outcome.drained = self._drained
        return outcome

    def _not_claimed(self, error: Mapping[str, Any]) -> FrameResult:
        start = self.frame.start
        outcome = FrameOutcome(start=start, end=start, ok=0, failed=0)
        line = self.job.step.place.line
        return FrameResult("error", data=[], outcome=outcome, error={"at": line, **error})


def _is_retryable(end: TaskResult) -> bool:
    return end.status == "error" and bool((end.error or {}).get("retryable"))
