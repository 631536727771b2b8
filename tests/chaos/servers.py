"""PostgreSQL and NATS that outlive the stack, looked after as the local host does it, each behind a wire."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.hosts.local.supervisor import Supervised, Supervisor

from .proxy import Proxy

START = 60.0


class Servers:
    """Started in a thread of their own: they end with the thread that started them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # durable: what a commit was confirmed for must survive SIGKILL
        self._postgres = Postgres(home / "postgres", free_port(), secrets.token_hex(24), home / "postgres.log")
        self._nats = Nats(home / "nats", free_port(), secrets.token_hex(24), home / "nats.log")
        self._supervisor = Supervisor(lambda: None)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._look_after, name="servers")
        self.wires: dict[str, Proxy] = {}

    @property
    def database_url(self) -> str:
        """Through the wire."""
        return self._postgres.url.replace(f":{self._postgres.port}/", f":{self.wires['postgres'].port}/")

    @property
    def direct_database_url(self) -> str:
        return self._postgres.url

    @property
    def nats_url(self) -> str:
        """Through the wire."""
        return self._nats.url.replace(f":{self._nats.port}", f":{self.wires['nats'].port}")

    @property
    def direct_nats_url(self) -> str:
        return self._nats.url

    def pids(self) -> dict[str, int]:
        return self._supervisor.pids()

    def start(self) -> None:
        """RuntimeError if one does not answer."""
        self._thread.start()
        self._wait(self._postgres.is_ready)
        self._wait(self._nats.is_ready)
        self.wires = {"postgres": Proxy(self._postgres.port), "nats": Proxy(self._nats.port)}

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for wire in self.wires.values():
            wire.close()

    def _look_after(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as error:
            self._failure = error

    async def _watch(self) -> None:
        self._supervisor.start([Supervised("postgres", self._postgres.prepare), Supervised("nats", self._nats.prepare)])
        watching = asyncio.create_task(self._supervisor.watch())
        try:
            stopped = asyncio.create_task(asyncio.to_thread(self._stop.wait))
            await asyncio.wait([watching, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            await self._supervisor.stop()

    def _wait(self, answers: Callable[[], bool]) -> None:
        until = time.monotonic() + START
        while not answers():
            if self._failure is not None or time.monotonic() > until:
                raise RuntimeError(f"a server does not start: {self._failure or 'it does not answer'}")
            time.sleep(0.02)
