"""Prestarted Python processes that run user code; each can be killed, and none has the engine's secrets.

A child runs one call at a time. When a call exceeds its time, is cancelled, or breaks its process, the whole
process group gets SIGKILL and a new process replaces it. Not prevented: code may start processes in a new
session, which outlive it, and as root in any number (RLIMIT_NPROC does not apply to root).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import orjson

from ..limits import RESULT_DEPTH
from ..playbook.values import as_read
from .confinement import close_to_inspection
from .encoding import NotJson, encode
from .fair_queue import NO_SHARE, FairQueue, Share
from .python_process import ChildLost, NotReady, PythonProcess
from .scratch import ScratchFolder

# the fields that the reply of a child may have
_REPLY = ("data", "error", "py", "spent")


class PythonPool:
    """At most `size` children at once, each limited to `memory_mb` of private memory, their folders below
    `scratch`.

    Usable from several event loops, but only from one at a time.
    """

    def __init__(self, size: int, memory_mb: int, scratch: Path) -> None:
        if size < 1:
            raise ValueError("a pool needs at least one process")
        self._size = size
        self._memory_mb = memory_mb
        self._scratch = scratch
        self._folder: ScratchFolder | None = None
        self._idle: list[PythonProcess] = []
        self._busy: set[PythonProcess] = set()
        self._waiting: FairQueue[asyncio.Future[PythonProcess]] = FairQueue()
        self._terminating: set[asyncio.Future[int]] = set()
        self._closed = False

    def start(self) -> None:
        """Start all children now; otherwise each starts when a call needs it."""
        while len(self._idle) + len(self._busy) < self._size:
            self._idle.insert(0, self._spawn())

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in (*self._idle, *self._busy)]

    async def run(
        self,
        code: str,
        input: dict[str, Any],
        timeout: float | None = None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        share: Share = NO_SHARE,
    ) -> dict[str, Any]:
        """Run `code` with `input` as its globals, for at most `timeout` seconds once a child is free. Until then it
        waits in the context `waiting()`, with shares taking turns.

        {"status": "ok", "data", "stored", "stdout"}, see ToolOutcome, or {"status": "error", "error": {kind, code,
        retryable, message}, "py", "stdout"}.
        """
        try:
            request = encode({"code": code, "input": input})
        except NotJson as error:
            message = str(error).replace("result['input']", "input", 1)
            return _error("python.not_json", f"the input cannot be passed to the process: {message}")
        reply: dict[str, Any] | None = None
        while reply is None:
            with waiting():
                child = await self._take(share)
            try:
                reply = _read(await child.call(request, timeout))
            except NotReady:
                # an earlier call has broken the child: another child runs this one
                continue
            except TimeoutError:
                reply = _error("python.timeout", f"ran longer than {timeout:g} s and was killed", retryable=True)
            except ChildLost as lost:
                reply = _error("python.killed", str(lost), retryable=True)
            except ValueError:
                child.usable = False
                reply = _error("python.killed", "the process sent an invalid reply", retryable=True)
            finally:
                reusable = reply is not None and not reply.get("spent") and child.usable
                end = self._give_back(child, reusable)
                if end is not None and reply is not None:
                    await asyncio.shield(end)
        reply.pop("spent", None)
        reply["status"] = "error" if "error" in reply else "ok"
        if reply["status"] == "ok":
            reply.setdefault("data", None)
        return {**reply, "stdout": child.output()}

    async def close(self) -> None:
        """Kill every child and wait for its end; calls that wait for one fail."""
        self._closed = True
        for waiter in self._waiting:
            waiter.cancel()
        for child in (*self._idle, *self._busy):
            self._reap(child)
        self._idle.clear()
        self._busy.clear()
        while self._terminating:
            await asyncio.wait(self._terminating)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.remove)
            self._folder = None

    async def _take(self, share: Share) -> PythonProcess:
        if self._closed:
            raise RuntimeError("the pool is closed")
        waiter: asyncio.Future[PythonProcess] = asyncio.get_running_loop().create_future()
        self._waiting.add(share, waiter)
        self._dispatch()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiting.discard(share, waiter)
            elif waiter.exception() is None:
                self._give_back(waiter.result(), reusable=True)
            raise

    def _dispatch(self) -> None:
        """Assign free children to waiting calls at once, so that a later call cannot take them before those wake up."""
        while self._waiting and (self._idle or len(self._busy) < self._size):
            waiter = self._waiting.pop()
            # when many are cancelled at once, some of them are still in the queue
            if waiter.done():
                continue
            try:
                child = self._free()
            except OSError as error:
                waiter.set_exception(error)
                # the others get the children that are busy now, if there are any
                if self._busy:
                    return
            else:
                self._busy.add(child)
                waiter.set_result(child)

    def _free(self) -> PythonProcess:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            self._reap(child)
        return self._spawn()

    def _give_back(self, child: PythonProcess, reusable: bool) -> asyncio.Future[int] | None:
        """A future of the child's end; None if the child is kept, or has been given back already."""
        if child not in self._busy:
            return None
        self._busy.remove(child)
        end = None
        if reusable:
            self._idle.append(child)
        else:
            end = self._reap(child)
            # the replacement starts while the old child ends, so that it is ready for the next call; if it cannot be
            # started, the next call that needs it tries again and gets the error
            with contextlib.suppress(OSError):
                self._idle.insert(0, self._spawn())
        self._dispatch()
        return end

    def _reap(self, child: PythonProcess) -> asyncio.Future[int]:
        child.kill()
        end = asyncio.get_running_loop().run_in_executor(None, child.reap)
        self._terminating.add(end)
        end.add_done_callback(self._terminating.discard)
        return end

    def _spawn(self) -> PythonProcess:
        if self._folder is None:
            close_to_inspection()
            self._folder = ScratchFolder(self._scratch, "python")
        return PythonProcess(self._folder.path, self._memory_mb)


def _read(content: bytes | bytearray) -> dict[str, Any]:
    """The reply of a child; ValueError if it is malformed, which is possible because foreign code runs in the child."""
    reply = orjson.loads(content)
    if not isinstance(reply, dict):
        raise ValueError("not an object")
    reply = {name: reply[name] for name in _REPLY if name in reply}
    if "error" in reply and not (isinstance(reply["error"], dict) and isinstance(reply.get("py", {}), dict)):
        raise ValueError("not an error")
    # one level more than the data; what the child itself claims does not count
    reply["stored"] = as_read(reply, content, RESULT_DEPTH + 1)
    return reply


def _error(code: str, message: str, retryable: bool = False) -> dict[str, Any]:
    return {"error": {"kind": "python", "code": code, "retryable": retryable, "message": message}}
