"""A frame: the tasks of a step, run for consecutive loop items, several at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...engine import events as e
from ...engine.variables import split
from ...errors import InvalidRequest, Problem
from ...playbook.plan import Loop
from ...protocol import ChildRequest, Frame, FrameOutcome, WaitRequest
from ...results.offload import Output
from .domain import TooLarge, size_of, value_error
from .errors import brief, from_problem, step_error
from .job import Job
from .pipeline import INLINE_LOCALS_BYTES, LOCALS_NAME, Pipeline
from .set_values import check_sizes
from .store_result import store_result
from .task_result import TaskResult

# how many errors of items are listed at most
MAX_ITEM_ERRORS = 10
# each in at most this many bytes of JSON
ITEM_ERROR_BYTES = 8 * 1024


@dataclass(slots=True)
class FrameResult:
    """`status` as in Outcome. `data`: the results of the items from `outcome.start` to `outcome.end`, in order."""

    status: str
    data: list[Any] = field(default_factory=list)
    outcome: FrameOutcome | None = None
    error: dict[str, Any] | None = None
    set: dict[str, Any] = field(default_factory=dict)
    # the item that has set each key, the last one that did; empty if the items run in order
    set_by: dict[str, int] = field(default_factory=dict)
    delay: float | None = None
    resume: dict[str, Any] | None = None
    child: ChildRequest | None = None
    wait: WaitRequest | None = None


class FrameRun:
    """Runs the items in order of their index, `frame.concurrency` at a time."""

    def __init__(self, job: Job, loop: Loop, frame: Frame) -> None:
        self.job = job
        self.loop = loop
        self.frame = frame
        # of all items of the loop; None if that is unknown
        self.count: int | None = job.command.count if job.command.count is not None else frame.end
        # item index -> how it ended; the end of a deferred or parked item is not final
        self.ends: dict[int, TaskResult] = {}
        self.seconds: dict[int, float] = {}
        self._next = frame.start
        self._items: Sequence[Any] = []
        self._waiting: dict[int, dict[str, Any]] = {}
        # as all items see it: in parallel, only what the loop was opened with
        self._ctx: dict[str, Any] = dict(job.ctx)
        self._variables: dict[str, Any] = dict(job.variables)
        # item index -> what it has set before it was suspended
        self._own_set: dict[int, dict[str, Any]] = {}
        self._failed = False
        # what items have set, in bytes of JSON
        self._set_sizes: dict[str, int] = {}

    async def run(self) -> FrameResult:
        """When cancelled, returns what is done and leaves the rest; raises CancelledError if nothing is done."""
        self._items = await self._load_items()
        await self._restore()
        try:
            await self._run_all()
            # a task group ignores that tasks in it were cancelled
            self.job.lease.check()
        except asyncio.CancelledError:
            end = await self._partial_result()
            if end is None:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            return end
        return await self._result()

    async def _run_all(self) -> None:
        width = min(self.frame.concurrency, self.frame.end - self.frame.start)
        if width <= 1 or self.loop.mode == "sequential":
            await self._run_items()
            return
        with self.job.stopwatch.paused():
            async with asyncio.TaskGroup() as group:
                for _ in range(width):
                    group.create_task(self._run_concurrently())

    async def _run_concurrently(self) -> None:
        with self.job.stopwatch.running():
            await self._run_items()

    async def _run_items(self) -> None:
        """Run the next item until none is left or none may begin."""
        while (index := self._next_index()) is not None:
            started = time.perf_counter()
            end = self._check_set_size(await self._load_result(await Pipeline(self._item_job(index)).run()))
            self.seconds[index] = time.perf_counter() - started
            self.ends[index] = end
            self._failed |= self._fails(end)
            if self.loop.mode == "sequential":
                in_ctx, variables = split(end.set)
                self._ctx.update(in_ctx)
                self._variables.update(variables)

    def _fails(self, end: TaskResult) -> bool:
        """Whether the frame has failed with this item, so that no further one begins."""
        return end.status == "error" and not self.loop.best_effort

    async def _load_result(self, end: TaskResult) -> TaskResult:
        """Load a result that is a reference, because the frame's results are a list of values."""
        try:
            if end.collected:
                values = {name: await it.load(self.job) for name, it in end.collected.items()}
                end = replace(end, data={**end.data, **values}, collected={})
            if end.status != "ok" or end.ref is None:
                return end
            return replace(end, data=await self.job.lazy.load(end.ref), ref=None)
        except Problem as problem:
            return replace(end, status="error", ref=None, collected={}, error=from_problem(problem, "reference"))

    def _check_set_size(self, end: TaskResult) -> TaskResult:
        """Fail the item whose `set` would make the frame set more than one event may hold."""
        if not end.set:
            return end
        sizes = {**self._set_sizes, **{key: size_of(value) for key, value in end.set.items()}}
        try:
            check_sizes(sizes, by_reference=self.job.toolbox.supports(2))
        except TooLarge as error:
            return replace(end, status="error", error=value_error(error, step=self.job.step.name), set={})
        self._set_sizes = sizes
        return end

    def _next_index(self) -> int | None:
        while self._next in self.ends:
            self._next += 1
        if self._next >= self.frame.end or self._failed:
            return None
        if self.job.budget.is_closing and self.ends:
            return None
        if self.loop.mode == "sequential" and any(end.status == "deferred" for end in self.ends.values()):
            return None
        self._next += 1
        return self._next - 1

    def _item_job(self, index: int) -> Job:
        ctx, variables = self._ctx, self._variables
        if index in self._own_set:
            in_ctx, named = split(self._own_set[index])
            ctx, variables = {**ctx, **in_ctx}, {**variables, **named}
        return self.job.of_item(
            self.loop,
            self._items[index - self.frame.start],
            index,
            last=index + 1 == self.count,
            length=self.count,
            ctx=ctx,
            variables=variables,
            resume=self._waiting.get(index),
        )

    async def _load_items(self) -> Sequence[Any]:
        command, frame = self.job.command, self.frame
        if command.items is not None:
            items = command.items
        elif command.collection is not None:
            items = await self.job.lazy.load_items(command.collection, frame.start, frame.end)
        else:
            items = []
        if len(items) != frame.end - frame.start:
            raise InvalidRequest(
                f"the frame has {frame.end - frame.start} items, but the command contains {len(items)}"
            )
        return items

    # -- ending

    async def _result(self) -> FrameResult:
        parked = next((end for end in self.ends.values() if end.status == "parked"), None)
        waiting = [end for end in self.ends.values() if end.status == "deferred"]
        if parked is not None and self.frame.end - self.frame.start == 1:
            return replace(await self._suspended_result("parked"), child=parked.child, wait=parked.wait)
        if parked is not None:
            error = step_error(
                "loop", "loop.parked", "an item started a sub-playbook or a wait in a frame of several items"
            )
            return FrameResult("error", error=error)
        if waiting and not self._failed:
            return replace(await self._suspended_result("deferred"), delay=min(end.delay or 0.0 for end in waiting))
        return self._finished_result()

    async def _partial_result(self) -> FrameResult | None:
        if not any(end.status in ("ok", "error") for end in self.ends.values()):
            return None
        if any(end.status == "deferred" for end in self.ends.values()):
            return replace(await self._suspended_result("deferred"), delay=0.0)
        end = self._finished_result()
        return end if end.outcome is not None and end.outcome.end > self.frame.start else None

    def _finished_result(self) -> FrameResult:
        end = self.frame.start
        while end in self.ends and self.ends[end].status in ("ok", "error"):
            end += 1
        values, items = self._set({index: self.ends[index] for index in range(self.frame.start, end)})
        return FrameResult(
            "error" if self._failed else "done",
            data=[self._value(index) for index in range(self.frame.start, end)],
            outcome=self._frame_outcome(end),
            error=self._first_error() if self._failed else None,
            set=values,
            set_by=items,
        )

    def _first_error(self) -> dict[str, Any]:
        index = min(index for index, end in self.ends.items() if end.status == "error")
        return {**(self.ends[index].error or {}), "index": index}

    def _value(self, index: int) -> Any:
        end = self.ends[index]
        return end.data if end.status == "ok" else None

    def _errors(self, end: int) -> dict[str, dict[str, Any]]:
        failed = [index for index in range(self.frame.start, end) if self.ends[index].status == "error"]
        return {str(index): brief(self.ends[index].error or {}, ITEM_ERROR_BYTES) for index in failed[:MAX_ITEM_ERRORS]}

    def _frame_outcome(self, end: int) -> FrameOutcome:
        done = range(self.frame.start, end)
        ok = sum(1 for index in done if self.ends[index].status == "ok")
        times = [self.seconds[index] for index in done if index in self.seconds]
        return FrameOutcome(
            start=self.frame.start,
            end=end,
            ok=ok,
            failed=len(done) - ok,
            errors=self._errors(end),
            item_ms=round(1000 * sum(times) / len(times), 3) if times else 0.0,
        )

    def _set(self, ends: Mapping[int, TaskResult]) -> tuple[dict[str, Any], dict[str, int]]:
        """`set` and `set_by`, in the order of the items, whatever order they ended in."""
        values: dict[str, Any] = {}
        items: dict[str, int] = {}
        for index, end in sorted(ends.items()):
            values.update(end.set)
            items.update(dict.fromkeys(end.set, index))
        return values, {} if self.loop.mode == "sequential" else items

    # -- suspending

    async def _suspended_result(self, status: str) -> FrameResult:
        """The finished and the waiting items, for the worker that resumes the frame."""
        packed = {str(index): _pack(end) for index, end in sorted(self.ends.items())}
        resume = {"items": await self._store_state(packed, "/frame")}
        if failed := self.job.attempts.suspended_attempts():
            resume["attempts"] = await self._store_state(failed, "/attempts")
        if self.loop.mode != "sequential" and self.job.toolbox.supports(2):
            own_set = {
                str(index): {**self._own_set.get(index, {}), **end.set}
                for index, end in sorted(self.ends.items())
                if end.status in ("deferred", "parked")
            }
            resume[e.OWN_SET] = await self._store_state(own_set, "/set")
        values, items = self._set(self.ends)
        return FrameResult(status, set=values, set_by=items, resume=resume)

    async def _store_state(self, value: dict[str, Any], part: str) -> dict[str, Any]:
        return await store_result(
            value,
            self.job.command,
            self.job.toolbox,
            part=part,
            output=Output(inline_bytes=INLINE_LOCALS_BYTES),
            label=LOCALS_NAME,
        )

    async def _load_state(self, stored: Mapping[str, Any]) -> Mapping[str, Any]:
        value: Mapping[str, Any] = stored["data"] if "data" in stored else await self.job.lazy.load(stored["ref"])
        return value

    async def _restore(self) -> None:
        resume = self.job.resume
        if not resume or "items" not in resume:
            return
        if "attempts" in resume:
            self.job.attempts.resume(await self._load_state(resume["attempts"]))
        if e.OWN_SET in resume:
            own_set = await self._load_state(resume[e.OWN_SET])
            self._own_set = {int(name): values for name, values in own_set.items()}
        for name, item in (await self._load_state(resume["items"])).items():
            if item["status"] in ("ok", "error"):
                self.ends[int(name)] = TaskResult(item["status"], data=item.get("data"), error=item.get("error"))
                self._failed |= item["status"] == "error" and not self.loop.best_effort
            else:
                child = resume.get("child")
                self._waiting[int(name)] = {**item["resume"], **({"child": child} if child else {})}


def _pack(end: TaskResult) -> dict[str, Any]:
    # what it has set is reported with the frame's suspension
    if end.status in ("deferred", "parked"):
        return {"status": end.status, "resume": end.resume}
    return {"status": end.status, "data": end.data, **({"error": end.error} if end.error else {})}
