"""A `ResultStore` over fsspec: a folder, memory, or whatever else fsspec supports, chosen by a URL."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

from ..limits import MIB
from ..ports import StoredObject
from .walk import keys_below

RANGE_NOT_SATISFIABLE = 416
# of a folder that are read together
PAGE_KEYS = 1000
# of a file that is copied
CHUNK_BYTES = 4 * MIB
_NAMES = {"file": "disk", "local": "disk", "memory": "memory", "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class FsspecResultStore:
    """Bytes below `url`, one file per key. A write is all or nothing; a key is written once.

    The methods of the port run the blocking file calls in threads; `put_sync`, `get_sync` and `delete_sync` are for
    callers that are in one already.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """`url`: `file:///folder`, `memory://name`, `s3://bucket/prefix`...; `options` go to the file system."""
        # fsspec costs 80 ms to import, which a function that never reads a result need not pay
        from fsspec.core import url_to_fs

        self._fs, root = url_to_fs(url, **options)
        self._root = root.rstrip("/")
        self._was_there = False
        protocol = self._fs.protocol if isinstance(self._fs.protocol, str) else self._fs.protocol[0]
        self.name = _NAMES.get(protocol, protocol)

    async def put(self, key: str, data: bytes) -> StoredObject:
        return await asyncio.to_thread(self.put_sync, key, data)

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        return await asyncio.to_thread(self.put_file_sync, key, file, size)

    async def get_file(self, key: str, file: int) -> int:
        return await asyncio.to_thread(self.get_file_sync, key, file)

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self.get_sync, key)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(self.get_range_sync, key, offset, length)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self.delete_sync, key)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix` and come after `after`, in order, including unfinished files of crashed
        writers: used for deletion."""
        if self.name == "disk":
            if self._is_away():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._root)
            walk = keys_below(self._root, prefix, after)
            while page := await asyncio.to_thread(lambda: list(islice(walk, PAGE_KEYS))):
                for key in page:
                    yield key
            return
        for key in await asyncio.to_thread(self._keys, prefix):
            if key > after:
                yield key

    def put_sync(self, key: str, data: bytes) -> StoredObject:
        return self._put(key, len(data), (data,))

    def put_file_sync(self, key: str, file: int, size: int) -> StoredObject:
        return self._put(key, size, chunks_of(file, size))

    def get_file_sync(self, key: str, file: int) -> int:
        with (
            self._finding(key),
            self._fs.open(self._path(key), "rb") as source,
            open(file, "wb", closefd=False) as target,
        ):
            return _copy(iter(lambda: source.read(CHUNK_BYTES), b""), target)

    def _put(self, key: str, size: int, chunks: Iterable[bytes]) -> StoredObject:
        path = self._path(key)
        if self.name == "disk":
            _replace(path, chunks)
            self._was_there = True
        else:
            # an object store, and fsspec's memory, show an object only once it is whole
            self._fs.pipe_file(path, b"".join(chunks))
        return StoredObject(self.name, key, size)

    def get_sync(self, key: str) -> bytes:
        with self._finding(key):
            data: bytes = self._fs.cat_file(self._path(key))
        return data

    def get_range_sync(self, key: str, offset: int, length: int) -> bytes:
        try:
            with self._finding(key):
                data: bytes = self._fs.cat_file(self._path(key), start=offset, end=offset + length)
        except Exception as error:
            # an object store's answer to a range that begins where the object ends
            if getattr(error, "code", None) == RANGE_NOT_SATISFIABLE:
                return b""
            raise
        return data

    def delete_sync(self, key: str) -> None:
        try:
            self._fs.rm_file(self._path(key))
        except FileNotFoundError:
            if self._is_away():
                raise
            return
        if self.name == "disk":
            _remove_empty(os.path.dirname(self._path(key)), self._root)

    def _keys(self, prefix: str) -> Sequence[str]:
        # the folder part of the prefix bounds what is walked
        folder = prefix.rpartition("/")[0]
        top = f"{self._root}/{folder}" if folder else self._root
        try:
            paths: Sequence[str] = self._fs.find(top)
        except FileNotFoundError:
            return []
        prefix_length = len(self._fs._strip_protocol(self._root)) + 1
        keys = (self._fs._strip_protocol(path)[prefix_length:] for path in paths)
        return sorted(key for key in keys if key.startswith(prefix))

    @contextmanager
    def _finding(self, key: str) -> Iterator[None]:
        """Turn errors that mean that there is no such file into KeyError."""
        try:
            yield
        except OSError as error:
            # fsspec raises its own without a number
            is_nothing = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
            if not (is_nothing or error.errno in _NOTHING) or self._is_away():
                raise
            raise KeyError(key) from None

    def _is_away(self) -> bool:
        """Whether the folder has gone, as that of a mount, so that nothing in it is known to be missing: it was there
        before, or something else stands in its place."""
        if self.name != "disk":
            return False
        is_there = os.path.isdir(self._root)
        self._was_there |= is_there
        return not is_there and (self._was_there or os.path.lexists(self._root))

    def _path(self, key: str) -> str:
        if not {"", ".", ".."}.isdisjoint(key.split("/")):
            raise ValueError(f"not a storage key: {key!r}")
        return f"{self._root}/{key}"


# error numbers of a file system that has no such file, or cannot have one
_NOTHING = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)


def chunks_of(file: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes of an open file; EOFError if it has fewer."""
    offset = 0
    while offset < size:
        chunk = os.pread(file, min(CHUNK_BYTES, size - offset), offset)
        if not chunk:
            raise EOFError(f"the file ends after {offset} of {size} bytes")
        yield chunk
        offset += len(chunk)


def _copy(chunks: Iterable[bytes], target: BinaryIO) -> int:
    return sum(map(target.write, chunks))


def _replace(path: str, chunks: Iterable[bytes]) -> None:
    """Write a temporary file and rename it, so that a reader finds the whole file or none, even after a crash."""
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            _copy(chunks, file)
            file.flush()
            # the reference is about to be committed: the file must survive a power cut as the commit does
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _remove_empty(folder: str, root: str) -> None:
    """Remove the folder and its parents below `root`, as far as they are empty."""
    while len(folder) > len(root):
        try:
            os.rmdir(folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
