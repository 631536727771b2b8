"""Python children that a zygote forks, which is started when the first is requested, and again when it dies.

It is a program of its own, never a fork of the engine, whose memory holds secrets. Its death ends its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .python_process import PythonProcess
from .python_source import START_SECONDS, Listener, arguments, environment

logger = logging.getLogger(__name__)

_ZYGOTE = f"{__package__}.python_zygote"
_MESSAGE = 1 << 14
_CLOSE_SECONDS = 10.0
_END_SECONDS = 10.0
# children whose descriptors go into one message
_AT_ONCE = 16
# so many wait for one message
_DROPPED = 8


class PythonForks:
    def __init__(self, folder: Path, memory_mb: int, private: Sequence[Path], listener: Listener) -> None:
        """`folder`: where each zygote gets a folder for those of its children; `private`: see `private_folders`."""
        self._folder = folder
        self._memory_mb = memory_mb
        self._private = [str(path) for path in private]
        self._listener = listener
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # the loop that watches the control socket; None if none does
        self._watching: asyncio.AbstractEventLoop | None = None
        self._children: dict[int, PythonProcess] = {}
        # those that are to be dropped with the next message, and those that were with the last. Their sockets stay open
        # so long: by the end of its socket a child would be woken up, which costs more than to be killed
        self._dropped: list[PythonProcess] = []
        self._going: list[PythonProcess] = []
        self._requested = 0
        # whether this zygote has forked a child yet
        self._has_forked = False
        self._start_limit: asyncio.TimerHandle | None = None
        self._removing: set[asyncio.Future[None]] = set()

    @property
    def pids(self) -> list[int]:
        return list(self._children)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watch()

    def request(self, count: int) -> None:
        if self._control is None:
            self._start()
        self._requested += count
        for begun in range(0, count, _AT_ONCE):
            self._send(fork=min(_AT_ONCE, count - begun))

    def end(self, child: PythonProcess) -> asyncio.Future[int]:
        ended = child.end()
        child.release()
        if child.pid in self._children:
            self._send(end=[child.pid])
            limit = asyncio.get_running_loop().call_later(_END_SECONDS, self._on_late_end, child)
            ended.add_done_callback(lambda _: limit.cancel())
        return ended

    def drop(self, child: PythonProcess) -> None:
        child.set_aside()
        if self._children.pop(child.pid, None) is None:
            child.release()
            return
        self._dropped.append(child)
        if len(self._dropped) >= _DROPPED:
            self.flush()

    def flush(self) -> None:
        if self._dropped:
            self._send()

    async def close(self) -> None:
        process = self._process
        self._disconnect()
        if process is not None:
            await asyncio.to_thread(_wait, process)
        self._lose_children()
        while self._removing:
            await asyncio.wait(self._removing)

    # -- the zygote

    def _start(self) -> None:
        folder = self._folder / f"zygote-{os.urandom(4).hex()}"
        folder.mkdir(mode=0o700)
        options = {"folder": str(folder), "private": self._private, "memory_mb": self._memory_mb}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*arguments(_ZYGOTE), json.dumps(options)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd=folder,
                    # bound once here, and not in every child
                    env={**environment(str(folder)), "LD_BIND_NOW": "1"},
                    start_new_session=True,
                )
        except OSError:
            ours.close()
            folder.rmdir()
            raise
        ours.setblocking(False)
        self._control = ours
        self._has_forked = False
        self._watch()

    def _watch(self) -> None:
        control, loop = self._control, self._loop
        if control is None or loop is None or self._watching is loop:
            return
        self._unwatch()
        self._watching = loop
        loop.add_reader(control.fileno(), self._on_readable)
        if not self._has_forked:
            self._start_limit = loop.call_later(START_SECONDS, self._on_late_start)

    def _unwatch(self) -> None:
        loop, self._watching = self._watching, None
        if loop is not None and not loop.is_closed() and self._control is not None:
            loop.remove_reader(self._control.fileno())
        if self._start_limit is not None:
            self._start_limit.cancel()
            self._start_limit = None

    def _on_late_start(self) -> None:
        if self._process is not None and not self._has_forked:
            logger.error("no Python process was ready within %g s", START_SECONDS)
            self._kill()

    def _on_late_end(self, child: PythonProcess) -> None:
        if child.status is None:
            logger.error("a Python process has not ended within %g s", _END_SECONDS)
            self._kill()

    def _kill(self) -> None:
        """Its end is noticed where it is read from, and ends its children."""
        if self._process is not None:
            self._process.kill()

    def _disconnect(self) -> None:
        self._unwatch()
        if self._control is not None:
            self._control.close()
        self._control = self._process = None
        # those of the last message, and those that wait for the next
        self._release_dropped()
        self._release_dropped()

    # -- messages

    def _send(self, **message: Any) -> None:
        if self._dropped:
            message["drop"] = [child.pid for child in self._dropped]
        control = self._control
        # one that has died is noticed where it is read from
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if control is not None:
                try:
                    control.send(json.dumps(message).encode())
                except BlockingIOError:
                    # as many messages as a socket holds are not read: it hangs
                    self._kill()
        self._release_dropped()

    def _release_dropped(self) -> None:
        for child in self._going:
            child.release()
        self._going, self._dropped = self._dropped, []

    def _on_readable(self) -> None:
        # a few at a time, so that the loop comes to what the children have answered
        for _ in range(8):
            control = self._control
            if control is None:
                return
            try:
                content, descriptors, _, _ = socket.recv_fds(control, _MESSAGE, 2 * _AT_ONCE)
            except BlockingIOError:
                return
            except ConnectionError:
                content, descriptors = b"", []
            if not content:
                self._on_death()
                return
            self._on_message(json.loads(content), descriptors)

    def _on_message(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        if "forked" in message:
            self._has_forked = True
            pids = message["forked"]
            self._requested -= len(pids)
            ends = iter(descriptors)
            for pid, descriptor, printed in zip(pids, ends, ends, strict=True):
                channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
                channel.setblocking(False)
                os.set_blocking(printed, False)
                self._children[pid] = child = PythonProcess(pid, channel, printed, self._memory_mb)
                self._listener.on_started(child)
        elif "failed" in message:
            self._requested -= message["failed"]
            for _ in range(message["failed"]):
                self._listener.on_failed(OSError(message["errno"], message["why"]))
        else:
            if left := message.get("left"):
                self._remove(left)
            ended = self._children.pop(message["ended"], None)
            if ended is not None:
                ended.has_ended(message["status"])
                self._listener.on_ended(ended)

    def _remove(self, folder: str) -> None:
        assert self._loop is not None
        removing = self._loop.run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))
        self._removing.add(removing)
        removing.add_done_callback(self._removing.discard)

    def _on_death(self) -> None:
        process = self._process
        assert process is not None
        self._disconnect()
        process.kill()
        status = process.wait()
        logger.error("the process that forks Python processes ended with status %d", status)
        requested, self._requested = self._requested, 0
        self._lose_children()
        if not self._has_forked:
            # it would probably fail again
            for _ in range(requested):
                self._listener.on_failed(OSError(f"no Python process can be started: status {status}"))
        elif requested:
            try:
                self.request(requested)
            except OSError as error:
                for _ in range(requested):
                    self._listener.on_failed(error)

    def _lose_children(self) -> None:
        children, self._children = self._children, {}
        for child in children.values():
            child.has_ended(-signal.SIGKILL)
            self._listener.on_ended(child)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until it has ended its children and itself, which it does because its socket is closed."""
    try:
        process.wait(_CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
