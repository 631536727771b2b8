"""From a claimed command to its outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from ...engine.digest import items_digest
from ...engine.result_check import VERDICT, may_be_last, verdict_on
from ...error_codes import former_code
from ...errors import Problem
from ...limits import META_BYTES
from ...playbook.json_paths import first_name
from ...playbook.plan import Plan, Step
from ...playbook.values import InvalidValue
from ...protocol import ClaimedCommand, Outcome
from ...results.extract import NotSelected
from ...results.offload import dump
from ...tables.media_types import has_tables
from ...tables.table import InvalidTable
from ...telemetry.logs import log_context
from ...telemetry.masking import masking
from .attempts import Attempts
from .background_write import BackgroundWrite
from .collection import render_collection
from .cursor import CursorRun
from .domain import MEASURED_META, TooLarge, fit_outcome, value_error
from .errors import clean, from_problem, step_error
from .frame import FrameRun
from .job import Job
from .lease import Lease
from .output import output_of, selection_error
from .pipeline import Pipeline
from .rendering import ReferenceLoader
from .result_digest import result_digest
from .set_values import store_set
from .stopwatch import Stopwatch
from .store_result import store_result
from .task_result import TaskResult
from .time_budget import TimeBudget
from .toolbox import Toolbox

logger = logging.getLogger(__name__)

# a command that did not end within this share of the longest possible run will not end next time either
HOPELESS_SHARE = 0.8


class Executor:
    def __init__(self, toolbox: Toolbox, worker: str = "") -> None:
        """`worker`: the id of the worker that runs the commands."""
        self._toolbox = toolbox
        self._worker = worker

    async def run(
        self,
        command: ClaimedCommand,
        plan: Plan,
        budget: TimeBudget,
        lease: Lease | None = None,
        write: BackgroundWrite | None = None,
    ) -> Outcome:
        """`lease`: no task begins once it has expired; without one, nothing can take the command away. `write`: takes
        over the write of a result that goes to a store, so that this returns before that has ended.

        When cancelled, this does not raise: it returns `released`, the finished part of a frame, or an error if the
        command has used nearly the longest possible run."""
        stopwatch, attempts = Stopwatch(), Attempts(self._worker)
        lease = lease or Lease()
        started_at = _now()
        with log_context(execution_id=command.execution_id, command_id=command.command_id):
            try:
                outcome = await self._run(command, plan, budget, attempts, stopwatch, lease, write)
            except asyncio.CancelledError:
                outcome = _cancelled(command, stopwatch.ran + stopwatch.waited, budget, lease)
                if outcome.error is not None:
                    attempts.fail_under_way(outcome.error)
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()
            except NotSelected as error:
                outcome = failed(command, selection_error(plan.steps[command.step], error))
            except Problem as problem:
                outcome = failed(command, from_problem(problem, "worker"))
            except InvalidTable as error:
                # only what is read of a table is looked at, as for a preview
                outcome = failed(command, step_error("value", "value.invalid", f"a table cannot be read: {error}"))
            except Exception as error:
                outcome = _unexpected(command, error)
        outcome.meta = {**outcome.meta, "started_at": started_at, "ended_at": _now(), **_times(stopwatch)}
        if command.delivery > 1:
            outcome.meta["delivery"] = command.delivery
        if command.lost:
            outcome.meta["lost"] = command.lost
        if attempts.any:
            suspended = outcome.status in ("deferred", "parked")
            outcome.meta.update(attempts.as_meta(META_BYTES - len(dump(outcome.meta)), suspended=suspended))
        try:
            fit_outcome(outcome)
        except (InvalidValue, TooLarge) as error:
            meta = {name: value for name, value in outcome.meta.items() if name in MEASURED_META}
            outcome = failed(command, value_error(error, step=command.step))
            outcome.meta = meta
        if outcome.error is not None and not self._toolbox.supports(2):
            # the conditions of the previous release know codes by their former spelling
            outcome.error["code"] = former_code(str(outcome.error.get("code", "")))
        return outcome

    async def _run(
        self,
        command: ClaimedCommand,
        plan: Plan,
        budget: TimeBudget,
        attempts: Attempts,
        stopwatch: Stopwatch,
        lease: Lease,
        write: BackgroundWrite | None,
    ) -> Outcome:
        step = plan.steps.get(command.step)
        if step is None:
            return failed(command, step_error("worker", "worker.no_step", f"the playbook has no step '{command.step}'"))
        lazy = ReferenceLoader(self._toolbox.resolver)
        job = Job.of_command(
            command,
            plan,
            self._toolbox,
            lazy=lazy,
            budget=budget,
            attempts=attempts,
            stopwatch=stopwatch,
            lease=lease,
        )
        if command.kind == "step":
            return await self._step_outcome(job, await Pipeline(job).run(), write=write)
        if step.loop is None:
            return failed(command, step_error("worker", "worker.no_loop", f"step '{command.step}' has no loop"))
        if command.kind == "open":
            result = await render_collection(job, step.loop)
            outcome = await self._step_outcome(job, result, select=False)
            if result.status == "ok":
                outcome.count = result.count
            return outcome
        return await self._frame_outcome(job, step)

    async def _step_outcome(
        self, job: Job, result: TaskResult, *, select: bool = True, write: BackgroundWrite | None = None
    ) -> Outcome:
        if result.collected and not _may_store_parts(job, result):
            values = {name: await it.load(job) for name, it in result.collected.items()}
            result = replace(result, data={**result.data, **values}, collected={})
        if result.collected:
            result.parts, stored = await self._store_collected(job, result)
        elif result.ref is not None:
            stored = {"ref": result.ref}
        else:
            stored = await self._store(job, result.data, select=select, write=write)
        schema = job.plan.result_schema
        # of what has a table no worker has all as JSON
        is_json = "ref" in stored and not has_tables(stored["ref"]["meta"]["content_type"])
        if schema is not None and result.ref is None and is_json and may_be_last(job.plan, job.step):
            # in a thread, since a large one takes a while
            stored["ref"]["meta"][VERDICT] = await asyncio.to_thread(_verdict, schema, result.data)
        return Outcome(
            execution_id=job.command.execution_id,
            command_id=job.command.command_id,
            fence=job.command.fence,
            status="done" if result.status == "ok" else result.status,
            error=result.error,
            extra=masking.tree(result.extra) if result.extra else {},
            meta=result.meta if _has_only_measurements(result.meta) else masking.tree(result.meta),
            delay=result.delay,
            resume=result.resume,
            parts=result.parts,
            child=result.child,
            wait=result.wait,
            **stored,
            **await store_set(result.set, job.command, self._toolbox),
        )

    async def _store_collected(self, job: Job, result: TaskResult) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The references to what was stored of it, and {"ref"} to the result."""
        from .store_collected import store_collected

        stored = await store_collected(job, result.data, result.collected)
        return [ref for it in result.collected.values() for ref in it.reported()], stored

    async def _frame_outcome(self, job: Job, step: Step) -> Outcome:
        command = job.command
        if step.loop is None or command.frame is None:
            raise _Malformed("a frame command came without its frame")
        cursor = step.loop.cursor
        run = (
            FrameRun(job, step.loop, command.frame)
            if cursor is None
            else CursorRun(job, step.loop, cursor, command.frame)
        )
        result = await run.run()
        stored = await self._store(job, result.data) if result.outcome is not None else {}
        if result.outcome is not None and "ref" in stored and not has_tables(stored["ref"]["meta"]["content_type"]):
            result.outcome.digest = await asyncio.to_thread(_digest, result.outcome.start, result.data)
        return Outcome(
            execution_id=command.execution_id,
            command_id=command.command_id,
            fence=command.fence,
            status=result.status,
            error=clean(result.error) if result.error is not None else None,
            set_by=result.set_by if result.set and self._toolbox.supports(2) else None,
            frame=result.outcome,
            delay=result.delay,
            resume=result.resume,
            child=result.child,
            wait=result.wait,
            **stored,
            **await store_set(result.set, job.command, self._toolbox),
        )

    async def _store(
        self, job: Job, data: Any, *, select: bool = True, write: BackgroundWrite | None = None
    ) -> dict[str, Any]:
        """{"data"} or {"ref"}. What was just written is kept in memory for the step that reads it next."""
        command = job.command
        output = output_of(job.step)
        if output.select and not (select and command.kind == "step" and data is not None):
            output = replace(output, select=())
        begin = None if write is None else write.begin
        written = job.lazy.written(data)
        stored = await store_result(data, command, self._toolbox, output=output, begin=begin, written=written)
        if "ref" in stored:
            self._toolbox.resolver.put(stored["ref"], data, written)
            if (digest := await result_digest(data)) is not None:
                stored["ref"]["meta"]["digest"] = digest
        return stored


def _has_only_measurements(meta: dict[str, Any]) -> bool:
    """Whether nothing in it can be secret: a tool may write anything, even under the names that the worker uses."""
    return meta.keys() <= MEASURED_META and all(isinstance(value, int | float) for value in meta.values())


def _may_store_parts(job: Job, result: TaskResult) -> bool:
    """Whether nobody looks at the whole value now: neither a schema of the result, nor what selects fields of it."""
    if job.plan.result_schema is not None and may_be_last(job.plan, job.step):
        return False
    if job.step.is_pipeline:
        # what is selected is in the results of its tasks
        return True
    first = (first_name(path) for path, _ in output_of(job.step).select)
    return all(name is not None and name not in result.collected for name in first)


def _digest(start: int, items: list[Any]) -> str:
    """The digest of the items as read back from JSON, which is the form that small results have in the log."""
    return f"{items_digest(start, orjson.loads(dump(items))):064x}"


def _verdict(schema: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Of the value as read back from JSON."""
    return verdict_on(schema, orjson.loads(dump(data)))


class _Malformed(Problem):
    status, code, title = 500, "worker.malformed_command", "The command is not valid"


def released(command: ClaimedCommand) -> Outcome:
    return Outcome(
        execution_id=command.execution_id,
        command_id=command.command_id,
        fence=command.fence,
        status="released",
    )


def failed(command: ClaimedCommand, error: dict[str, Any]) -> Outcome:
    outcome = released(command)
    outcome.status, outcome.error = "error", error
    return outcome


def _unexpected(command: ClaimedCommand, error: Exception) -> Outcome:
    logger.error("the command failed in the worker", exc_info=error)
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return failed(command, step_error("worker", "worker.internal", f"{type(error).__name__}: {error}"))


def _cancelled(command: ClaimedCommand, seconds: float, budget: TimeBudget, lease: Lease) -> Outcome:
    if budget.is_stopped or lease.has_expired or seconds < HOPELESS_SHARE * budget.run_time:
        return released(command)
    message = (
        f"it did not end within {seconds:.0f} s, and a worker function runs {budget.run_time:.0f} s at most; "
        "split the step, or give the function more time"
    )
    return failed(command, step_error("worker", "worker.time_budget", message))


def _times(stopwatch: Stopwatch) -> dict[str, float]:
    """`duration_ms`, which is billed and counts against budgets, is the time spent running; `waited_ms`, absent if
    zero, is the time slept between attempts or spent in the queue for a Python process. Together they are the time
    from `started_at` to `ended_at`."""
    times = {"duration_ms": round(1000 * stopwatch.ran, 3)}
    if waited := round(1000 * stopwatch.waited, 3):
        times["waited_ms"] = waited
    return times


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1_000_000:03d}Z"


# most commands are short, so their instants share few seconds
@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
