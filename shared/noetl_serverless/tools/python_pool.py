"""Prestarted Python processes that run user code; each can be killed, and none has the engine's secrets.

A child runs one call at a time, and all that it runs is of one execution: what code has changed in it, or has left
behind, meets no other's. Code that can leave nothing behind (see `pure_code`) has children for any execution. Those
that have run nothing yet are started ahead. When a call exceeds its time, is cancelled, or breaks its process, the
whole process group gets SIGKILL. Not prevented: as root code may start processes in any number (RLIMIT_NPROC does not
apply to root).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ..limits import INLINE_BYTES, RESULT_DEPTH
from ..playbook.values import as_read
from ..scratch import ScratchFolder
from ..tables.json_text import JsonText
from ..tables.sealed import IN_MEMORY, NewFiles
from .call_files import CallFiles
from .compiled_code import compiled, request
from .confinement import close_to_inspection
from .encoding import HoldsTable, NotJson, encode
from .fair_queue import NO_SHARE, FairQueue, Share
from .file_frames import ASK
from .idle_children import IdleChildren
from .python_process import ChildLost, NotReady, PythonProcess
from .python_source import PythonSource, is_fork_safe

logger = logging.getLogger(__name__)

# the fields that the reply of a child may have
_REPLY = ("data", "error", "py", "spent", "mb")
# one of these it has
_OUTCOMES = frozenset({"data", "error", "file", "json"})
# how many children for each of the calls at once are clean and ready
_AHEAD = 2
# how many children in turn a call may find out of order
_MAX_NOT_READY = 5
# the execution, so to speak, of the children that run pure code
_ANY = ""


@dataclass(eq=False, slots=True)
class _Waiter:
    child: asyncio.Future[PythonProcess]
    execution: str | None


class PythonPool:
    """At most `size` calls at once, each in a child limited to `memory_mb` of private memory, their folders below
    `scratch`; they cannot open the folders `private`.

    Usable from several event loops, but only from one at a time.
    """

    def __init__(
        self,
        size: int,
        memory_mb: int,
        scratch: Path,
        *,
        private: Sequence[Path] = (),
        forks: bool | None = None,
    ) -> None:
        """`forks`: whether children are forked; as it is safe here, if it is not given."""
        if size < 1:
            raise ValueError("a pool needs at least one process")
        self._size = size
        self._memory_mb = memory_mb
        self._scratch = scratch
        self._private = private
        self._forks = is_fork_safe() if forks is None else forks
        self._folder: ScratchFolder | None = None
        self._source: PythonSource | None = None
        # children that have run nothing yet, and how many more were requested
        self._clean: list[PythonProcess] = []
        self._requested = 0
        self._idle = IdleChildren(memory_mb, self._drop, self._flush)
        # no more than calls at once
        self._idle_for_any: list[PythonProcess] = []
        self._busy: set[PythonProcess] = set()
        self._waiting: FairQueue[_Waiter] = FairQueue()
        # those whose turn it is, and who get the next clean children
        self._next: deque[_Waiter] = deque()
        self._closed = False

    def start(self) -> None:
        """Start children now; otherwise the first starts when a call needs it."""
        self._order()

    @property
    def pids(self) -> list[int]:
        return [] if self._source is None else self._source.pids

    async def run(
        self,
        code: str,
        input: dict[str, Any],
        timeout: float | None = None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        share: Share = NO_SHARE,
        execution: str | None = None,
        *,
        libs: Mapping[str, str] | Sequence[str] = (),
        context: Mapping[str, Any] | None = None,
        tables: str | None = None,
        files: NewFiles = IN_MEMORY,
        inline_bytes: int = INLINE_BYTES,
        texts: Mapping[str, JsonText] | None = None,
    ) -> dict[str, Any]:
        """Run `code` with `input` as its globals, for at most `timeout` seconds once a child is free. Until then it
        waits in the context `waiting()`, with shares taking turns. Calls of the same `execution` may meet the same
        child; without one, a child serves this call alone, unless the code is pure.

        `libs`: the modules that the code finds imported, by name; those of a list by their first name. `context`: what
        it finds as `context`, see `Context`. Tables in both go to the child as open files; `tables`: what it finds
        there, see `PythonConfig`. `files`: where that of a result is opened that is a table, and larger than
        `inline_bytes` as JSON, and of any large one. `texts`: the JSON of inputs, as far as it is in files.

        {"status": "ok", "data", "stored", "written", "stdout"}, see ToolOutcome, or {"status": "error", "error": {kind,
        code, retryable, message}, "py", "stdout"}.
        """
        compilation = compiled(code)
        # what is imported stays in the process
        is_pure = compilation.is_pure and not libs and tables is None
        fields: dict[str, Any] = {"code": code, "input": input, "pure": is_pure}
        if libs:
            fields["libs"] = libs
        if compilation.input_names:
            fields["input_names"] = compilation.input_names
        if context is not None:
            fields["context"] = context
        if tables is not None:
            fields["tables"] = tables
        if inline_bytes != INLINE_BYTES:
            fields["inline_bytes"] = inline_bytes
        call_files: CallFiles | None = None
        if texts:
            call_files = CallFiles(files)
            # all names stay in their order
            fields.update(input={**input, **dict.fromkeys(texts)}, texts=call_files.put_texts(texts))
        try:
            try:
                content = encode(fields)
            except HoldsTable:
                call_files, is_pure = call_files or CallFiles(files), False
                content = call_files.put_tables(fields)
        except NotJson as error:
            message = str(error).replace("result['input']", "input", 1)
            return _error("python.not_json", f"the input cannot be passed to the process: {message}")
        if is_pure:
            execution = _ANY
        frame = request(compilation, content)
        reply: dict[str, Any] | None = None
        not_ready = 0
        while reply is None:
            try:
                with waiting():
                    child = await self._take(share, execution)
            except OSError as error:
                return _error("python.unavailable", f"no process could be started: {error}", retryable=True)
            try:
                answer = await child.call(frame, timeout)
                if answer[0] == ASK:
                    reply = await _with_files(child, answer, call_files or CallFiles(files))
                else:
                    reply = _read(answer)
            except NotReady:
                # an earlier call has broken the child, or it is gone: another child runs this one
                not_ready += 1
                if not_ready > _MAX_NOT_READY:
                    reply = _error("python.killed", "processes end before they run anything", retryable=True)
            except TimeoutError:
                reply = _error("python.timeout", f"ran longer than {timeout:g} s and was killed", retryable=True)
            except ChildLost as lost:
                reply = _error("python.killed", str(lost), retryable=True)
            except ValueError:
                child.usable = False
                reply = _error("python.killed", "the process sent an invalid reply", retryable=True)
            except OSError as error:
                reply = _error("python.file", f"the result cannot be kept: {error}", retryable=True)
            finally:
                reusable = reply is not None and not reply.get("spent")
                end = self._give_back(child, reusable, (reply or {}).get("mb", 0))
                if end is not None and reply is not None:
                    await asyncio.shield(end)
        for name in ("spent", "mb"):
            reply.pop(name, None)
        reply["status"] = "error" if "error" in reply else "ok"
        return {**reply, "stdout": child.output()}

    async def close(self) -> None:
        """Kill every child and wait for its end; calls that wait for one fail."""
        self._closed = True
        for waiter in (*self._waiting, *self._next):
            waiter.child.cancel()
        self._idle.stop()
        if self._source is not None:
            for child in (*self._clean, *self._idle, *self._idle_for_any, *self._busy):
                child.release()
            await self._source.close()
        self._clean.clear()
        self._idle_for_any.clear()
        self._busy.clear()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.remove)
            self._folder = None

    async def _take(self, share: Share, execution: str | None) -> PythonProcess:
        if self._closed:
            raise RuntimeError("the pool is closed")
        loop = asyncio.get_running_loop()
        if self._source is not None:
            self._source.attach(loop)
        waiter = _Waiter(loop.create_future(), execution)
        self._waiting.add(share, waiter)
        self._dispatch()
        try:
            return await waiter.child
        except asyncio.CancelledError:
            if waiter.child.cancelled():
                self._waiting.discard(share, waiter)
                if waiter in self._next:
                    self._next.remove(waiter)
                    self._dispatch()
            elif waiter.child.exception() is None:
                self._give_back(waiter.child.result(), reusable=True)
            raise

    def _dispatch(self) -> None:
        """Assign free children to waiting calls at once, so that a later call cannot take them before those wake up."""
        while True:
            while self._waiting and len(self._busy) + len(self._next) < self._size:
                waiter = self._waiting.pop()
                # when many are cancelled at once, some of them are still in the queue
                if waiter.child.done():
                    continue
                child = self._ready(waiter.execution)
                if child is None:
                    self._next.append(waiter)
                else:
                    self._assign(waiter, child)
            error = self._order()
            if error is None or not self._next:
                return
            # the others get the children that are busy now, if there are any
            self._fail(len(self._next), error)

    def _ready(self, execution: str | None) -> PythonProcess | None:
        """A child that has run only this execution's code, or none."""
        while (child := self._idle_for(execution) or (self._clean.pop() if self._clean else None)) is not None:
            if child.alive:
                return child
            self._drop(child)
        return None

    def _idle_for(self, execution: str | None) -> PythonProcess | None:
        if execution == _ANY:
            return self._idle_for_any.pop() if self._idle_for_any else None
        return None if execution is None else self._idle.take(execution)

    def _assign(self, waiter: _Waiter, child: PythonProcess) -> None:
        child.execution = waiter.execution
        self._busy.add(child)
        waiter.child.set_result(child)

    def _give_back(self, child: PythonProcess, reusable: bool, mb: int = 0) -> asyncio.Future[int] | None:
        """A future of the child's end; None if nobody needs to wait for it, or it has been given back already."""
        if child not in self._busy:
            return None
        self._busy.remove(child)
        end = None
        if not (reusable and child.alive):
            assert self._source is not None
            end = self._source.end(child)
        elif child.execution is None:
            self._drop(child)
        elif child.execution != _ANY:
            self._idle.add(child, mb)
        elif mb:
            # it has grown, and would keep that for good
            self._drop(child)
        else:
            self._idle_for_any.append(child)
        self._dispatch()
        return end

    def _drop(self, child: PythonProcess) -> None:
        assert self._source is not None
        self._source.drop(child)

    def _flush(self) -> None:
        assert self._source is not None
        self._source.flush()

    # -- children come and go: see `python_source.Listener`

    def _order(self) -> OSError | None:
        """Have enough children started, also ahead of the calls: a few together, because the engine is woken up for
        each message."""
        coming = len(self._clean) + self._requested
        missing = len(self._next) + _AHEAD * self._size - coming
        if self._closed or (coming >= len(self._next) and missing < _AHEAD * self._size // 2):
            return None
        try:
            if self._source is None:
                self._source = self._make_source()
            self._source.request(missing)
        except OSError as error:
            return error
        self._requested += missing
        return None

    def _make_source(self) -> PythonSource:
        close_to_inspection()
        if self._private:
            _warn_unless_private()
        self._folder = ScratchFolder(self._scratch, "python")
        source: PythonSource
        # only what is needed here: a cold start is import time
        if self._forks:
            from .python_forks import PythonForks

            source = PythonForks(self._folder.path, self._memory_mb, self._private, self)
        else:
            from .python_spawns import PythonSpawns

            source = PythonSpawns(self._folder.path, self._memory_mb, self)
        with contextlib.suppress(RuntimeError):
            source.attach(asyncio.get_running_loop())
        return source

    def on_started(self, child: PythonProcess) -> None:
        self._requested -= 1
        self._clean.append(child)
        while self._next and self._clean:
            waiter = self._next.popleft()
            if not waiter.child.done():
                self._assign(waiter, self._clean.pop())
        self._dispatch()

    def on_failed(self, error: OSError) -> None:
        self._requested -= 1
        self._fail(1, error)
        # nothing is started ahead until a call tries again
        if self._next or self._waiting:
            self._dispatch()

    def on_ended(self, child: PythonProcess) -> None:
        for ready in (self._clean, self._idle_for_any):
            if child in ready:
                ready.remove(child)
        self._idle.discard(child)
        if child not in self._busy:
            child.release()

    def _fail(self, count: int, error: OSError) -> None:
        for _ in range(min(count, len(self._next))):
            waiter = self._next.popleft()
            if not waiter.child.done():
                waiter.child.set_exception(error)


def _warn_unless_private() -> None:
    from .private_folders import is_enforced

    if not is_enforced():
        logger.warning(
            "task code can open the files of this stack, its secrets among them: only Landlock (Linux 5.19 or later) "
            "prevents that"
        )


async def _with_files(child: PythonProcess, answer: bytearray, files: CallFiles) -> dict[str, Any]:
    """The reply of a child that asks for files. Raises as `_read` does, and OSError if there is no room."""
    try:
        while answer[0] == ASK:
            answer = await child.give(files.answer(answer))
        reply = _read(answer, (*_REPLY, "file", "json"))
        if "file" in reply:
            reply.update(data=await files.table(reply.pop("file")), stored=True)
        elif "json" in reply:
            data, written = await files.json(reply.pop("json"))
            reply.update(data=data, stored=written is not None, written=written)
        return reply
    finally:
        files.close()


def _read(content: bytes | bytearray, names: Sequence[str] = _REPLY) -> dict[str, Any]:
    """What a child's reply has of these names; ValueError if it is malformed, which is possible because foreign code
    runs in the child."""
    reply = orjson.loads(content)
    if not isinstance(reply, dict):
        raise ValueError("not an object")
    reply = {name: reply[name] for name in names if name in reply}
    if not reply.keys() & _OUTCOMES:
        raise ValueError("no reply")
    if "error" in reply and not (isinstance(reply["error"], dict) and isinstance(reply.get("py", {}), dict)):
        raise ValueError("not an error")
    if not isinstance(reply.get("mb", 0), int):
        raise ValueError("not a size")
    # one level more than the data; what the child itself claims does not count
    reply["stored"] = as_read(reply, content, RESULT_DEPTH + 1)
    return reply


def _error(code: str, message: str, retryable: bool = False) -> dict[str, Any]:
    error = {"kind": "python", "code": code, "retryable": retryable, "message": message}
    return {"status": "error", "error": error, "stdout": ""}
