"""What can still be done to a file that another process has written, once it is sealed."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import for_reading, memory_file, seal, sealed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux seals files")

CONTENT = b"content" * 1000
Open = Callable[[int], int]


def temporary(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def written(open_file: Open) -> int:
    descriptor = open_file(0)
    os.write(descriptor, CONTENT)
    return descriptor


def inode(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before, "a descriptor was left open, or one too many was closed"


@pytest.fixture(params=[memory_file, temporary], ids=["memory", "disk"])
def open_file(request: pytest.FixtureRequest) -> Open:
    kind: Open = request.param
    return kind


def is_content(descriptor: int) -> bool:
    return os.pread(descriptor, len(CONTENT) + 1, 0) == CONTENT


def test_what_nobody_writes_to_is_not_copied_and_can_only_be_read(open_file: Open) -> None:
    descriptor = written(open_file)
    before = inode(descriptor)
    found = sealed(descriptor, len(CONTENT), open_file)
    assert (inode(found), is_content(found)) == (before, True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(found, b"x")
    with pytest.raises(OSError, match="Invalid argument"):
        os.ftruncate(found, 0)
    with pytest.raises(PermissionError):
        mmap.mmap(found, len(CONTENT))
    os.close(found)


def test_a_file_in_memory_cannot_be_changed_by_whoever_still_has_it_open() -> None:
    descriptor = written(memory_file)
    kept = os.dup(descriptor)
    found = sealed(descriptor, len(CONTENT))
    # as root may
    again = os.open(f"/proc/self/fd/{found}", os.O_RDWR)
    for writable in (kept, again):
        with pytest.raises(PermissionError):
            os.pwrite(writable, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(writable, 0)
        with pytest.raises(PermissionError):
            mmap.mmap(writable, len(CONTENT))
    assert inode(found) == inode(kept)
    for opened in (kept, again, found):
        os.close(opened)


def test_what_somebody_has_mapped_for_writing_is_copied(open_file: Open) -> None:
    descriptor = written(open_file)
    before = inode(descriptor)
    with mmap.mmap(descriptor, len(CONTENT)) as shared:
        found = sealed(descriptor, len(CONTENT), open_file)
        assert inode(found) != before
        shared[0:1] = b"x"
        assert is_content(found), "who had the file mapped has changed what is read"
    os.close(found)


def test_a_file_on_disk_that_somebody_has_open_for_writing_is_copied() -> None:
    descriptor = written(temporary)
    kept = os.dup(descriptor)
    found = sealed(descriptor, len(CONTENT), temporary)
    os.ftruncate(kept, 0)
    assert is_content(found), "who had the file open has cut off what is read"
    os.close(kept)
    os.close(found)


def test_one_that_is_open_only_for_reading_is_no_writer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    with (tmp_path / "file").open("rb") as reading:
        found = sealed(os.open(tmp_path / "file", os.O_RDWR), len(CONTENT), temporary)
        assert inode(found) == inode(reading.fileno())
        os.close(found)


@pytest.mark.parametrize("size", [0, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_file_of_another_size_is_refused(open_file: Open, size: int) -> None:
    with pytest.raises(ValueError, match=f"a file of {size} bytes was announced, and it has {len(CONTENT)}"):
        sealed(written(open_file), size, open_file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe, end = os.pipe()
    os.close(end)
    for descriptor in (pipe, os.open(tmp_path, os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)):
        with pytest.raises(ValueError, match="announced"):
            sealed(descriptor, os.fstat(descriptor).st_size)


def test_a_copy_for_which_there_is_no_room_fails(open_file: Open) -> None:
    def full(size: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    descriptor = written(open_file)
    with mmap.mmap(descriptor, len(CONTENT)), pytest.raises(OSError, match="No space left"):
        sealed(descriptor, len(CONTENT), full)


def test_another_process_gets_what_it_can_only_read(open_file: Open) -> None:
    file = MappedFile(written(open_file), len(CONTENT))
    descriptor = for_reading(file)
    assert (inode(descriptor), is_content(descriptor)) == (inode(file.fileno()), True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    os.close(descriptor)


def test_another_process_gets_a_copy_of_what_cannot_be_sealed_any_more() -> None:
    file = MappedFile(written(memory_file), len(CONTENT))
    with mmap.mmap(file.fileno(), len(CONTENT)):
        descriptor = for_reading(file)
        assert (inode(descriptor) != inode(file.fileno()), is_content(descriptor)) == (True, True)
        # and it can be sealed only if it can never be written to
        assert seal(descriptor)
    os.close(descriptor)
