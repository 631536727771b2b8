from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.results.test_shared_memory import Clock

from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.reference import Meta, ResultRef
from noetl_serverless.results.shared_memory import SharedMemory
from noetl_serverless.tables.mapped import MappedFile


def share(files: ResultFiles, content: bytes) -> None:
    descriptor = files.open(len(content))
    os.write(descriptor, content)
    meta = Meta(bytes=len(content), sha256="d" * 64, created_at="2026-01-01T00:00:00Z")
    reference = ResultRef(ref="noetl://execution/7/result/a/1", store="disk", key="7/a/1", meta=meta)
    assert files.share(MappedFile(descriptor, len(content)), reference) is not None


async def test_each_table_is_evicted_when_its_own_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, timers = Clock(), list[tuple[float, Callable[[], None]]]()

    def call_later(delay: float, callback: Callable[[], None], *_: Any) -> object:
        timers.append((delay, callback))
        return object()

    memory = SharedMemory(tmp_path, 1_000, lease_seconds=60.0, now=clock)
    files = ResultFiles(tmp_path, memory)
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    share(files, b"first")
    clock.now += 45
    share(files, b"second")
    clock.now += 15
    ((delay, evict),) = timers
    assert delay == 60
    evict()
    assert memory.counts["evicted"] == 1
    delay, evict = timers[-1]
    assert (len(timers), delay) == (2, 45), "the second waits for another lease"
    clock.now += 45
    evict()
    assert (memory.counts["evicted"], len(timers)) == (2, 2), "it looks again although nothing is left"
    memory.close()


def test_what_has_no_more_room_in_memory_goes_on_on_disk(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path, 1_000)
    files = ResultFiles(tmp_path, memory)
    descriptor = files.open(100)
    other = os.dup(descriptor)
    os.write(descriptor, b"a" * 400)
    assert not files.extend(descriptor, 1_000)
    assert os.fstat(descriptor).st_ino == os.fstat(other).st_ino
    assert files.extend(descriptor, 1_001)
    assert os.fstat(descriptor).st_ino != os.fstat(other).st_ino
    assert not files.extend(descriptor, 1 << 40), "there is no other place to go on"
    os.write(descriptor, b"b" * 700)
    assert os.pread(descriptor, 2_000, 0) == b"a" * 400 + b"b" * 700
    assert memory.open(1_000) is None, "somebody has the first file still"
    os.close(other)
    assert memory.open(1_000) is not None
    os.close(descriptor)
    memory.close()


def test_without_shared_memory_a_file_is_as_large_as_it_becomes(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path)
    descriptor = files.open(1)
    assert not files.extend(descriptor, 1 << 40)
    os.close(descriptor)
