"""Python children that are started one by one, where a fork is not safe: on macOS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from .python_process import ChildLost, PythonProcess
from .python_source import START_SECONDS, Listener, arguments, environment

_CHILD = f"{__package__}.python_child"
_BUFFER = 1 << 20


class _Spawned(PythonProcess):
    def __init__(self, folder: Path, memory_mb: int) -> None:
        self.folder = tempfile.mkdtemp(dir=folder)
        channel, child_end = socket.socketpair()
        printed, output = os.pipe()
        os.set_blocking(printed, False)
        channel.setblocking(False)
        for end in (channel, child_end):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        options = {
            "channel": child_end.fileno(),
            "folder": self.folder,
            "memory_mb": memory_mb,
            "parent": os.getpid(),
        }
        super().__init__(0, channel, printed, memory_mb)
        try:
            self._process = subprocess.Popen(
                [*arguments(_CHILD), json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=environment(self.folder),
                pass_fds=[child_end.fileno()],
                start_new_session=True,
            )
        except OSError:
            self.release()
            os.rmdir(self.folder)
            raise
        finally:
            child_end.close()
            os.close(output)
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        return self.usable and self._exit_status() is None

    def _exit_status(self) -> int | None:
        """Without reaping it: other processes of its group can still be killed."""
        if self._process.returncode is not None:
            return self._process.returncode
        if not hasattr(os, "waitid"):
            # macOS before Python 3.13: it is reaped
            if (status := self._process.poll()) is not None:
                self._kill_group()
            return status
        exit_info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if exit_info is None:
            return None
        return exit_info.si_status if exit_info.si_code == os.CLD_EXITED else -exit_info.si_status

    async def _status_after_end(self) -> int | None:
        for _ in range(50):
            if (status := self._exit_status()) is not None:
                return status
            await asyncio.sleep(0.01)
        return None

    async def wait_until_ready(self) -> None:
        """ChildLost if it is not."""
        try:
            await self._exchange(None, START_SECONDS)
        except TimeoutError:
            raise ChildLost(f"the process did not start within {START_SECONDS:g} s") from None

    def kill(self) -> None:
        self.release()
        # until it is reaped, its pid, which is also its group's, is not reused
        if self._process.returncode is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Wait for the end of a killed child and remove its folder; blocks for some milliseconds."""
        status = self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status


class PythonSpawns:
    """Each has to be attached to a loop before it is ready to be used."""

    def __init__(self, folder: Path, memory_mb: int, listener: Listener) -> None:
        self._folder = folder
        self._memory_mb = memory_mb
        self._listener = listener
        self._children: dict[int, _Spawned] = {}
        self._started: list[_Spawned] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def pids(self) -> list[int]:
        return list(self._children)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        while self._started:
            self._keep(loop.create_task(self._await_start(self._started.pop())))

    def request(self, count: int) -> None:
        for _ in range(count):
            child = _Spawned(self._folder, self._memory_mb)
            self._children[child.pid] = child
            self._started.append(child)
        if self._loop is not None and self._loop.is_running():
            self.attach(self._loop)

    def end(self, child: PythonProcess) -> asyncio.Future[int]:
        ended = child.end()
        self.drop(child)
        return ended

    def drop(self, child: PythonProcess) -> None:
        spawned = self._children.get(child.pid)
        if spawned is None:
            child.release()
            return
        spawned.kill()
        self._keep(asyncio.ensure_future(self._reap(spawned)))

    def flush(self) -> None:
        return None

    async def close(self) -> None:
        for child in list(self._children.values()):
            self.drop(child)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _keep(self, task: asyncio.Future[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await_start(self, child: _Spawned) -> None:
        try:
            await child.wait_until_ready()
        except ChildLost as lost:
            self.drop(child)
            self._listener.on_failed(OSError(str(lost)))
        else:
            self._listener.on_started(child)

    async def _reap(self, child: _Spawned) -> None:
        status = await asyncio.get_running_loop().run_in_executor(None, child.reap)
        self._children.pop(child.pid, None)
        child.has_ended(status)
        self._listener.on_ended(child)
