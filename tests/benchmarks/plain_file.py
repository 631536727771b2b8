"""A file that is written and read without anything else: what storing a result in a folder cannot beat."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path


def seconds_to_write(path: Path, chunks: Iterable[bytes]) -> float:
    """Until they are on the disk."""
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for chunk in chunks:
            file.write(chunk)
        os.fsync(file.fileno())
    return time.perf_counter() - started


def seconds_to_read(path: Path) -> float:
    """All of it into memory, out of the cache of the system, as whoever reads what has just been written."""
    started = time.perf_counter()
    path.read_bytes()
    return time.perf_counter() - started
