"""A folder that lives as long as its process; the next process removes what a killed one has left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = "held"


class ScratchFolder:
    """`<scratch>/<kind>-<random>`, this process's own.

    A file lock marks it as in use. The kernel releases the lock however the process ends; a pid would not do, because
    it may belong to another process by then.
    """

    def __init__(self, scratch: Path, kind: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        sweep(scratch, kind)
        self.path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=scratch))
        # locked before it becomes visible, because `sweep` removes a folder whose file is not locked
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
            descriptor = os.open(lock, os.O_RDONLY)
        except OSError:
            # another process was faster
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
