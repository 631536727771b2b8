from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.results.shared_memory import NotShared, SharedMemory, shared_memory_of
from noetl_serverless.tables.mapped import MappedFile

DIGEST = "d" * 64


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(tmp_path: Path, clock: Clock) -> Iterator[SharedMemory]:
    memory = SharedMemory(tmp_path, 1_000, now=clock)
    yield memory
    memory.close()


def admit(memory: SharedMemory, content: bytes, digest: str = DIGEST) -> dict[str, Any] | None:
    descriptor = memory.open(len(content))
    if descriptor is None:
        return None
    os.write(descriptor, content)
    file = MappedFile(descriptor, len(content))
    return memory.admit(file, digest, rows=3, schema_digest="s", media_type="x/y", producer="w-1")


def reason(memory: SharedMemory, hint: dict[str, Any] | None, digest: str = DIGEST, size: int = 5) -> str:
    with pytest.raises(NotShared) as raised:
        memory.read(hint, digest, size)
    assert memory.counts[raised.value.reason] > 0
    return raised.value.reason


def test_what_is_admitted_is_read_without_a_copy(memory: SharedMemory) -> None:
    hint = admit(memory, b"hello")
    assert hint is not None
    assert hint == {
        "kind": "arrow_ipc",
        "shm_name": hint["shm_name"],
        "sha256": DIGEST,
        "schema_digest": "s",
        "byte_length": 5,
        "row_count": 3,
        "producer": "w-1",
        "node_id": memory.node,
        "lease_expires_at": "1970-01-12T13:47:40.000Z",
        "media_type": "x/y",
    }
    assert bytes(memory.read(hint, DIGEST, 5).view) == b"hello"
    assert dict(memory.counts) == {"admitted": 1, "read": 1}


def test_another_process_of_the_container_reads_it(memory: SharedMemory, tmp_path: Path, clock: Clock) -> None:
    hint = admit(memory, b"hello")
    other = SharedMemory(tmp_path, 1_000, now=clock)
    try:
        assert hint is not None
        assert other.node == memory.node
        file = other.read(hint, DIGEST, 5)
        assert bytes(file.view) == b"hello"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(file.fileno(), b"x")
        for name in ("../" + hint["shm_name"], "/etc/passwd", hint["shm_name"] + "/..", "ipc-x/" + "0" * 32):
            assert reason(other, {**hint, "shm_name": name}) == "missing"
        (tmp_path / hint["shm_name"]).unlink()
        (tmp_path / hint["shm_name"]).symlink_to("/etc/passwd")
        assert reason(other, hint) == "missing"
    finally:
        other.close()


def test_each_hint_that_does_not_fit_says_why(memory: SharedMemory, clock: Clock, tmp_path: Path) -> None:
    hint = admit(memory, b"hello")
    assert hint is not None
    assert reason(memory, None) == "no_hint"
    assert reason(memory, {**hint, "node_id": "other"}) == "node"
    assert reason(memory, hint, digest="e" * 64) == "digest"
    assert reason(memory, hint, size=6) == "length"
    os.chmod(tmp_path / hint["shm_name"], 0o600)
    os.truncate(tmp_path / hint["shm_name"], 4)
    assert reason(memory, hint) == "length", "a reader of a map that is cut is killed"
    clock.now += 61
    assert reason(memory, hint) == "expired"
    clock.now -= 61
    memory.evict(hint["shm_name"])
    assert reason(memory, hint) == "missing"
    assert not list(tmp_path.glob("*/" + hint["shm_name"].partition("/")[2]))


@pytest.mark.parametrize(
    "hint", [{}, {"node_id": None}, {"lease_expires_at": "soon"}, {"lease_expires_at": None, "shm_name": 7}]
)
def test_a_hint_from_anybody_harms_nobody(memory: SharedMemory, hint: dict[str, Any]) -> None:
    assert reason(memory, {"node_id": memory.node, "byte_length": 5, "sha256": DIGEST, **hint}) in ("node", "expired")


def test_a_lease_keeps_a_segment_and_a_read_extends_it(memory: SharedMemory, clock: Clock) -> None:
    first = admit(memory, b"x" * 600)
    assert first is not None
    assert admit(memory, b"y" * 600) is None, "a leased segment was evicted"
    clock.now += 50
    memory.read(first, DIGEST, 600)
    clock.now += 50
    assert admit(memory, b"y" * 600) is None, "reading did not extend the lease"
    assert memory.evict_expired() == 10
    clock.now += 11
    assert admit(memory, b"y" * 600) is not None
    assert memory.counts["evicted"] == 1
    assert reason(memory, first, size=600) == "expired"
    assert memory.evict_expired() == 60


def test_what_somebody_has_mapped_counts_until_he_ends(memory: SharedMemory, clock: Clock) -> None:
    hint = admit(memory, b"x" * 600)
    assert hint is not None
    file = memory.read(hint, DIGEST, 600)
    clock.now += 61
    assert memory.evict_expired() is None
    assert bytes(file.view) == b"x" * 600, "evicting took it away from its reader"
    assert memory.open(600) is None
    del file
    gc.collect()
    assert admit(memory, b"y" * 600) is not None


def test_the_least_recently_read_is_evicted_first(memory: SharedMemory, clock: Clock) -> None:
    hints = [admit(memory, bytes([n]) * 300) for n in range(3)]
    memory.read(hints[0], DIGEST, 300)
    clock.now += 61
    assert admit(memory, b"z" * 300) is not None
    remaining = list(memory._segments)
    assert remaining[:2] == [hints[2]["shm_name"], hints[0]["shm_name"]]  # type: ignore[index]


def test_what_is_larger_than_the_budget_gets_no_file(memory: SharedMemory) -> None:
    assert memory.open(1_001) is None
    assert memory.open(1_000) is not None


def test_a_file_from_elsewhere_is_not_admitted(memory: SharedMemory) -> None:
    descriptor = os.memfd_create("x")
    os.write(descriptor, b"hello")
    file = MappedFile(descriptor, 5)
    assert memory.admit(file, DIGEST, rows=1, schema_digest="", media_type="", producer="") is None
    assert memory.counts["rejected"] == 1


def test_a_killed_process_leaves_nothing_for_good(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib, time\n"
        "from noetl_serverless.results.shared_memory import SharedMemory\n"
        "from noetl_serverless.tables.mapped import MappedFile\n"
        f"memory = SharedMemory(pathlib.Path({str(tmp_path)!r}), 1000)\n"
        "file = memory.open(5); os.write(file, b'hello')\n"
        "memory.admit(MappedFile(file, 5), 'd', rows=1, schema_digest='', media_type='', producer='')\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.glob("ipc-*/*"))) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    SharedMemory(tmp_path, 1_000).close()
    assert list(tmp_path.glob("ipc-*")) == []


def test_it_is_in_dev_shm_where_that_can_be_used_and_else_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "noetl_serverless.results.shared_memory"
    assert shared_memory_of.__wrapped__(tmp_path, 0) is None
    for place, kind in ((tmp_path / "shm", "memory"), (Path("/nowhere/shm"), "file")):
        if kind == "memory":
            place.mkdir()
        monkeypatch.setattr(f"{module}._SHARED_MEMORY", place)
        memory = shared_memory_of.__wrapped__(tmp_path / "scratch" if kind == "memory" else tmp_path, 7)
        assert memory is not None
        assert (memory.kind, memory.budget, dict(memory.counts)) == (kind, 7 * 1024 * 1024, {})
        memory.close()
    monkeypatch.setattr(f"{module}._SHARED_MEMORY", Path("/nowhere/shm"))
    assert shared_memory_of.__wrapped__(Path("/nowhere/scratch"), -1) is None


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.results.shared_memory._SHARED_MEMORY", tmp_path)
    (tmp_path / f"noetls-{os.geteuid()}").mkdir(mode=0o700)
    os.chmod(tmp_path / f"noetls-{os.geteuid()}", 0o777)
    assert shared_memory_of.__wrapped__(Path("/nowhere/scratch"), -1) is None


def test_without_a_setting_it_is_a_quarter_of_the_file_system_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.results.shared_memory._SHARED_MEMORY", tmp_path)

    def small(path: object) -> Any:
        class Found:
            f_frsize, f_blocks = 4096, 16_384

        return Found()

    monkeypatch.setattr(os, "statvfs", small)
    memory = shared_memory_of.__wrapped__(tmp_path, -1)
    assert memory is not None
    assert memory.budget == 16 * 1024 * 1024
    memory.close()
