"""A worker of a stack as if it were in another container: it finds nothing that the others keep in memory."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from .stack import Bench
from .usage import Meter
from .workers import ready

LONGEST_RESTART = 60.0
PAUSE = 0.05


async def move_to_another_node(bench: Bench, function: str) -> None:
    """Of a stack whose functions have processes of their own. A worker's node is the folder where the workers of a
    container meet, as it finds it when it starts: this one finds another."""
    [shared] = bench.layout.scratch.glob("noetls-ipc-*")
    shared.rename(shared.with_name("of-the-other-node"))
    pid = bench.run["pids"][function]
    # its supervisor starts it again
    os.kill(pid, signal.SIGTERM)
    bench.run = run = await _restarted(bench, function, pid)
    bench.meter = Meter(run["pids"], run["pid"])
    await ready(run[f"{function}_url"])


async def _restarted(bench: Bench, function: str, pid: int) -> dict[str, Any]:
    """run.json once another process has the function."""
    deadline = time.monotonic() + LONGEST_RESTART
    while time.monotonic() < deadline:
        await asyncio.sleep(PAUSE)
        run = bench.layout.running()
        if run is not None and run["pids"].get(function, pid) != pid:
            return run
    raise TimeoutError(f"{function} has not started again after {LONGEST_RESTART:g} s")
