from __future__ import annotations

import gc
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
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
        clock.now += 50
        file = other.read(hint, DIGEST, 5)
        assert bytes(file.view) == b"hello"
        assert memory.evict_expired() == 60, "the lease was not extended"
        with pytest.raises(OSError, match=r"Operation not permitted|Bad file descriptor"):
            os.pwrite(file.fileno(), b"x", 0)
        process, _, number = hint["shm_name"].partition("/")
        for name in (f"../{number}", "/etc/passwd", f"{process}/..", f"{process}/{'0' * 32}", f"{'0' * 16}/{number}"):
            assert reason(other, {**hint, "shm_name": name}) == "missing", name
    finally:
        other.close()
    assert list(tmp_path.iterdir()) == [tmp_path / process], "a socket was left behind"


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, time\n"
        "from noetl_serverless.results.shared_memory import SharedMemory\n"
        "from noetl_serverless.tables.mapped import MappedFile\n"
        f"memory = SharedMemory(pathlib.Path({str(tmp_path)!r}), 1000)\n"
        "file = memory.open(5); os.write(file, b'hello')\n"
        "memory.admit(MappedFile(file, 5), 'd', rows=1, schema_digest='', media_type='', producer='')\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (left,) = tmp_path.iterdir()
        first = SharedMemory(tmp_path, 1_000)
        assert admit(first, b"hello") is not None
        assert left.exists(), "the socket of a process that runs was removed"
        process.kill()
        process.wait()
        second = SharedMemory(tmp_path, 1_000)
        assert admit(second, b"hello") is not None
        assert not left.exists()
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_forked_shares_its_own(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may load a function, try it, and fork."""
    first = admit(memory, b"hello")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    second = admit(memory, b"hello")
    assert first is not None
    assert second is not None
    names = {hint["shm_name"].partition("/")[0] for hint in (first, second)}
    assert len(names) == 2, "the other process would be asked for it"


def test_one_that_is_busy_or_gone_is_not_waited_for(memory: SharedMemory, tmp_path: Path, clock: Clock) -> None:
    hint = admit(memory, b"hello")
    assert hint is not None
    other = SharedMemory(tmp_path, 1_000, now=clock)
    try:
        with memory._lock:
            started = time.monotonic()
            assert reason(other, hint) == "missing"
            assert time.monotonic() - started < 5
        assert bytes(other.read(hint, DIGEST, 5).view) == b"hello"
        memory.close()
        assert reason(other, hint) == "missing"
    finally:
        other.close()


def test_what_anybody_else_listens_with_is_not_trusted(memory: SharedMemory, tmp_path: Path) -> None:
    """A descriptor of a file that can still be changed, or none."""
    path, number = tmp_path / ("a" * 16), "b" * 32
    until = {"node_id": memory.node, "byte_length": 5, "sha256": DIGEST, "lease_expires_at": "2100-01-01T00:00:00Z"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, tempfile.TemporaryFile() as file:
        file.write(b"hello")
        file.flush()
        listening.bind(str(path))
        listening.listen()
        for descriptors in ([file.fileno()], []):
            answering = threading.Thread(target=lambda given=descriptors: answer(listening, given))
            answering.start()
            assert reason(memory, {**until, "shm_name": f"{path.name}/{number}"}) == "missing"
            answering.join()


def answer(listening: socket.socket, descriptors: list[int]) -> None:
    client, _ = listening.accept()
    with client:
        client.recv(100)
        if descriptors:
            socket.send_fds(client, [b"x"], descriptors)


def test_each_hint_that_does_not_fit_says_why(memory: SharedMemory, clock: Clock) -> None:
    hint = admit(memory, b"hello")
    assert hint is not None
    assert reason(memory, None) == "no_hint"
    assert reason(memory, {**hint, "node_id": "other"}) == "node"
    assert reason(memory, hint, digest="e" * 64) == "digest"
    assert reason(memory, hint, size=6) == "length"
    assert reason(memory, {**hint, "byte_length": 4}, size=4) == "length", "a reader of a map that is cut is killed"
    clock.now += 61
    assert reason(memory, hint) == "expired"
    clock.now -= 61
    memory.evict(hint["shm_name"])
    assert reason(memory, hint) == "missing"


def test_nobody_can_change_what_is_admitted(memory: SharedMemory) -> None:
    hint = admit(memory, b"hello")
    assert hint is not None
    descriptor = os.dup(memory.read(hint, DIGEST, 5).fileno())
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    for change in (
        lambda: os.pwrite(descriptor, b"j", 0),
        lambda: os.truncate(f"/proc/self/fd/{again}", 2),
        lambda: mmap.mmap(descriptor, 5),
        lambda: os.posix_fallocate(descriptor, 0, 100),
    ):
        with pytest.raises((PermissionError, OSError)):
            change()
    assert bytes(memory.read(hint, DIGEST, 5).view) == b"hello"


def test_a_file_that_somebody_can_still_change_is_not_admitted(memory: SharedMemory) -> None:
    descriptor = memory.open(5)
    assert descriptor is not None
    os.write(descriptor, b"hello")
    writable = mmap.mmap(descriptor, 5)
    assert memory.admit(MappedFile(descriptor, 5), DIGEST, rows=1, schema_digest="", media_type="", producer="") is None
    writable[0] = 0
    assert memory.counts["rejected"] == 1


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


def test_a_file_counts_from_when_it_is_opened(memory: SharedMemory) -> None:
    first = memory.open(600)
    assert first is not None
    assert memory.open(600) is None, "the room of a file that is being written was given again"
    os.close(first)
    second = memory.open(600)
    assert second is not None, "the room of a file that was closed is not given again"
    os.close(second)


def test_what_is_closed_and_was_not_admitted_is_given_back_with_what_has_expired(memory: SharedMemory) -> None:
    descriptor = memory.open(600)
    assert descriptor is not None
    assert memory.evict_expired() == memory.lease_seconds, "nobody looks at it again"
    os.close(descriptor)
    assert memory.evict_expired() is None
    assert memory._used == 0


def test_a_file_that_is_only_mapped_counts_still(memory: SharedMemory) -> None:
    descriptor = memory.open(600)
    assert descriptor is not None
    os.write(descriptor, b"x" * 600)
    mapped = mmap.mmap(descriptor, 600)
    os.close(descriptor)
    assert memory.open(600) is None
    mapped.close()
    assert admit(memory, b"y" * 600) is not None


def test_a_file_grows_as_far_as_there_is_room(memory: SharedMemory) -> None:
    first, second = memory.open(100), memory.open(300)
    assert first is not None
    assert second is not None
    assert memory.extend(first, 700)
    assert memory.extend(first, 650), "it has room for more than that"
    assert not memory.extend(first, 701)
    assert not memory.extend(second, 301)
    with tempfile.TemporaryFile() as other:
        assert memory.extend(other.fileno(), 1 << 40), "a file on disk does not count"
    os.close(second)
    assert memory.extend(first, 1_000)
    os.write(first, b"x" * 10)
    hint = memory.admit(MappedFile(first, 10), DIGEST, rows=1, schema_digest="", media_type="", producer="")
    assert hint is not None
    assert memory.open(990) is not None, "what was reserved and not used is not given back"


def test_a_file_that_was_taken_for_closed_counts_again(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = memory.open(600)
    assert descriptor is not None
    with monkeypatch.context() as patched:
        patched.setattr("noetl_serverless.results.shared_memory._held_files", set)
        assert memory.open(900) is not None
    assert not memory.extend(descriptor, 700), "it grows although there is no room"


def test_two_processes_that_read_each_others_segments_do_not_wait_for_each_other(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = admit(memory, b"hello")
    assert hint is not None
    answered: list[bool] = []

    def requested(path: Path, name: str) -> int | None:
        # the other process asks this one before it answers
        asking = threading.Thread(target=lambda: memory._descriptor_of(hint["shm_name"]), daemon=True)
        asking.start()
        asking.join(5)
        answered.append(not asking.is_alive())
        return None

    monkeypatch.setattr("noetl_serverless.results.shared_memory.requested_segment", requested)
    elsewhere = {**hint, "shm_name": f"{'0' * 16}/{'0' * 32}"}
    assert memory.is_elsewhere(elsewhere)
    assert not memory.is_elsewhere(hint)
    assert reason(memory, elsewhere) == "missing"
    assert answered == [True], "the lock is held while another process is asked"


def test_a_file_on_a_disk_is_not_admitted(memory: SharedMemory) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"hello")
        file.flush()
        given = MappedFile(os.dup(file.fileno()), 5)
        assert memory.admit(given, DIGEST, rows=1, schema_digest="", media_type="", producer="") is None
    assert memory.counts["rejected"] == 1


def test_it_is_off_where_files_cannot_be_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shared_memory_of.__wrapped__
    assert made(tmp_path, 0) is None
    memory = made(tmp_path, 7)
    assert memory is not None
    assert (memory.budget, dict(memory.counts)) == (7 * 1024 * 1024, {})
    memory.close()
    monkeypatch.setattr("noetl_serverless.results.shared_memory.seal", lambda descriptor: False)
    assert made(tmp_path, 7) is None
    assert made(Path("/proc/nowhere"), 7) is None


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / f"noetls-ipc-{os.geteuid()}"
    root.mkdir(mode=0o700)
    os.chmod(root, 0o777)
    assert shared_memory_of.__wrapped__(tmp_path, -1) is None


@pytest.mark.parametrize(("limit", "budget"), [(64 << 20, 16 << 20), (100 << 30, 256 << 20)])
def test_without_a_setting_it_is_a_quarter_of_the_memory_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, budget: int
) -> None:
    monkeypatch.setattr("noetl_serverless.results.shared_memory._memory_limit", lambda: limit)
    memory = shared_memory_of.__wrapped__(tmp_path, -1)
    assert memory is not None
    assert memory.budget == budget
    memory.close()
