"""Where the Python pool has its children from: forked from a zygote on Linux, started one by one elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Protocol

from .python_process import PythonProcess

_ROOT = str(Path(__file__).parents[2])
# seconds within which the first child, or each that is started by itself, has to be there
START_SECONDS = 30.0


class Listener(Protocol):
    """What is called as children come and go, in the event loop that was attached last."""

    def on_started(self, child: PythonProcess) -> None:
        """It has run nothing yet, and does not wait for anything to be loaded."""

    def on_failed(self, error: OSError) -> None:
        """One of the requested children cannot be started."""

    def on_ended(self, child: PythonProcess) -> None:
        """By itself or at request; what it had started in its group has ended, too."""


class PythonSource(Protocol):
    @property
    def pids(self) -> list[int]:
        """Of the children that have been started and have not ended."""
        ...

    def attach(self, loop: asyncio.AbstractEventLoop) -> None: ...

    def request(self, count: int) -> None:
        """Begin so many children. OSError if nothing can be started."""

    def end(self, child: PythonProcess) -> asyncio.Future[int]:
        """Kill it and its group; the future is of its status."""
        ...

    def drop(self, child: PythonProcess) -> None:
        """The same when nobody waits for it: not necessarily at once."""

    def flush(self) -> None:
        """End at once what was dropped."""

    async def close(self) -> None:
        """End all children, and wait for that."""


def is_fork_safe() -> bool:
    """Whether children can be forked here, and watched."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def arguments(module: str) -> list[str]:
    """Of an interpreter that calls `main` of this module, and has nothing of this process's environment in it."""
    path = [*(path for path in sys.path if path), _ROOT]
    # in the order of this process: the same modules, wherever else there are some
    code = (
        f"import sys; path = {path!r}; sys.path[:] = [*path, *(p for p in sys.path if p not in path)]; "
        f"from {module} import main; main()"
    )
    return [sys.executable, "-I", "-c", code]


def environment(folder: str) -> dict[str, str]:
    """The environment of task code: nothing that configures the engine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **kept,
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONUTF8": "1",
    }
