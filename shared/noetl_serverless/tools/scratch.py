"""A folder for as long as a process lives: what one that was killed has left, the next one removes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = "held"


class ScratchFolder:
    """`<scratch>/<kind>-<random>`, this process's own.

    It is held by a lock, which the kernel gives back when the process ends in whatever way: a number of a process may
    belong to another by then.
    """

    def __init__(self, scratch: Path, kind: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        sweep(scratch, kind)
        self.path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=scratch))
        # locked before it can be seen: who sweeps takes what stands there unlocked for left behind
        self._lock, name = tempfile.mkstemp(prefix="lock-", dir=scratch)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(name, self.path / _LOCK)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *raised: object) -> None:
        self.remove()

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(scratch: Path, kind: str) -> None:
    """Remove the folders of the kind whose owners have ended."""
    for lock in scratch.glob(f"{kind}-*/{_LOCK}"):
        try:
            held = os.open(lock, os.O_RDONLY)
        except OSError:
            # another is quicker
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(held)
