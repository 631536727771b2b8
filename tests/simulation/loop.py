"""An event loop without a clock, a selector or threads: time jumps to the next timer.

Callbacks belong to a `Process`, which stands for one instance of a function. Within a process they run in order, as
asyncio promises; which process goes next is drawn, so that any interleaving at an await can happen. A process may
stall, and it may die: nothing of a dead process ever runs again, not even its `finally` blocks.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Self, TypeVarTuple

Given = TypeVarTuple("Given")

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Task(asyncio.Task):  # type: ignore[type-arg]
    """Hashes by its number, so that a set of tasks has the same order in every run."""

    count = 0

    def __init__(self, work: Any, loop: Loop, name: str | None, context: Context) -> None:
        Task.count += 1
        self.number = Task.count
        self.context = context
        super().__init__(work, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class Process:
    """`skew`: by how many seconds its wall clock is wrong."""

    def __init__(self, loop: Loop, name: str, skew: float = 0.0) -> None:
        self.loop = loop
        self.name = name
        self.skew = skew
        self.alive = True
        self.stalled_until = 0.0
        self.ready: deque[asyncio.Handle] = deque()
        # answers that others wait for, by number; they hear when this process dies
        self.pending_answers: dict[int, asyncio.Future[Any]] = {}
        self._context = Context()
        self._context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work, context=self._context.copy())

    def call(self, action: Callable[..., Any], *args: Any) -> None:
        self.loop.call_soon(action, *args, context=self._context)

    def wall(self) -> float:
        """Seconds since 1970, as this process believes."""
        return self.loop.wall() + self.skew


class Loop(asyncio.AbstractEventLoop):
    EPOCH = 1_800_000_000.0

    def __init__(self, rng: random.Random | None = None, *, one_queue: bool = False) -> None:
        """Without `rng` processes take turns, first come first served; with `one_queue` so do all their callbacks, and
        it makes no difference how many processes there are. None of them may then stall or die.
        """
        self._draw = rng.random if rng is not None else None
        self.now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._busy: list[Process] = []
        self._closed = False
        self._dead: list[Task] = []
        self._nobody = Process(self, "world")
        self._one_queue = one_queue
        # exceptions that nobody caught
        self.errors: list[dict[str, Any]] = []
        self.steps = 0
        Task.count = 0

    @classmethod
    def create(cls, rng: random.Random | None = None, *, one_queue: bool = False) -> Self:
        """Without most of what a loop of asyncio must have, which nothing asks for."""
        return cls(rng, one_queue=one_queue)

    # -- running

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Run until `done()`, which is asked whenever time moves, or `until`; `now` is then when that was."""
        events._set_running_loop(self)
        try:
            while True:
                self._run_ready()
                if done():
                    return
                if not self._timers or self._timers[0][0] > until:
                    self.now = until
                    return
                self._move_time()
        finally:
            events._set_running_loop(None)

    def _run_ready(self) -> None:
        busy, draw = self._busy, self._draw
        while busy:
            index = int(draw() * len(busy)) if draw is not None and len(busy) > 1 else 0
            process = busy[index]
            handle = process.ready.popleft()
            if not process.ready:
                del busy[index]
            if not handle._cancelled:
                self.steps += 1
                handle._run()

    def _move_time(self) -> None:
        timers = self._timers
        self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                self._enqueue(handle)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(PROCESS) or self._nobody  # type: ignore[attr-defined]
        if not process.alive or self._closed:
            return
        if self._one_queue:
            process = self._nobody
        process.ready.append(handle)
        if len(process.ready) == 1 and process.stalled_until <= self.now:
            self._busy.append(process)

    # -- what befalls processes

    def kill(self, process: Process) -> None:
        process.alive = False
        process.ready.clear()
        if process in self._busy:
            self._busy.remove(process)
        # kept, for a task that is collected runs its finally blocks
        self._dead += [task for task in self._mine() if task.context.get(PROCESS) is process]

    def stall(self, process: Process, seconds: float) -> None:
        process.stalled_until = self.now + seconds
        if process in self._busy:
            self._busy.remove(process)
        self.later(seconds, self._go_on, process)

    def _go_on(self, process: Process) -> None:
        if process.alive and process.stalled_until <= self.now and process.ready and process not in self._busy:
            self._busy.append(process)

    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        """Something that happens in the world, whatever becomes of the process that caused it."""
        self.call_at(self.now + delay, callback, *args, context=Context())

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.EPOCH + self.now

    def call_soon(
        self, callback: Callable[[*Given], object], *args: *Given, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Given], object], *args: *Given, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Given], object],
        *args: *Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Given], object],
        *args: *Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None, **more: Any) -> Task:
        return Task(coro, self, name, copy_context() if context is None else context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Work in a thread takes no time and is done at the next turn."""
        future = self.create_future()
        try:
            result = func(*args)
        except BaseException as error:
            self.call_soon(_fail, future, error)
        else:
            self.call_soon(_resolve, future, result)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.errors.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def close(self) -> None:
        """Drop what is still pending, without a word."""
        self._closed = True
        self._timers.clear()
        events._set_running_loop(self)
        for task in {*self._dead, *self._mine()}:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _shut(task)
        self._dead.clear()
        events._set_running_loop(None)

    def _mine(self) -> list[Task]:
        found = [task for task in asyncio.all_tasks(self) if isinstance(task, Task)]
        return sorted(found, key=lambda task: task.number)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _shut(task: Task) -> None:
    work: Any = task.get_coro()
    for _ in range(5):
        try:
            task.context.run(work.close)
        except Exception:
            continue  # it went on waiting while it was being closed
        return
