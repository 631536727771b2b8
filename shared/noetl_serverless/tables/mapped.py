"""A file that is mapped into memory to be read, without a copy."""

from __future__ import annotations

import mmap
import os
import sys
from functools import cached_property


class MappedFile:
    """The first `size` bytes of an open file. It owns the descriptor, which is closed with it; the map lives on as long
    as something refers to it."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def fileno(self) -> int:
        return self._descriptor

    @cached_property
    def view(self) -> memoryview:
        """Read-only. Raises OSError, or ValueError if the file has fewer bytes by now, which a reader of the map would
        be killed for."""
        if os.fstat(self._descriptor).st_size < self.size:
            raise ValueError(f"the file has {os.fstat(self._descriptor).st_size} bytes instead of {self.size}")
        if not self.size:
            return memoryview(b"")
        return memoryview(_map(self._descriptor, self.size))

    def read(self) -> bytes:
        """A copy. Raises OSError."""
        with open(self._descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            return file.read(self.size)

    def __del__(self) -> None:
        os.close(self._descriptor)


def _map(descriptor: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        # else it keeps a descriptor of its own
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ, trackfd=False)
    return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
