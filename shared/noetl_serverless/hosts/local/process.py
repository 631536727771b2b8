"""A child process that does not outlive its parent, with its output in a log file."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from .os_user import OsUser

_log = logging.getLogger(__name__)

_SET_PARENT_DEATH_SIGNAL = 1
LOG_BYTES = 10 * 2**20


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `environment` is the whole environment of the process; `input` is what it reads from its standard
    input, at most as much as a pipe holds."""

    name: str
    argv: Sequence[str]
    log: Path
    _: KW_ONLY
    environment: Mapping[str, str] = field(default_factory=dict)
    input: bytes = b""
    directory: Path | None = None
    account: OsUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # seconds between the stop signal and SIGKILL
    stop_timeout: float = 10.0


class Process:
    """One run of a program, in its own process group."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._stop_sent = False
        account = program.account
        switch = account is not None and not account.is_current
        program.log.parent.mkdir(parents=True, exist_ok=True)
        _rotate(program.log)
        with program.log.open("ab") as log:
            # earlier runs have written to the same file
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                list(program.argv),
                stdin=subprocess.PIPE if program.input else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(program.environment),
                cwd=program.directory,
                start_new_session=True,
                preexec_fn=die_with_parent(program.stop_signal),
                user=account.uid if account and switch else None,
                group=account.gid if account and switch else None,
                extra_groups=[] if switch else None,
            )
        if self._popen.stdin is not None:
            # one that has ended by then is restarted like any other
            with contextlib.suppress(BrokenPipeError), self._popen.stdin as source:
                source.write(program.input)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def send_stop_signal(self) -> None:
        """Send the stop signal, but only once: many programs abort at a second one."""
        if not self._stop_sent and self.alive:
            self._stop_sent = True
            self._popen.send_signal(self.program.stop_signal)

    def stop(self) -> None:
        """Send the stop signal, wait, then kill what is left of the process group."""
        self.send_stop_signal()
        try:
            self._popen.wait(self.program.stop_timeout)
        except subprocess.TimeoutExpired:
            _log.warning("%s has not ended after %g s and is killed", self.program.name, self.program.stop_timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the group: also the children of a leader that is already gone."""
        kill_group(self.pid)
        self._popen.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines that this run has written to the log."""
        return tail(self.program.log, lines, self._log_start)


def _rotate(log: Path) -> None:
    """Keep one older file, so that logs do not fill the disk over the months."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path, lines: int = 20, start: int = 0) -> str:
    """The last lines from byte `start` on."""
    with contextlib.suppress(OSError), log.open("rb") as source:
        source.seek(0, os.SEEK_END)
        source.seek(max(start, source.tell() - 16384))
        return "\n".join(source.read().decode(errors="replace").splitlines()[-lines:])
    return ""


def kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def wait_until(ready: Callable[[], bool], process: Process, timeout: float, pause: float = 0.01) -> None:
    """Poll `ready`. RuntimeError, with the end of the log, if the process dies or the time is up."""
    deadline = time.monotonic() + timeout
    while not ready():
        check_starting(process, deadline, timeout)
        time.sleep(pause)


def check_starting(process: Process, deadline: float, timeout: float) -> None:
    """RuntimeError, which says where the log is and what this run has written there, if the process has died or the
    deadline has passed."""
    program = process.program
    status = process.returncode
    if status is not None:
        how = f"with exit status {status}" if status >= 0 else f"by signal {-status}"
        what = f"{program.name} stopped while starting, {how}"
    elif time.monotonic() > deadline:
        what = f"{program.name} is not ready after {timeout:g} s"
    else:
        return
    written = process.tail()
    says = "which says of this start:" if written else "without a word of this start"
    raise RuntimeError(f"{what}; {program.log} has its log, {says}\n{written}".rstrip())


def die_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """A hook by which Linux signals a child when its parent dies; elsewhere the next start ends what was left
    behind."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def arm() -> None:
        libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(stop_signal))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return arm
