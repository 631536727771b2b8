"""Processes that a killed stack may have left running."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def stop_orphans(leaders: Iterable[int], home: Path) -> None:
    """Kill the members of these process groups that work below `home`.

    The numbers come from the last run.json and may belong to other processes by now, so the working directory is
    checked.
    """
    import psutil

    groups = set(leaders)
    folder = home.resolve()
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) in groups and Path(process.cwd()).is_relative_to(folder):
                process.kill()
                orphans.append(process)
    psutil.wait_procs(orphans, timeout=10)
