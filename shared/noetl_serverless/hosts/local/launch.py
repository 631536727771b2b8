"""Starts a stack as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from .layout import Layout
from .process import die_with_parent, tail

MAX_START_SECONDS = 180.0
MAX_STOP_SECONDS = 60.0
POLL_SECONDS = 0.03
# of the stack's log, which begins with why it did not start, and then quotes the log of the part
START_LINES = 50


class LaunchedProcess:
    """The process of a stack that this process started."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @property
    def ended(self) -> bool:
        return self._popen.poll() is not None

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(MAX_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def launch(
    layout: Layout, *, with_parent: bool, options: Mapping[str, object] | None = None
) -> tuple[LaunchedProcess | None, dict[str, Any]]:
    """Start `noetls up` on the data directory, unless one is starting there already, and wait until it is ready.

    `with_parent`: it ends when this process does; `options`: of `noetls up`, by name. Returns the process, or None if
    another process started it, and run.json. RuntimeError with its output if it does not start.
    """
    layout.create()
    if layout.is_locked():
        return None, _wait(layout, None)
    log = layout.log("stack")
    words = [word for name, value in (options or {}).items() for word in (f"--{name}", str(value))]
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "noetl_serverless.cli", "up", "--data", str(layout.home), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM) if with_parent else None,
        )
    launched = LaunchedProcess(popen)
    try:
        run = _wait(layout, popen)
        return (launched if run["pid"] == popen.pid else None), run
    except BaseException:
        launched.stop()
        raise


def stop(layout: Layout) -> bool:
    """Stop the stack that runs on the data directory; returns whether there was one. RuntimeError if it does not
    end."""
    run = layout.last_run()
    if not layout.is_locked():
        return False
    if run is None:
        run = _wait(layout, None)
    os.kill(run["pid"], signal.SIGTERM)
    deadline = time.monotonic() + MAX_STOP_SECONDS
    while layout.is_locked():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the stack (pid {run['pid']}) has not ended after {MAX_STOP_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    return True


def has_ended(launched: LaunchedProcess | None, run: Mapping[str, Any]) -> bool:
    """Whether the stack of `launch` does not run any more."""
    if launched is not None:
        return launched.ended
    import psutil

    return not psutil.pid_exists(run["pid"])


def _wait(layout: Layout, popen: subprocess.Popen[bytes] | None) -> dict[str, Any]:
    deadline = time.monotonic() + MAX_START_SECONDS
    while True:
        run = layout.running()
        if run is not None:
            return run
        # another process may have locked the directory first: then its stack is the answer
        if popen is not None and popen.poll() is not None and not layout.is_locked():
            message = tail(layout.log("stack"), START_LINES).removeprefix("error: ")
            raise RuntimeError(message or f"the stack ended with status {popen.returncode}")
        if popen is None and not layout.is_locked():
            raise RuntimeError("the stack that was starting has ended")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the stack is not ready after {MAX_START_SECONDS:g} s; see {layout.logs}")
        time.sleep(POLL_SECONDS)
