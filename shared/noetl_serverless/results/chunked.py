"""Objects that are written and read in chunks, by calls that each take or give one."""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from ..errors import AccessDenied, Conflict, Unavailable
from ..limits import KIB, MIB
from ..ports import StoredObject

CHUNK_BYTES: Final = 1 * MIB
# chunks that are under way at once
CONCURRENT: Final = 2
# how often an upload begins again that somebody has deleted meanwhile
MAX_TRIES: Final = 3
# of the answers of a control plane that reads them for a worker
UPLOAD_HEADER: Final = "Noetl-Upload"
SIZE_HEADER: Final = "Noetl-Size"
# of a key in bytes: an index has room for it
MAX_KEY_BYTES: Final = 2 * KIB

# of the ends of a write: somebody has deleted the upload; the caller may not write there
GONE, REFUSED = "gone", "refused"


class Part(NamedTuple):
    """`upload`: what wrote the object, of which further parts are read; `size`: of the whole object."""

    upload: UUID
    size: int
    data: bytes


class ChunkedObjects(ABC):
    """An object of one chunk is written by one call; a larger one by an upload, which becomes the object once it is
    whole. Each writer has an upload of its own, so that two of one key do not mix. At most `CONCURRENT` chunks are in
    memory, unless the caller gives or wants all of them."""

    name: str

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes

    async def put(self, key: str, data: bytes) -> StoredObject:
        """Raises Conflict if the key has other bytes."""
        return await self._put(key, len(data), lambda offset, length: data[offset : offset + length])

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        def read(offset: int, length: int) -> bytes:
            chunk = os.pread(file, length, offset)
            if len(chunk) < length:
                raise EOFError(f"the file ends after {offset + len(chunk)} of {size} bytes")
            return chunk

        return await self._put(key, size, read)

    async def get(self, key: str) -> bytes:
        parts: list[bytes] = []
        await self._read_all(key, lambda offset, data: parts.append(data))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def get_file(self, key: str, file: int) -> int:
        def write(offset: int, data: bytes) -> None:
            os.pwrite(file, data, offset)

        return await self._read_all(key, write)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        part = await self._found(key, offset, length)
        end = min(offset + length, part.size)
        begun = offset + len(part.data)
        return part.data if begun >= end else part.data + await self._exactly(key, part.upload, begun, end - begun)

    # -- calls

    @abstractmethod
    async def put_whole(self, key: str, upload: UUID, data: bytes, digest: bytes) -> str:
        """Write an object of at most one chunk: "written"; "same" or "other", for the bytes that are there already; or
        REFUSED."""

    @abstractmethod
    async def begin(self, key: str, upload: UUID) -> str:
        """REFUSED, or something else."""

    @abstractmethod
    async def put_chunk(self, upload: UUID, number: int, data: bytes) -> str:
        """REFUSED, GONE, or something else. The same chunk may be put again."""

    @abstractmethod
    async def finish(self, key: str, upload: UUID, size: int, digest: bytes) -> str:
        """As `put_whole`; GONE; or "incomplete"."""

    @abstractmethod
    async def read_part(self, key: str, offset: int, length: int) -> Part | None:
        """From `offset` at most `length` bytes, or fewer up to the end of a chunk; None if there is no such object."""

    @abstractmethod
    async def read_more(self, upload: UUID, offset: int, length: int) -> bytes | None:
        """As `read_part`, of a known upload; None if it has been deleted."""

    # -- writing

    async def _put(self, key: str, size: int, read: Callable[[int, int], bytes]) -> StoredObject:
        _checked(key)
        for _ in range(MAX_TRIES):
            end = await (self._put_small if size <= self._chunk_bytes else self._put_large)(key, size, read)
            match end:
                case "written" | "same":
                    return StoredObject(self.name, key, size)
                case "other":
                    raise Conflict(f"{key} has been written already, with other bytes")
                case "refused":
                    raise AccessDenied(f"writing {key} is refused: no lease of its execution is held here")
        raise Unavailable(f"{key} was deleted while it was written")

    async def _put_small(self, key: str, size: int, read: Callable[[int, int], bytes]) -> str:
        data = read(0, size)
        return await self.put_whole(key, uuid4(), data, hashlib.sha256(data).digest())

    async def _put_large(self, key: str, size: int, read: Callable[[int, int], bytes]) -> str:
        upload, digest = uuid4(), hashlib.sha256()
        if (begun := await self.begin(key, upload)) == REFUSED:
            return begun
        numbers = iter(range(-(-size // self._chunk_bytes)))

        def next_chunk(number: int) -> bytes:
            offset = number * self._chunk_bytes
            chunk = read(offset, min(self._chunk_bytes, size - offset))
            digest.update(chunk)
            return chunk

        under_way: set[asyncio.Task[str]] = set()
        try:
            for number in numbers:
                # one after the other, as the digest needs them, in a thread, since a file may be slow
                chunk = await asyncio.to_thread(next_chunk, number)
                if len(under_way) == CONCURRENT:
                    ended, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    if failed := {end for task in ended if (end := task.result()) in (REFUSED, GONE)}:
                        return failed.pop()
                under_way.add(asyncio.create_task(self.put_chunk(upload, number, chunk)))
            if failed := {REFUSED, GONE}.intersection(await asyncio.gather(*under_way)):
                return failed.pop()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return await self.finish(key, upload, size, digest.digest())

    # -- reading

    async def _found(self, key: str, offset: int, length: int) -> Part:
        part = await self.read_part(_checked(key), offset, min(length, self._chunk_bytes))
        if part is None:
            raise KeyError(key)
        return part

    async def _exactly(self, key: str, upload: UUID, offset: int, length: int) -> bytes:
        """These bytes of an object, also across the ends of chunks."""
        parts: list[bytes] = []
        while length > 0:
            data = await self.read_more(upload, offset, min(length, self._chunk_bytes))
            if not data:
                raise KeyError(key)
            parts.append(data)
            offset, length = offset + len(data), length - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_all(self, key: str, take: Callable[[int, bytes], object]) -> int:
        """`take` gets the parts in order, each with its offset."""
        first = await self._found(key, 0, self._chunk_bytes)
        await asyncio.to_thread(take, 0, first.data)
        under_way: deque[tuple[int, asyncio.Task[bytes]]] = deque()
        try:
            for offset in range(len(first.data), first.size, self._chunk_bytes):
                if len(under_way) == CONCURRENT:
                    await asyncio.to_thread(take, under_way[0][0], await under_way[0][1])
                    under_way.popleft()
                length = min(self._chunk_bytes, first.size - offset)
                under_way.append((offset, asyncio.create_task(self._exactly(key, first.upload, offset, length))))
            while under_way:
                await asyncio.to_thread(take, under_way[0][0], await under_way[0][1])
                under_way.popleft()
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)
        return first.size


def _checked(key: str) -> str:
    """ValueError for what is no storage key."""
    if not {"", ".", ".."}.isdisjoint(key.split("/")) or "\0" in key:
        raise ValueError(f"not a storage key: {key!r}")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"not a storage key, since it is too long: {key[:100]!r}...")
    return key
