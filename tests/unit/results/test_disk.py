"""Files of results: durable, whole, and refused where the system refuses them."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.errors import AccessDenied
from noetl_serverless.results import disk
from noetl_serverless.results.disk import Folder
from noetl_serverless.results.store import FsspecResultStore

SIZE = 3 * disk.PART_BYTES + 5
CONTENT = os.urandom(SIZE)


@pytest.fixture
def store(tmp_path: Path) -> FsspecResultStore:
    return FsspecResultStore(f"file://{tmp_path}/results")


@pytest.fixture
def source() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        yield file.fileno()


# in a process that is killed after the second part
WRITER = """
import os, sys, time
from noetl_serverless.results import disk
copy_part = disk._copy_part
def slowly(ways, source, target, offset, length):
    if offset >= 2 * disk.PART_BYTES:
        print("half", flush=True)
        time.sleep(60)
    return copy_part(ways, source, target, offset, length)
disk._copy_part = slowly
disk.Folder(sys.argv[1]).put_file("1/a/k", os.open(sys.argv[2], os.O_RDONLY), int(sys.argv[3]))
"""


def killed_writer(folder: Path) -> None:
    (folder / "source").write_bytes(CONTENT)
    argv = [sys.executable, "-c", WRITER, str(folder / "results"), str(folder / "source"), str(SIZE)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"half\n"
        writer.kill()


async def test_a_write_that_was_killed_leaves_a_file_that_is_listed_and_deleted(
    store: FsspecResultStore, tmp_path: Path
) -> None:
    await asyncio.to_thread(killed_writer, tmp_path)
    [left] = [key async for key in store.list("")]
    assert left.startswith("1/a/k.") and left.endswith(".tmp")
    with pytest.raises(KeyError):
        await store.get("1/a/k")
    await store.delete(left)
    assert [key async for key in store.list("")] == []
    assert list((tmp_path / "results").iterdir()) == []


class Calls:
    """What is flushed, and what is renamed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.made: list[str] = []
        fsync, replace = os.fsync, os.replace

        def flushed(file: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{file}"))
            name = path.relative_to(root).as_posix()
            self.made.append(f"flush {name.partition('.')[0] if path.is_file() else name}")
            fsync(file)

        def renamed(old: str, new: str) -> None:
            self.made.append(f"rename {Path(new).relative_to(root)}")
            replace(old, new)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(os, "replace", renamed)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_write_survives_a_power_cut_with_the_folders_that_are_new(
    store: FsspecResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: int
) -> None:
    calls = Calls(monkeypatch, tmp_path)
    await store.put("1/a/k", b"x")
    new = ["flush results/1/a", "flush results/1", "flush results", "flush ."]
    assert calls.made == ["flush results/1/a/k", "rename results/1/a/k", *new]
    calls.made.clear()
    await store.put_file("1/a/j", source, SIZE)
    assert calls.made == ["flush results/1/a/j", "rename results/1/a/j", "flush results/1/a"]
    calls.made.clear()
    await store.put("1/b/k", b"x")
    assert calls.made == ["flush results/1/b/k", "rename results/1/b/k", "flush results/1/b", "flush results/1"]
    # a folder that went with its last object is new again
    await store.delete("1/b/k")
    calls.made.clear()
    await store.put("1/b/k", b"x")
    assert calls.made[2:] == ["flush results/1/b", "flush results/1"]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_where_the_kernel_does_not_copy_it_is_copied_in_memory(
    store: FsspecResultStore, source: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    tried: list[str] = []

    def refuse(name: str) -> Any:
        def call(*args: Any) -> int:
            tried.append(name)
            raise OSError(code, os.strerror(code))

        return call

    for name in ("copy_file_range", "sendfile"):
        monkeypatch.setattr(os, name, refuse(name), raising=False)
    monkeypatch.setattr(disk, "_WAYS", (disk._in_file_system, disk._in_kernel, disk._in_memory))
    await store.put_file("1/a/k", source, SIZE)
    assert tried == ["copy_file_range", "sendfile"]
    assert await store.get("1/a/k") == CONTENT


async def test_a_device_that_is_full_is_no_other_way_to_copy(
    store: FsspecResultStore, source: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "_WAYS", (full, disk._in_memory))
    with pytest.raises(OSError, match="No space left"):
        await store.put_file("1/a/k", source, SIZE)
    assert [key async for key in store.list("")] == []


async def test_a_read_that_nobody_waits_for_any_more_writes_to_no_other_file(
    store: FsspecResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def wait(folder: Folder, key: str, target: int) -> int:
        begun.set()
        go_on.wait(10)
        os.pwrite(target, b"of the read", 0)
        ended.set()
        return 11

    monkeypatch.setattr(Folder, "get_file", wait)
    mine = os.open(tmp_path / "mine", os.O_RDWR | os.O_CREAT)
    reading = asyncio.ensure_future(store.get_file("7/a/1", mine))
    await asyncio.to_thread(begun.wait, 10)
    reading.cancel()
    await asyncio.wait([reading])
    os.close(mine)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == mine, "the number is not used again, so that this test shows nothing"
    go_on.set()
    await asyncio.to_thread(ended.wait, 10)
    assert (tmp_path / "other").read_bytes() == b"", "another file was written to"
    os.close(other)


async def test_a_file_that_is_too_short_is_not_stored(store: FsspecResultStore) -> None:
    with tempfile.TemporaryFile() as file:
        for size in (SIZE, 2 * SIZE):
            file.truncate(100)
            with pytest.raises(EOFError, match=f"100 of {size}"):
                await store.put_file("1/a/k", file.fileno(), size)
    assert [key async for key in store.list("")] == []


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[None]:
    """In a folder of root's, as someone else."""
    folder = tmp_path / "results"
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
        return
    mode = folder.stat().st_mode
    folder.chmod(0)
    yield
    folder.chmod(mode)


@pytest.fixture
async def filled(store: FsspecResultStore, tmp_path: Path) -> FsspecResultStore:
    await store.put("1/a/k", b"x")
    (tmp_path / "results").chmod(0o700)
    return store


async def test_what_the_system_refuses_is_not_missing(filled: FsspecResultStore, source: int, nobody: None) -> None:
    with tempfile.TemporaryFile() as target:
        calls = (
            *(filled.get("1/a/k"), filled.get("1/a/none"), filled.get_range("1/a/k", 0, 1)),
            *(filled.get_file("1/a/k", target.fileno()), filled.put("1/a/j", b"x"), filled.put("2/a/j", b"x")),
            *(filled.put_file("1/a/j", source, SIZE), filled.delete("1/a/k")),
        )
        for call in calls:
            with pytest.raises(AccessDenied, match="Permission denied"):
                await call
    with pytest.raises(AccessDenied):
        [key async for key in filled.list("1/")]


async def test_a_file_system_that_is_mounted_to_be_read_refuses(
    store: FsspecResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: Any, **more: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    await store.put("1/a/k", b"x")
    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(AccessDenied, match="Read-only"):
        await store.put("1/a/j", b"x")
    assert await store.get("1/a/k") == b"x"


async def test_a_write_that_fails_leaves_no_folder(
    store: FsspecResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("1/a/before", b"x")

    def fail(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "_flush", fail)
    for key in ("1/b/k", "2/b/k"):
        with pytest.raises(OSError, match="No space"):
            await store.put(key, b"x")
    names = sorted(str(path.relative_to(tmp_path / "results")) for path in (tmp_path / "results").rglob("*"))
    assert names == ["1", "1/a", "1/a/before"]
