"""Keeps processes alive: one that dies is restarted, with a longer delay each time it dies soon after its start."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .process import Process, Program

_log = logging.getLogger(__name__)

# each look at the processes wakes this one up, which was a quarter of what an idle stack cost at ten times a second
CHECK_SECONDS = 0.25
FIRST_RESTART_SECONDS = 0.1
MAX_RESTART_SECONDS = 5.0
# a process that ran this long is restarted with the first delay again
STABLE_SECONDS = 30.0


@dataclass
class Supervised:
    """One process of the stack; `prepare` makes it ready before each start."""

    name: str
    prepare: Callable[[], Program]
    process: Process | None = None
    _started_at: float = 0.0
    _restart_delay: float = FIRST_RESTART_SECONDS
    _start_at: float = field(default=0.0)

    def start(self, now: float) -> None:
        self.process = Process(self.prepare())
        self._started_at = now

    def restart_if_dead(self, now: float) -> bool:
        """Restart it if it has died and its delay has passed; returns whether it was restarted."""
        if self.process is not None:
            if self.process.alive:
                return False
            self._clear_after_exit(self.process, now)
        if now < self._start_at:
            return False
        try:
            self.start(now)
        except (OSError, RuntimeError) as error:
            self._wait(now)
            _log.error("%s does not start: %s", self.name, error)
            return False
        _log.warning("%s was started again", self.name)
        return True

    def _clear_after_exit(self, process: Process, now: float) -> None:
        _log.warning("%s (pid %d) ended with status %s", self.name, process.pid, process.returncode)
        # processes that it left in its group would hold its port
        process.kill()
        self.process = None
        if now - self._started_at > STABLE_SECONDS:
            self._restart_delay = FIRST_RESTART_SECONDS
        self._wait(now)

    def _wait(self, now: float) -> None:
        self._start_at = now + self._restart_delay
        self._restart_delay = min(MAX_RESTART_SECONDS, self._restart_delay * 2)


class Supervisor:
    """Starts groups of parts in order and stops them in the opposite order, the parts of a group together."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.groups: list[list[Supervised]] = []
        self._on_change = on_change

    @property
    def parts(self) -> list[Supervised]:
        return [part for group in self.groups for part in group]

    def pids(self) -> dict[str, int]:
        return {part.name: part.process.pid for part in self.parts if part.process is not None}

    def start(self, group: Sequence[Supervised]) -> None:
        self.groups.append(list(group))
        for part in group:
            part.start(time.monotonic())

    async def watch(self) -> None:
        """Restart parts that have died, until cancelled."""
        while True:
            now = time.monotonic()
            started = [part for part in self.parts if part.restart_if_dead(now)]
            if started:
                self._on_change()
            await asyncio.sleep(CHECK_SECONDS)

    async def stop(self) -> None:
        """Each part gets its stop signal, is waited for, and is then killed."""
        for group in reversed(self.groups):
            processes = [part.process for part in group if part.process is not None]
            for process in processes:
                process.send_stop_signal()
            # together, so that the waits for unresponsive processes do not add up; the default executor has only a few
            # threads
            loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(max(1, len(processes)))
            try:
                await asyncio.gather(*(loop.run_in_executor(threads, process.stop) for process in processes))
            finally:
                threads.shutdown(wait=False)

    def kill(self) -> None:
        for part in reversed(self.parts):
            if part.process is not None:
                part.process.kill()
