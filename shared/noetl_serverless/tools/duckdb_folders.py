"""The folders in which duckdb keeps the files of executions, below a folder of this process."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..scratch import ScratchFolder

# seconds that an execution's files outlive their last use
KEPT_SECONDS = 3600.0
# limit on the bytes of all kept folders, not counting those in use
KEPT_BYTES = 1024 * 1024 * 1024


class Folders:
    """Thread-safe. `clock`: as time.time()."""

    def __init__(self, scratch: Path, clock: Callable[[], float] = time.time, max_bytes: int = KEPT_BYTES) -> None:
        """Creates no folder yet. `max_bytes`: see KEPT_BYTES."""
        self._scratch = scratch
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._scratch_folder: ScratchFolder | None = None
        self._used: Counter[str] = Counter()
        # by execution, least recently used first: since when it is unused, and its size in bytes then
        self._unused: dict[str, tuple[float, int]] = {}

    @contextmanager
    def in_use(self, execution_id: str) -> Iterator[Path]:
        """The execution's folder, which is not removed while it is in use."""
        name = PurePosixPath(execution_id).name
        with self._lock:
            self._scratch_folder = self._scratch_folder or ScratchFolder(self._scratch, "duckdb")
            folder = self._scratch_folder.path / name
            self._used[name] += 1
            self._unused.pop(name, None)
            self._sweep(self._scratch_folder.path)
            folder.mkdir(mode=0o700, exist_ok=True)
        try:
            yield folder
        finally:
            with self._lock:
                self._used[name] -= 1
                if not self._used[name]:
                    del self._used[name]
                    self._unused[name] = (self._clock(), _bytes(folder))
                    self._sweep(folder.parent)

    def remove(self) -> None:
        with self._lock:
            if self._scratch_folder is not None:
                self._scratch_folder.remove()
            self._scratch_folder = None
            self._unused.clear()

    def _sweep(self, scratch: Path) -> None:
        """Remove folders that have not been used for an hour, and the least recently used of the others while all
        together are too large."""
        total = sum(size for _, size in self._unused.values())
        for name, (unused_since, size) in list(self._unused.items()):
            if self._clock() - unused_since <= KEPT_SECONDS and total <= self._max_bytes:
                break
            shutil.rmtree(scratch / name, ignore_errors=True)
            del self._unused[name]
            total -= size


def _bytes(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total
