"""One instance of a revision: the process that the buildpack's image would start in a container of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program

from ..guard import Guard
from .image import Image

# seconds, as on Cloud Run: until its port must be open, and between SIGTERM and SIGKILL
START_SECONDS = 240.0
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02


class StartFailed(Exception):
    """The process has ended, or its port is not open in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What its instances have in common. `concurrency` and `timeout` (seconds) are of requests; `cpu_idle`: an instance
    has CPU only during requests, and while it starts and stops."""

    name: str
    service: str
    image: Image
    environment: Mapping[str, str]
    concurrency: int
    timeout: float
    cpu_idle: bool
    folder: Path
    log: Path


class Instance:
    def __init__(self, revision: Revision, guard: Guard) -> None:
        self.revision = revision
        self.port = free_port()
        self.requests = 0
        self.is_ready = False
        self._is_gone = False
        # since when it has had no request
        self.idle_since = time.monotonic()
        self._guard = guard
        self._home = revision.folder / str(self.port)
        shutil.rmtree(self._home, ignore_errors=True)
        for name in ("home", "tmp"):
            (self._home / name).mkdir(parents=True)
        self._process = Process(
            Program(
                name=revision.name,
                argv=[str(revision.image.python), "-m", "functions_framework"],
                log=revision.log,
                environment=self._environment(),
                directory=revision.image.folder,
            )
        )
        guard.add(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    async def start(self) -> None:
        """Until its port accepts connections. StartFailed."""
        deadline = time.monotonic() + START_SECONDS
        while not await self._listens():
            if not self.alive or time.monotonic() > deadline:
                why = "has ended" if not self.alive else f"does not listen after {START_SECONDS:g} s"
                self.kill()
                raise StartFailed(f"The process {why}. The end of its log:\n{self._process.tail(40)}")
            await asyncio.sleep(_POLL_SECONDS)
        self.is_ready = True
        self.idle_since = time.monotonic()
        self._give_cpu(self.requests > 0)

    def begin_request(self) -> None:
        self.requests += 1
        self._give_cpu(True)

    def end_request(self) -> None:
        self.requests -= 1
        self.idle_since = time.monotonic()
        self._give_cpu(self.requests > 0)

    def _give_cpu(self, has_cpu: bool) -> None:
        """Cloud Run leaves an idle instance next to none, from which nothing should expect anything."""
        if self.revision.cpu_idle and self.is_ready:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT if has_cpu else signal.SIGSTOP)

    async def stop(self) -> None:
        """With SIGTERM, and with SIGKILL if that takes too long."""
        self._give_cpu(True)
        self.is_ready = False
        self._process.send_stop_signal()
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """The whole group, at once; also what a leader that has ended has left."""
        self.is_ready = False
        if self._is_gone:
            return
        self._is_gone = True
        self._guard.remove(self.pid)
        self._process.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def crash(self) -> None:
        """Gone at once; whoever looks after the instances has to notice."""
        self._process.kill()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.revision.image.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._home / "home"),
            "TMPDIR": str(self._home / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "TRUE",
            # the source is shared by all instances
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.revision.image.environment,
            **self.revision.environment,
            # on Cloud Run nobody else reaches a container's port
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "K_SERVICE": self.revision.service,
            "K_CONFIGURATION": self.revision.service,
            "K_REVISION": self.revision.name,
            "CLOUD_RUN_TIMEOUT_SECONDS": f"{self.revision.timeout:g}",
        }

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
