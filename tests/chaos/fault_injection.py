"""Doing to the stack what was planned, each at its time, and undoing what lasts."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psutil
from tests.log_rules import Finding

from .faults import RESTART, Fault
from .proxy import Wire
from .stack import ChaosStack

# the largest file that may be written on a full disk, in bytes: what is there can be changed, nothing can be added
FULL = 4096


@dataclass(frozen=True, slots=True)
class Done:
    """`back`: seconds until a killed part served again, or a restart was over. `met` is false if there was no such
    process at that moment."""

    fault: Fault
    met: bool
    back: float | None = None


class FaultInjector:
    def __init__(self, stack: ChaosStack, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
        self.done: list[Done] = []
        self.findings: list[Finding] = []
        self._stack = stack
        self._faults = faults
        self._say = say
        # of what a fault has to itself: two of one kind do not undo each other's
        self._held = {name: threading.Lock() for name in ("postgres", "nats", "results")}
        self._ways = {
            "kill": self._kill,
            "stop": self._pause,
            "cut": self._cut,
            "fill the disk of": self._fill,
            "restart": self._restart,
        }

    def inject_all(self) -> None:
        """All of them; returns when each is undone and what was killed is back."""
        began = time.monotonic()
        watched: list[Future[None]] = []
        with ThreadPoolExecutor(32) as threads:
            for fault in self._faults:
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                self._say(f"{time.monotonic() - began:7.2f}  {fault.name}")
                if fault.kind == "restart":
                    # it needs the servers: what was done before is undone first, what comes after waits as long
                    for one in watched:
                        one.result()
                    self._inject(fault)
                    began = max(began, time.monotonic() - fault.at - RESTART)
                else:
                    watched.append(threads.submit(self._inject, fault))
        for one in watched:
            one.result()

    def _inject(self, fault: Fault) -> None:
        try:
            done = self._ways[fault.kind](fault)
        except Exception as error:
            self.findings.append(Finding("", "it does not come back", f"{fault.name}: {error!r}"))
            return
        self.done.append(done)

    def _kill(self, fault: Fault) -> Done:
        rng = random.Random(fault.choice)
        start = time.monotonic()
        pid = self._stack.kill(fault.target, rng)
        if pid is None:
            return Done(fault, False)
        self._stack.seconds_until_back(fault.target, pid)
        return Done(fault, True, time.monotonic() - start)

    def _pause(self, fault: Fault) -> Done:
        pids = self._stack.some(fault.target, fault.choice)
        try:
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            time.sleep(fault.seconds)
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)
        return Done(fault, bool(pids))

    def _cut(self, fault: Fault) -> Done:
        wire = self._stack.servers.wires[fault.target]
        with self._held[fault.target]:
            wire.become(Wire(fault.how))
            time.sleep(fault.seconds)
            wire.become(Wire.WHOLE)
        return Done(fault, True)

    def _fill(self, fault: Fault) -> Done:
        if fault.target == "results":
            with self._results_away():
                time.sleep(fault.seconds)
            return Done(fault, True)
        if not sys.platform.startswith("linux"):
            return Done(fault, False)
        if fault.target == "postgres":
            # one whose disk is full while it recovers from a crash stays in recovery for good, until it is started anew
            self._stack.query("SELECT 1")
        pids = self._stack.some(fault.target, fault.choice)
        try:
            for pid in pids:
                _limit(pid, FULL)
            time.sleep(fault.seconds)
        finally:
            for pid in pids:
                _limit(pid, psutil.RLIM_INFINITY)
            # and what was started meanwhile has it from its parent; looked for only now that no parent has it any more
            for pid in (pid for group in self._stack.groups(fault.target) for pid in group):
                _limit(pid, psutil.RLIM_INFINITY)
        return Done(fault, bool(pids))

    @contextlib.contextmanager
    def _results_away(self) -> Iterator[None]:
        """A file stands where the folder was: nothing can be read there, or written."""
        folder = self._stack.layout.results
        aside = folder.with_name("results.aside")
        with self._held["results"]:
            folder.rename(aside)
            folder.touch()
            try:
                yield
            finally:
                folder.unlink()
                aside.rename(folder)

    def _restart(self, fault: Fault) -> Done:
        start = time.monotonic()
        if fault.target == "crash":
            self._stack.crash()
        else:
            self._stack.down()
        self._stack.up()
        return Done(fault, True, time.monotonic() - start)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _limit(pid: int, limit: int) -> None:
    """How large a file the process may write."""
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process = psutil.Process(pid)
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        # infinity is less than any number here
        is_allowed = hard == psutil.RLIM_INFINITY or psutil.RLIM_INFINITY != limit <= hard
        process.rlimit(psutil.RLIMIT_FSIZE, (limit if is_allowed else hard, hard))
