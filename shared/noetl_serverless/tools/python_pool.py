"""Warm Python processes that run user code, each killable, none with the engine's secrets.

A child runs one call at a time. A call that exceeds its time, is cancelled, or breaks its process costs that
process: its whole group gets SIGKILL and a fresh one takes its place. What is not prevented: code may start
processes of a new session, which outlive it, and as root there is no limit to how many (RLIMIT_NPROC does not
bind root).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import orjson

from ..limits import RESULT_DEPTH
from ..playbook.values import as_read
from .confinement import close_to_inspection
from .encoding import NotJson, encode
from .fair_queue import FairQueue
from .python_process import ChildLost, NotReady, PythonProcess
from .scratch import ScratchFolder

# what a child may say
_REPLY = ("data", "error", "py", "spent")


class PythonPool:
    """At most `size` children at once, each limited to `memory_mb` of private memory, their folders below
    `scratch`.

    Usable from one event loop at a time, from any one after another.
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
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._dying: set[asyncio.Future[int]] = set()
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
        playbook: str = "",
    ) -> dict[str, Any]:
        """Run `code` with `input` as its globals, for at most `timeout` seconds once a child is free; until then it is
        `waiting`, in turn among playbooks.

        {"status": "ok", "data", "stored", "stdout"}, see ToolOutcome, or {"status": "error", "error": {kind, code,
        retryable, message}, "py", "stdout"}.
        """
        try:
            request = encode({"code": code, "input": input})
        except NotJson as error:
            message = str(error).replace("result['input']", "input", 1)
            return _error("python.not_json", f"the input cannot be handed over: {message}")
        reply: dict[str, Any] | None = None
        while reply is None:
            with waiting():
                child = await self._take(playbook)
            try:
                reply = _read(await child.call(request, timeout))
            except NotReady:
                # what the call before has broken is not met here
                continue
            except TimeoutError:
                reply = _error("python.timeout", f"ran longer than {timeout:g} s and was killed", retryable=True)
            except ChildLost as lost:
                reply = _error("python.killed", str(lost), retryable=True)
            except ValueError:
                child.usable = False
                reply = _error("python.killed", "the process broke its channel to the pool", retryable=True)
            finally:
                keep = reply is not None and not reply.get("spent") and child.usable
                await self._give_back(child, keep=keep, wait=reply is not None)
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
            self._bury(child)
        self._idle.clear()
        self._busy.clear()
        while self._dying:
            await asyncio.wait(self._dying)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.remove)
            self._folder = None

    async def _take(self, playbook: str) -> PythonProcess:
        while True:
            if self._closed:
                raise RuntimeError("the pool is closed")
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    self._busy.add(child)
                    return child
                self._bury(child)
            if len(self._busy) < self._size:
                child = self._spawn()
                self._busy.add(child)
                return child
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(playbook, waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    # it was this one's turn: pass it on
                    self._wake()
                else:
                    # when many are cancelled at once, a wake may have thrown it out already
                    self._waiting.discard(playbook, waiter)
                raise

    async def _give_back(self, child: PythonProcess, keep: bool, wait: bool) -> None:
        if child not in self._busy:
            return
        self._busy.remove(child)
        if keep:
            self._idle.append(child)
            self._wake()
            return
        end = self._bury(child)
        # the replacement starts while the old one dies, so that the next call finds it warm
        self._idle.insert(0, self._spawn())
        self._wake()
        if wait:
            await asyncio.shield(end)

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.pop()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _bury(self, child: PythonProcess) -> asyncio.Future[int]:
        child.kill()
        end = asyncio.get_running_loop().run_in_executor(None, child.reap)
        self._dying.add(end)
        end.add_done_callback(self._dying.discard)
        return end

    def _spawn(self) -> PythonProcess:
        if self._folder is None:
            close_to_inspection()
            self._folder = ScratchFolder(self._scratch, "python")
        return PythonProcess(self._folder.path, self._memory_mb)


def _read(content: bytes | bytearray) -> dict[str, Any]:
    """What a child replied; ValueError if it is not what a child replies, for foreign code runs in it."""
    reply = orjson.loads(content)
    if not isinstance(reply, dict):
        raise ValueError("not an object")
    reply = {name: reply[name] for name in _REPLY if name in reply}
    if "error" in reply and not (isinstance(reply["error"], dict) and isinstance(reply.get("py", {}), dict)):
        raise ValueError("not an error")
    # one level more than the data, whatever the child says of it
    reply["stored"] = as_read(reply, content, RESULT_DEPTH + 1)
    return reply


def _error(code: str, message: str, retryable: bool = False) -> dict[str, Any]:
    return {"error": {"kind": "python", "code": code, "retryable": retryable, "message": message}}
