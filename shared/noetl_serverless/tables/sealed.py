"""Files that nobody can change any more, though another process has written them.

A file in memory (`memory_file`) is sealed: from then on the kernel refuses every change, whoever asks for it. Of any
other file it is made sure that nobody has it open for writing, by a read lease, which the kernel grants only then. A
process of the same user that still has it open for reading could open it for writing again, through /proc: keep such
files in a folder that the process cannot open (see `tools.private_folders`), or in memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import tempfile
from collections.abc import Callable
from typing import Final, Protocol

from .mapped import MappedFile

_ADD_SEALS: int = getattr(fcntl, "F_ADD_SEALS", 0)
_GET_SEALS: int = getattr(fcntl, "F_GET_SEALS", 0)
_MAY_NOT_SEAL: int = getattr(fcntl, "F_SEAL_SEAL", 0)
_WRITE: int = getattr(fcntl, "F_SEAL_WRITE", 0)
_SEALS: int = _MAY_NOT_SEAL | _WRITE | getattr(fcntl, "F_SEAL_SHRINK", 0) | getattr(fcntl, "F_SEAL_GROW", 0)
_CHUNK = 1 << 26


class NewFiles(Protocol):
    """Where the files of tables are opened."""

    def open(self, size: int) -> int:
        """The descriptor of an empty file, for about so many bytes; whoever calls this closes it. Raises OSError."""

    def extend(self, descriptor: int, size: int) -> bool:
        """Have room for so many bytes in such a file. True if that is another file now, with the same bytes and at the
        same position: `descriptor` stands for the new one, and copies of it for the old. Raises OSError."""


class FilesInMemory:
    """As many and as large as they become."""

    def open(self, size: int) -> int:
        return memory_file(size)

    def extend(self, descriptor: int, size: int) -> bool:
        return False


IN_MEMORY: Final = FilesInMemory()


def memory_file(size: int = 0) -> int:
    """The descriptor of an empty file in memory that can be sealed, or of a temporary one where there are none."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    return os.memfd_create("noetl", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def sealed(descriptor: int, size: int, open_file: Callable[[int], int] = memory_file) -> int:
    """The descriptor, only for reading, of a file of `size` bytes that nobody can change: the file of `descriptor`,
    which is closed, or a copy in what `open_file` opens if somebody else may still write to that. Raises ValueError if
    it is no file of this size, and OSError."""
    try:
        _check(descriptor, size)
        if _can_be_sealed(descriptor):
            return _reopened(descriptor, size) if seal(descriptor) else _copied(descriptor, size, open_file)
        readable = _reopened(descriptor, size)
    finally:
        os.close(descriptor)
    try:
        return _dup(readable, size) if _has_no_writer(readable) else _copied(readable, size, open_file)
    finally:
        os.close(readable)


def sealed_file(size: int, write: Callable[[int], int], open_file: Callable[[int], int]) -> MappedFile:
    """A file that nobody can change, with what `write` writes to the descriptor it is given; it returns how many bytes.
    `size`: about so many. Raises OSError if there is no room, and what `write` raises."""
    descriptor = open_file(size)
    try:
        written = write(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return MappedFile(sealed(descriptor, written, open_file), written)


def for_reading(file: MappedFile) -> int:
    """A descriptor that is passed to another process, by which it can read the file and not change it."""
    descriptor = file.fileno()
    if not os.path.exists("/proc/self/fd") or (_can_be_sealed(descriptor) and not seal(descriptor)):
        return sealed(os.dup(descriptor), file.size)
    return _reopened(descriptor, file.size)


def seal(descriptor: int) -> bool:
    """Seal a file in memory; False if somebody has mapped it for writing, or it is another file."""
    found = _seals(descriptor)
    if found < 0 or found & _WRITE:
        return found >= 0
    try:
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
    except OSError as error:
        # or the descriptor is only for reading, and the file was not sealed before
        if error.errno in (errno.EBUSY, errno.EPERM):
            return False
        raise
    return True


def is_in_memory(descriptor: int) -> bool:
    return _seals(descriptor) >= 0


def is_sealed(descriptor: int) -> bool:
    """Whether the kernel lets nobody change the file."""
    seals = _seals(descriptor)
    return seals >= 0 and seals & _SEALS == _SEALS


def _can_be_sealed(descriptor: int) -> bool:
    seals = _seals(descriptor)
    return seals >= 0 and (not seals & _MAY_NOT_SEAL or bool(seals & _WRITE))


def _seals(descriptor: int) -> int:
    """Those of a file in memory; -1 of any other."""
    if not _GET_SEALS:
        return -1
    try:
        return int(fcntl.fcntl(descriptor, _GET_SEALS))
    except OSError:
        return -1


def _has_no_writer(readable: int) -> bool:
    """Whether nobody has the file open, or mapped, for writing; False too if that cannot be known."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # what tells of a lease that is broken by default ends the process
        fcntl.fcntl(readable, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(readable, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(readable, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    # the owner alone can undo this
    with contextlib.suppress(OSError):
        os.fchmod(readable, stat.S_IRUSR)
    return True


def _copied(descriptor: int, size: int, open_file: Callable[[int], int]) -> int:
    copy = open_file(size)
    try:
        at = 0
        while at < size:
            content = os.pread(descriptor, min(_CHUNK, size - at), at)
            if not content:
                raise ValueError(f"the file has {at} bytes instead of {size}")
            part = memoryview(content)
            while part:
                part = part[os.write(copy, part) :]
            at += len(content)
        if _can_be_sealed(copy):
            seal(copy)
        return _reopened(copy, size)
    finally:
        os.close(copy)


def _reopened(descriptor: int, size: int) -> int:
    """Another descriptor, only for reading where that can be had."""
    try:
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _dup(descriptor, size)
    return _checked(again, size)


def _dup(descriptor: int, size: int) -> int:
    return _checked(os.dup(descriptor), size)


def _checked(descriptor: int, size: int) -> int:
    try:
        _check(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(descriptor: int, size: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        raise ValueError(f"a file of {size} bytes was announced, and it has {found.st_size}")
