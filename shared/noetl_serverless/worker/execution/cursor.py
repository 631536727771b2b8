"""A frame of a loop over a cursor: claims rows, and runs the tasks of its step for them.

What is claimed is recorded in the result store before the claim commits: see `tools.postgres_claim`. A worker that
takes over the frame finds the record, and continues with the rows that were claimed instead of claiming others.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import orjson

from ...engine import events as e
from ...errors import Problem, Unavailable
from ...playbook.plan import FRAME_MAX_ROWS, Cursor, Loop
from ...playbook.scope import build_scope
from ...playbook.template import render_tree
from ...playbook.template_error import TemplateError
from ...playbook.values import InvalidValue
from ...protocol import Frame, FrameOutcome
from ...results.offload import dump
from ...results.reference import storage_key
from ...results.retry import retry_while_away
from ...tables.table import Table
from ...tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome
from .domain import to_domain
from .errors import from_problem, from_template, step_error
from .frame import FrameResult, FrameRun
from .job import Job
from .store_result import store_part
from .task_result import TaskResult

logger = logging.getLogger(__name__)

# what remains of a lease when the claim's transaction has to be over
MARGIN_SECONDS = 2.0
# of a claim under a lease without an end, in a worker that nothing can take a command away from
CLAIM_SECONDS = 60.0
# how often to ask for the end of a transaction that is still under way
STATUS_PAUSE_SECONDS = 0.2
# a claim, and the question for the end of one, is repeated after an error that may pass: so often at most, at intervals
# that double up to the longest. The second is for rows that may have been claimed and would be lost with the frame
CLAIM_TRIES = 6
STATUS_TRIES = 60
MAX_DELAY_SECONDS = 60.0
# in what a suspended frame is resumed with: where its claim may be recorded, how often it was tried in vain, and how
# often its rows have been processed
CLAIMS = "claims"
TRIES = "tries"
ATTEMPT = "attempt"
CLAIM_UNKNOWN = "loop.claim_unknown"


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
        resume = job.resume or {}
        # how often the rows have been processed, this time included
        self._attempt: int = resume.get(ATTEMPT, 1)
        # how often it was tried in vain
        self._tries: int = resume.get(TRIES, 0)
        # what the records of claims of this frame that may have committed begin with; also of this delivery, which is
        # made once more to a worker that took its lease for lost, or lost the answer that granted it
        self._records: list[str] = [*resume.get(CLAIMS, ()), *map(self._name, range(1, job.command.delivery + 1))]
        # how many claims have been recorded in this delivery
        self._number = 0
        self._is_restored = False
        # each command processes a row at least
        self._has_begun = False
        job.lease.seconds = cursor.lease_seconds
        job.lease.heartbeat_seconds = cursor.heartbeat_seconds

    async def run(self) -> FrameResult:
        try:
            return await super().run()
        except asyncio.CancelledError:
            if not self._records:
                raise
            # the claim may have committed: whoever continues has to look
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            return await self._suspended_result("deferred")
        except ToolFailure as failure:
            return self._claim_failed(failure.error)
        except TemplateError as error:
            return self._claim_failed(from_template(error, self.job.plan, self.job.step.place.line))
        except Problem as problem:
            return self._claim_failed(from_problem(problem, "loop"))
        except Exception as error:
            # without a count of its rows all that it might have claimed would have failed, and others be claimed
            logger.exception("the frame failed in the worker")
            return self._claim_failed(step_error("worker", "worker.internal", f"{type(error).__name__}: {error}"))

    # -- claiming

    async def _load_items(self) -> Sequence[Any]:
        rows = await self._claimed_before()
        if rows is None:
            rows = await self._claim()
        if isinstance(rows, Table):
            self.job.lazy.expect_tables()
        self._drained = not rows
        items = rows if self._cursor.by_row or not rows else [rows]
        start = self.frame.start
        self.frame = Frame(
            index=self.frame.index, start=start, end=start + len(items), concurrency=self._cursor.concurrency
        )
        return items

    async def _claim(self) -> Sequence[Any]:
        call = await self._call()
        outcome = await self._tool.claim(call, self._context(), self._record, self._seconds())
        if outcome.error is None:
            rows: Sequence[Any] = outcome.data["rows"]
            return rows
        # a connection that broke may have committed
        if (rows_after_all := await self._claimed_before()) is not None:
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
                variables=self.job.variables,
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

    def _name(self, delivery: int) -> str:
        """What the records of the claims of one delivery of this command begin with."""
        return f"claim-{self.job.command.generation}-{self.frame.index}-{self.job.command.attempt}-{delivery}"

    def _key(self, name: str, number: int) -> str:
        """Where a claim is recorded: the first one of a delivery, or one after that was rolled back. None overwrites
        another: a store may take them in another order than they were sent."""
        return storage_key(self.job.command.execution_id, self.job.command.step, f"{name}-{number}")

    async def _record(self, rows: list[dict[str, Any]] | Table, transaction: int) -> None:
        name = self._name(self.job.command.delivery)
        key, content = self._key(name, self._number), dump({**await self._kept(rows), "transaction": transaction})
        store = self.job.toolbox.stores.default
        self._records.append(name)
        self._number += 1
        await retry_while_away(lambda: store.put(key, content), "the record of claimed rows could not be stored")

    async def _kept(self, rows: list[dict[str, Any]] | Table) -> dict[str, Any]:
        """{"rows"}, or {"ref"} to a table of them."""
        if isinstance(rows, Table):
            label = "the rows that were claimed"
            part = f"/claimed-{self._number}"
            return {"ref": await store_part(rows, self.job.command, self.job.toolbox, part=part, label=label)}
        try:
            return {"rows": await to_domain(rows, "rows")}
        except InvalidValue as error:
            raise ToolFailure("value", "value.invalid", f"what was claimed cannot be stored: at {error}") from None

    async def _claimed_before(self) -> Sequence[Any] | None:
        """The rows that this frame has claimed already, if it has."""
        for name in tuple(dict.fromkeys(self._records)):
            number = 0
            while (record := await self._recorded_at(self._key(name, number))) is not None:
                if await self._is_committed(record["transaction"]):
                    self._records = [name]
                    return await self._rows_of(record)
                number += 1
            self._records = [other for other in self._records if other != name]
            if name == self._name(self.job.command.delivery):
                self._number = number
        return None

    async def _rows_of(self, record: Mapping[str, Any]) -> Sequence[Any]:
        rows: Sequence[Any] = record["rows"] if "ref" not in record else await self.job.lazy.load(record["ref"])
        return rows

    async def _recorded_at(self, key: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = orjson.loads(await self.job.toolbox.stores.default.get(key))
        except KeyError:
            return None
        except OSError as error:
            # not the same as that there is none: the rows would be lost to the loop
            raise Unavailable(f"the record of claimed rows cannot be read: {error}") from error
        return record

    async def _is_committed(self, transaction: int) -> bool:
        auth = (await self._call()).config["auth"]
        while True:
            status = await self._tool.claim_status(auth, self._context(), transaction)
            if status == "unknown":
                message = "it is no longer known whether rows were claimed: the claim is too long ago"
                raise ToolFailure("loop", CLAIM_UNKNOWN, message)
            if status != "in progress":
                return status == "committed"
            self.job.lease.check()
            await asyncio.sleep(STATUS_PAUSE_SECONDS)

    @property
    def _tool(self) -> ClaimingTool:
        return cast(ClaimingTool, self.job.toolbox.load_tool(self._cursor.kind))

    def _context(self) -> ToolContext:
        command = self.job.command
        return self.job.context_of(f"{command.step}/{command.generation}/claim/{self.frame.index}", self._cursor.kind)

    # -- running

    async def _restore(self) -> None:
        await super()._restore()
        # a row that failed may be processed again
        self._failed = any(self._fails(end) for end in self.ends.values())
        self._is_restored = True

    async def _run_all(self) -> None:
        while True:
            await super()._run_all()
            failed = {index for index, end in self.ends.items() if _is_retryable(end)}
            is_complete = sum(map(_is_final, self.ends.values())) == self.frame.end - self.frame.start
            if not (failed and is_complete) or self._failed or self._attempt == self._cursor.max_attempts:
                return
            self._attempt += 1
            again = set(self.ends) if self._cursor.retries_all else failed
            self.ends = {index: end for index, end in self.ends.items() if index not in again}
            self._next = self.frame.start
            if self.job.step.rate is not None:
                # each attempt is a command of its own, which is counted
                return

    def _fails(self, end: TaskResult) -> bool:
        """The others still run if the row may be processed again."""
        is_final = self._attempt == self._cursor.max_attempts or not _is_retryable(end)
        return is_final and super()._fails(end)

    def _next_index(self) -> int | None:
        if self._has_begun and time.monotonic() - self._started > self._cursor.max_seconds:
            return None
        index = super()._next_index()
        self._has_begun |= index is not None
        return index

    # -- ending

    async def _result(self) -> FrameResult:
        if not self._failed and len(self.ends) < self.frame.end - self.frame.start:
            return await self._suspended_result("deferred")
        return await super()._result()

    async def _partial_result(self) -> FrameResult | None:
        return None

    async def _suspended_result(self, status: str) -> FrameResult:
        """It goes on at once, unless the caller says otherwise."""
        if not self._is_restored:
            return FrameResult(status, delay=0.0, resume={**(self.job.resume or {}), CLAIMS: self._records})
        suspended = await super()._suspended_result(status)
        resume = {**(suspended.resume or {}), CLAIMS: self._records, ATTEMPT: self._attempt}
        return replace(suspended, delay=0.0, resume=resume)

    def _frame_outcome(self, end: int) -> FrameOutcome:
        outcome = super()._frame_outcome(end)
        outcome.drained = self._drained
        return outcome

    def _claim_failed(self, error: Mapping[str, Any]) -> FrameResult:
        """Later again, if the error may pass."""
        tries = self._tries + 1
        if error.get("retryable") and tries < (STATUS_TRIES if self._records else CLAIM_TRIES):
            resume = {**(self.job.resume or {}), CLAIMS: self._records, TRIES: tries}
            return FrameResult("deferred", delay=min(2.0**self._tries, MAX_DELAY_SECONDS), resume=resume)
        if self._records and error.get("code") != CLAIM_UNKNOWN:
            message = f"rows may have been claimed, which is not known: {error.get('message', '')}"
            error = {**error, "kind": "loop", "code": CLAIM_UNKNOWN, "message": message}
        start = self.frame.start
        outcome = FrameOutcome(start=start, end=start, ok=0, failed=0)
        line = self.job.step.place.line
        return FrameResult("error", data=[], outcome=outcome, error={"at": line, **error})


def _is_final(end: TaskResult) -> bool:
    return end.status in ("ok", "error")


def _is_retryable(end: TaskResult) -> bool:
    return end.status == "error" and bool((end.error or {}).get("retryable"))
