"""Results in a folder, one file per key."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

from ..errors import AccessDenied
from ..limits import MIB
from .walk import keys_below

# copied at a time: the device writes one part while the next is copied
PART_BYTES = 2 * MIB
# folders whose entries are known to be durable; more are looked at again
MAX_KNOWN_FOLDERS = 4096
# of a file system that has no such file, or cannot have one
_NOTHING = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# of a way of copying that these two files, or this system, do not have
_NO_WAY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSOCK, errno.EBADF)
# the flag of sync_file_range(2) that begins to write and does not wait
_SYNC_FILE_RANGE_WRITE = 2


class Folder:
    """A write is all or nothing, also after a power cut, and durable when it returns.

    Reading raises KeyError for what is not there; everything, AccessDenied for what the system refuses.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._was_there = False
        self._durable: set[str] = set()

    def put(self, key: str, data: bytes) -> None:
        with self._refused(key):
            self._replace(self._path(key), lambda file: write_at(file, data, 0, begin_writing=True))

    def put_file(self, key: str, source: int, size: int) -> None:
        """EOFError if the source has fewer bytes."""
        with self._refused(key):
            self._replace(self._path(key), lambda file: copy(source, file, size, begin_writing=True))

    def get(self, key: str) -> bytes:
        with self._errors_of(key), open(self._path(key), "rb", buffering=0) as file:
            return file.readall()

    def get_file(self, key: str, target: int) -> int:
        with self._errors_of(key), self._opened(key) as file:
            size = os.fstat(file).st_size
            copy(file, target, size)
        return size

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._errors_of(key), self._opened(key) as file:
            return os.pread(file, length, offset)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            with self._errors_of(key):
                os.unlink(path)
        except KeyError:
            return
        self._remove_empty(os.path.dirname(path))

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """In order, also those of writers that crashed."""
        with self._refused(prefix), suppress(FileNotFoundError):
            os.stat(self.root)
        if self._is_away():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.root)
        with self._refused(prefix):
            yield from keys_below(self.root, prefix, after)

    # -- errors

    @contextmanager
    def _refused(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            raise AccessDenied(f"the folder of results refuses {key!r}: {os.strerror(error.errno)}") from error

    @contextmanager
    def _errors_of(self, key: str) -> Iterator[None]:
        """Whether it is refused, or nothing is there, or the folder is away."""
        try:
            with self._refused(key):
                yield
        except OSError as error:
            if error.errno not in _NOTHING or self._is_away():
                raise
            raise KeyError(key) from None

    def _is_away(self) -> bool:
        """Whether the folder has gone, as that of a mount, so that nothing in it is known to be missing: it was there
        before, or something else stands in its place."""
        is_there = os.path.isdir(self.root)
        self._was_there |= is_there
        return not is_there and (self._was_there or os.path.lexists(self.root))

    # -- files

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        file = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(file).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            yield file
        finally:
            os.close(file)

    def _replace(self, path: str, write: Callable[[int], object]) -> None:
        """Through a temporary file, so that a reader finds the whole file or none."""
        folder = os.path.dirname(path)
        temporary = f"{path}.{secrets.token_hex(8)}.tmp"
        file = self._created(temporary, folder)
        try:
            try:
                write(file)
                # the reference is about to be committed: the file must survive a power cut as the commit does
                _flush(file)
            finally:
                os.close(file)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            # nobody would find it, as it has no keys
            self._remove_empty(folder)
            raise
        self._was_there = True
        _flush_folder(folder)
        self._keep(folder)

    def _created(self, temporary: str, folder: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            self._forget(folder)
            os.makedirs(folder, exist_ok=True)
            return os.open(temporary, flags, 0o600)

    def _keep(self, folder: str) -> None:
        """Make the folder's own entry durable, and those of the folders above it, if they are not known to be."""
        while len(folder) >= len(self.root) and folder not in self._durable:
            above = os.path.dirname(folder)
            try:
                _flush_folder(above)
            except PermissionError:
                # the folder of the root may be another's
                if folder != self.root:
                    raise
            if len(self._durable) >= MAX_KNOWN_FOLDERS:
                self._durable.clear()
            self._durable.add(folder)
            folder = above

    def _forget(self, folder: str) -> None:
        while len(folder) >= len(self.root) and not os.path.isdir(folder):
            self._durable.discard(folder)
            folder = os.path.dirname(folder)

    def _remove_empty(self, folder: str) -> None:
        """Remove the folder and its parents below the root, as far as they are empty."""
        while len(folder) > len(self.root):
            try:
                os.rmdir(folder)
            except OSError:
                return
            self._durable.discard(folder)
            folder = os.path.dirname(folder)


class Duplicate:
    """The same open file, with a descriptor of its own that is closed with this object: for a thread. Whoever waits for
    that may be cancelled, and close the other one while the thread goes on; its number is then given to the next file
    that is opened, which the thread would write to."""

    _descriptor = -1

    def __init__(self, file: int) -> None:
        self._descriptor = os.dup(file)

    def fileno(self) -> int:
        return self._descriptor

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


# -- copying


def copy(source: int, target: int, size: int, *, begin_writing: bool = False) -> None:
    """The first `size` bytes of a file to the beginning of another, in the kernel where it can; EOFError if there are
    fewer. `begin_writing`: have the device write them meanwhile."""
    ways = list(_WAYS)
    copied = 0
    position = os.lseek(target, 0, os.SEEK_CUR)
    try:
        while copied < size:
            count = _copy_part(ways, source, target, copied, min(PART_BYTES, size - copied))
            if not count:
                raise EOFError(f"the file ends after {copied} of {size} bytes")
            if begin_writing:
                _begin_writing(target, copied, count)
            copied += count
    finally:
        os.lseek(target, position, os.SEEK_SET)


_Way = Callable[[int, int, int, int], int]


def _copy_part(ways: list[_Way], source: int, target: int, offset: int, length: int) -> int:
    """By the first of the ways that copies anything; those before it are left out from then on."""
    while len(ways) > 1:
        try:
            if count := ways[0](source, target, offset, length):
                return count
        except OSError as error:
            if error.errno not in _NO_WAY:
                raise
        ways.pop(0)
    return ways[0](source, target, offset, length)


def _in_file_system(source: int, target: int, offset: int, length: int) -> int:
    return os.copy_file_range(source, target, length, offset, offset)


def _in_kernel(source: int, target: int, offset: int, length: int) -> int:
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, length)


def _in_memory(source: int, target: int, offset: int, length: int) -> int:
    data = os.pread(source, length, offset)
    write_at(target, data, offset)
    return len(data)


_WAYS: tuple[_Way, ...] = (
    *((_in_file_system,) if hasattr(os, "copy_file_range") else ()),
    *((_in_kernel,) if sys.platform == "linux" else ()),
    _in_memory,
)


def write_at(file: int, data: bytes | memoryview, offset: int, *, begin_writing: bool = False) -> None:
    written = 0
    with memoryview(data) as rest:
        while written < len(data):
            count = os.pwrite(file, rest[written : written + PART_BYTES], offset + written)
            if begin_writing and len(data) > PART_BYTES:
                _begin_writing(file, offset + written, count)
            written += count


# -- durability


def _begin_writing(file: int, offset: int, length: int) -> None:
    """So that less is left for the flush, which waits."""
    if (sync_file_range := _sync_file_range()) is not None:
        # where the file system does not have it, nothing is lost
        sync_file_range(file, offset, length, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    # not needed for small results
    import ctypes

    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    found: Callable[[int, int, int, int], int] = function
    return found


def _flush(file: int) -> None:
    if sys.platform == "darwin":
        # there fsync leaves the bytes in the device's memory
        with suppress(OSError):
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
    os.fsync(file)


def _flush_folder(folder: str) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _flush(file)
    except OSError as error:
        # some network file systems have nothing to flush here
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(file)
