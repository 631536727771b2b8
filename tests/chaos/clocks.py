"""Clocks that differ from one function to another, by Debian's libfaketime."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "faketime"
PLACES = (UNPACKED, Path("/usr/lib"))
# seconds that the second instance of each function is ahead, and the third behind
SKEW = 2.5
OFFSETS = {2: SKEW, 3: -SKEW}


def library() -> Path | None:
    """Where the library is; fetched and unpacked into `build` if this is a Debian, None if it cannot be had."""
    found = _find()
    if found is None and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _fetch()
        found = _find()
    return found


def environment(library: Path, seconds: float) -> dict[str, str]:
    """For a process whose clock is so many seconds ahead. How fast time passes stays as it is."""
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{seconds:+g}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def skew(part: str) -> float:
    """Seconds that the clock of `worker.2` and its like is ahead; all other parts have the machine's."""
    name, _, number = part.partition(".")
    return OFFSETS.get(int(number), 0.0) if number and name not in ("postgres", "nats") else 0.0


def _find() -> Path | None:
    return next((path for place in PLACES for path in sorted(place.glob("**/faketime/libfaketimeMT.so.1"))), None)


def _fetch() -> None:
    with tempfile.TemporaryDirectory(prefix="faketime-") as folder:
        done = subprocess.run(["apt-get", "download", "libfaketime"], cwd=folder, capture_output=True, check=False)
        # dpkg-deb makes no parents
        UNPACKED.mkdir(parents=True, exist_ok=True)
        for package in Path(folder).glob("*.deb"):
            if done.returncode == 0:
                subprocess.run(["dpkg-deb", "-x", str(package), str(UNPACKED)], check=True)
