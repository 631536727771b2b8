"""Processes that a killed stack may have left running."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

# for how long those that were killed are waited for
END_SECONDS = 10.0
POLL_SECONDS = 0.01


def stop_orphans(leaders: Iterable[int], home: Path) -> None:
    """Kill the members of these process groups that work below `home`.

    The numbers come from the last run.json and may belong to other processes by now, so the working directory is
    checked.
    """
    import psutil

    groups = set(leaders)
    folder = home.resolve()

    def find() -> list[psutil.Process]:
        orphans = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getpgid(process.pid) in groups and Path(process.cwd()).is_relative_to(folder):
                    orphans.append(process)
        return orphans

    kill_found(find)


def kill_found(find: Callable[[], list[psutil.Process]], patience: float = END_SECONDS) -> list[psutil.Process]:
    """Kill what `find` finds until it finds nothing; returns what is still there when the time is up.

    What was killed is looked for again instead of waited for: a process may have started another meanwhile, and one
    whose parent does not ask for its status remains as a zombie, which has ended all the same. `find` must not find
    zombies: they have no working directory.
    """
    import psutil

    deadline = time.monotonic() + patience
    while found := find():
        if time.monotonic() > deadline:
            return found
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(POLL_SECONDS)
    return []
