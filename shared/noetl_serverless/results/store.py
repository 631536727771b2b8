"""A `ResultStore` over fsspec: a folder, memory, or whatever else fsspec supports, chosen by a URL."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

from ..errors import AccessDenied
from ..limits import MIB
from ..ports import StoredObject
from .disk import Duplicate, Folder
from .key import check_size, checked_key
from .urls import folder_of

T = TypeVar("T")

RANGE_NOT_SATISFIABLE = 416
# of a folder that are read together
PAGE_KEYS = 1000
# of a file that is copied
CHUNK_BYTES = 8 * MIB
_NAMES = {"s3a": "s3", "gs": "gcs"}


class _Place(Protocol):
    """Where the objects are. Everything raises KeyError for what is not there, but `delete` and `keys`."""

    def put(self, key: str, data: bytes) -> None: ...

    def put_file(self, key: str, source: int, size: int) -> None: ...

    def get(self, key: str) -> bytes: ...

    def get_file(self, key: str, target: int) -> int: ...

    def get_range(self, key: str, offset: int, length: int) -> bytes: ...

    def delete(self, key: str) -> None: ...

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        """In order."""
        ...


class FsspecResultStore:
    """Bytes below `url`, one file per key. A write is all or nothing; a key is written once.

    The methods of the port run the blocking file calls in threads; `put_sync`, `get_sync` and `delete_sync` are for
    callers that are in one already.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """`url`: `file:///folder`, `memory://name`...; `options` go to the file system."""
        folder = folder_of(url)
        self._place: _Place
        if folder is not None:
            self.name = "disk"
            self._place = Folder(os.path.abspath(folder))
        else:
            protocol = url.partition("://")[0]
            self.name = _NAMES.get(protocol, protocol)
            self._place = _FileSystem(url, options)

    async def put(self, key: str, data: bytes) -> StoredObject:
        return await asyncio.to_thread(self.put_sync, key, data)

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        checked_key(key)
        await _in_thread(file, lambda own: self._place.put_file(key, own, size))
        return StoredObject(self.name, key, size)

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self.get_sync, key)

    async def get_file(self, key: str, file: int) -> int:
        checked_key(key)
        return await _in_thread(file, lambda own: self._place.get_file(key, own))

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(self._place.get_range, checked_key(key), offset, length)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self.delete_sync, key)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix` and come after `after`, in order, including unfinished files of crashed
        writers: used for deletion."""
        keys = self._place.keys(prefix, after)
        while page := await asyncio.to_thread(lambda: list(islice(keys, PAGE_KEYS))):
            for key in page:
                yield key

    def put_sync(self, key: str, data: bytes) -> StoredObject:
        self._place.put(checked_key(key), data)
        return StoredObject(self.name, key, len(data))

    def get_sync(self, key: str) -> bytes:
        return self._place.get(checked_key(key))

    def delete_sync(self, key: str) -> None:
        self._place.delete(checked_key(key))


async def _in_thread(file: int, work: Callable[[int], T]) -> T:
    own = Duplicate(file)
    return await asyncio.to_thread(lambda: work(own.fileno()))


class _FileSystem:
    """A file system of fsspec that shows an object only once it is whole, as object stores and its memory do."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        # fsspec costs 80 ms to import, which a function that never reads a result need not pay
        from fsspec.core import url_to_fs

        self._fs, root = url_to_fs(url, **options)
        self._root = root.rstrip("/")

    def put(self, key: str, data: bytes) -> None:
        with self._errors_of(key):
            self._fs.pipe_file(self._path(key), data)

    def put_file(self, key: str, source: int, size: int) -> None:
        # before the memory of fsspec shows it
        check_size(source, size)
        with self._errors_of(key):
            target = self._fs.open(self._path(key), "wb", block_size=CHUNK_BYTES, autocommit=False)
            try:
                for chunk in chunks_of(source, size):
                    target.write(chunk)
                target.close()
            except BaseException:
                target.discard()
                raise
            target.commit()

    def get(self, key: str) -> bytes:
        with self._errors_of(key):
            data: bytes = self._fs.cat_file(self._path(key))
        return data

    def get_file(self, key: str, target: int) -> int:
        offset = 0
        with self._errors_of(key), self._fs.open(self._path(key), "rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                offset += os.pwrite(target, chunk, offset)
        return offset

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        try:
            with self._errors_of(key):
                data: bytes = self._fs.cat_file(self._path(key), start=offset, end=offset + length)
        except Exception as error:
            # an object store's answer to a range that begins where the object ends
            if getattr(error, "code", None) == RANGE_NOT_SATISFIABLE:
                return b""
            raise
        return data

    def delete(self, key: str) -> None:
        try:
            with self._errors_of(key):
                self._fs.rm_file(self._path(key))
        except KeyError:
            return

    def keys(self, prefix: str, after: str) -> Iterator[str]:
        # the folder part of the prefix bounds what is walked
        folder = prefix.rpartition("/")[0]
        try:
            with self._errors_of(prefix):
                paths: Sequence[str] = self._fs.find(f"{self._root}/{folder}" if folder else self._root)
        except KeyError:
            return
        start = len(self._fs._strip_protocol(self._root)) + 1
        keys = (self._fs._strip_protocol(path)[start:] for path in paths)
        yield from sorted(key for key in keys if key > after and key.startswith(prefix))

    @contextmanager
    def _errors_of(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise KeyError(key) from None
        except PermissionError as error:
            raise AccessDenied(f"the store of results refuses {key!r}: {error}") from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise KeyError(key) from None

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def chunks_of(file: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes of an open file; EOFError if it has fewer."""
    offset = 0
    while offset < size:
        chunk = os.pread(file, min(CHUNK_BYTES, size - offset), offset)
        if not chunk:
            raise EOFError(f"the file ends after {offset} of {size} bytes")
        yield chunk
        offset += len(chunk)
