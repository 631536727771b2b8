"""What the processes of a stack cost: CPU time and memory, by part."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PYTHON = "python"


@dataclass(slots=True)
class Snapshot:
    at: float
    # (pid, start) -> (part, CPU seconds)
    cpu: dict[tuple[int, float], tuple[str, float]]
    # part -> the most that one of its processes ever held, in MB
    peak_mb: dict[str, float]
    # busy CPU seconds of the machine, and those of this process
    machine: float
    own: float


@dataclass(slots=True)
class Usage:
    """Between two snapshots. `others` is how many cores the rest of the machine kept busy."""

    seconds: float
    cpu_ms: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    others: float = 0.0

    @property
    def total_ms(self) -> float:
        return sum(self.cpu_ms.values())

    def add(self, other: Usage) -> None:
        self.seconds += other.seconds
        for part, spent in other.cpu_ms.items():
            self.cpu_ms[part] = self.cpu_ms.get(part, 0.0) + spent
        for part, peak in other.peak_mb.items():
            self.peak_mb[part] = max(self.peak_mb.get(part, 0.0), peak)

    def per(self, count: int) -> dict[str, float]:
        """CPU ms of each part per one of `count`."""
        parts = {part: value / count for part, value in self.cpu_ms.items() if value / count >= 0.001}
        return {**parts, "all": self.total_ms / count}


class Meter:
    """`pids`: part -> pid, from run.json; `supervisor` is the pid of the stack itself."""

    def __init__(self, pids: Mapping[str, int], supervisor: int) -> None:
        self._roots = {**pids, "supervisor": supervisor}

    def read(self) -> Snapshot:
        cpu: dict[tuple[int, float], tuple[str, float]] = {}
        peaks: dict[str, float] = {}
        for part, process in self.processes():
            try:
                times = process.cpu_times()
                # Python children that have ended are counted where they were waited for
                ended = times.children_user + times.children_system if part == PYTHON else 0.0
                cpu[(process.pid, process.create_time())] = (part, times.user + times.system + ended)
                peaks[part] = max(peaks.get(part, 0.0), _peak_mb(process.pid))
            except (psutil.Error, OSError):
                continue
        return Snapshot(time.perf_counter(), cpu, peaks, _busy(), time.process_time())

    def since(self, before: Snapshot) -> Usage:
        now = self.read()
        usage = Usage(now.at - before.at, peak_mb=now.peak_mb)
        for key, (part, seconds) in now.cpu.items():
            spent = seconds - before.cpu.get(key, (part, 0.0))[1]
            usage.cpu_ms[part] = usage.cpu_ms.get(part, 0.0) + 1000 * spent
        ours = usage.total_ms / 1000 + now.own - before.own
        usage.others = max(0.0, (now.machine - before.machine - ours) / max(usage.seconds, 1e-9))
        return usage

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """Those of this moment, each with its part."""
        found: list[tuple[str, psutil.Process]] = []
        for part, pid in self._roots.items():
            try:
                root = psutil.Process(pid)
                children = [] if part == "supervisor" else root.children(recursive=True)
            except psutil.Error:
                continue
            found.append((part, root))
            found += [(PYTHON if _is_python_child(child) else part, child) for child in children]
        return found


def _is_python_child(process: psutil.Process) -> bool:
    try:
        return any("tools.python_zygote" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": os.uname().release,
        "load": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
