"""Reads and writes the content of stored objects piece by piece, never all of it in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import IO, Any, Final

from ..errors import Unavailable, Unsupported
from ..limits import KIB, MIB
from ..ports import ResultStore
from .compression import Codec, compressor, decompressor, unread

# of an object, read at once; the next piece is read meanwhile
PIECE_BYTES: Final = 4 * MIB
# of what is written at once, and of what is kept in memory instead of in a file
WRITE_BYTES: Final = 1 * MIB
# less is not worth compressing
COMPRESSED_FROM_BYTES: Final = 10 * KIB
_ENDINGS: Final[Mapping[str, str]] = {".gz": "gzip", ".zst": "zstd"}


class Truncated(Exception):
    """The object is shorter than its reference says."""


def compression_of(key: str, meta: Mapping[str, Any] | None) -> str | None:
    """How the object is compressed: as its reference says, or the ending of its key."""
    named = (meta or {}).get("compression")
    return named or next((name for ending, name in _ENDINGS.items() if key.endswith(ending)), None)


async def read(
    store: ResultStore, key: str, start: int, end: int, compression: str | None = None
) -> AsyncIterator[bytes]:
    """The content from `start` to `end`, which is not included. Raises KeyError if the object does not exist, and
    Truncated."""
    if start >= end:
        # only whether it exists
        await store.get_range(key, 0, 1)
        return
    pieces: AsyncGenerator[bytes, None]
    match compression:
        case None:
            pieces = _read_range(store, key, start, end)
        case "gzip" | "zstd":
            pieces = _cut(_decompressed(_read_range(store, key, 0, None), compression), start, end)
        case _:
            raise Unsupported(f"the result is compressed with {compression!r:.50}, which cannot be read here")
    left = end - start
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            left -= len(piece)
            yield piece
    if left:
        raise Truncated(f"{key} ends {left} bytes early")


async def _read_range(store: ResultStore, key: str, start: int, end: int | None) -> AsyncGenerator[bytes, None]:
    """Up to the end of the object, if `end` is None."""

    def next_piece(offset: int) -> asyncio.Task[bytes] | None:
        length = PIECE_BYTES if end is None else min(PIECE_BYTES, end - offset)
        return asyncio.create_task(_get_range(store, key, offset, length)) if length > 0 else None

    reading = next_piece(start)
    try:
        while reading is not None:
            piece = await reading
            start += len(piece)
            # a short piece is the end of the object; an empty one would be read for ever
            reading = next_piece(start) if piece else None
            if piece:
                yield piece
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _get_range(store: ResultStore, key: str, offset: int, length: int) -> bytes:
    return await store.get_range(key, offset, length)


async def _cut(pieces: AsyncIterator[bytes], start: int, end: int) -> AsyncGenerator[bytes, None]:
    """What lies between two places of a stream, which is not read any further."""
    place = 0
    async for piece in pieces:
        chosen = piece[max(0, start - place) : max(0, end - place)]
        place += len(piece)
        if chosen:
            yield chosen
        if place >= end:
            return


async def _decompressed(pieces: AsyncIterator[bytes], codec: Codec) -> AsyncIterator[bytes]:
    reader = decompressor(codec)
    async for piece in pieces:
        data = piece
        while not reader.eof:
            # a few bytes may be those of a very large content
            content = await asyncio.to_thread(reader.decompress, data, PIECE_BYTES)
            if content:
                yield content
            data = unread(reader)
            if len(content) < PIECE_BYTES and not data:
                break


def temporary_file(folder: str = "") -> IO[bytes]:
    """An open file without a name, which is gone with its process. `folder`: by default, that of the system."""
    import tempfile

    return tempfile.TemporaryFile(dir=folder or None)


class Incoming:
    """Content that comes piece by piece: a little of it stays in memory, more goes to a file without a name.

    `size` and `sha256` are those of the content, `stored_bytes` that of what is stored, which is compressed if that was
    wanted, and is worth it.
    """

    def __init__(self, *, folder: str = "", compress: Codec | None = None) -> None:
        self._folder = folder
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._digest = hashlib.sha256()
        self._codec = compress
        self._compressor: Any = None
        self._file: IO[bytes] | None = None
        self._small: bytes | None = None
        self.size = 0
        self.stored_bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def compression(self) -> Codec | None:
        return None if self._compressor is None else self._codec

    async def add(self, piece: bytes) -> None:
        """Raises Unavailable if there is no room for it."""
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        self.size += len(piece)
        if self._waiting_bytes >= WRITE_BYTES:
            await asyncio.to_thread(self._write)

    async def end(self) -> None:
        """All of it has come. Raises Unavailable if there is no room for it."""
        await asyncio.to_thread(self._end)

    async def put(self, store: ResultStore, key: str) -> str:
        """Into the store; its name."""
        if self._small is not None:
            return (await store.put(key, self._small)).store
        assert self._file is not None
        return (await store.put_file(key, self._file.fileno(), self.stored_bytes)).store

    def beginning(self, length: int) -> bytes:
        """The first bytes of what is stored."""
        if self._small is not None:
            return self._small[:length]
        assert self._file is not None
        return os.pread(self._file.fileno(), length, 0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _end(self) -> None:
        if self._file is None and self._waiting_bytes < WRITE_BYTES:
            content = b"".join(self._waiting)
            self._digest.update(content)
            self._waiting.clear()
            if self._codec is not None and self.size > COMPRESSED_FROM_BYTES:
                self._compressor = compressor(self._codec)
                content = self._compressor.compress(content) + self._compressor.flush()
            self._small, self.stored_bytes = content, len(content)
            return
        self._write()
        if self._compressor is not None:
            self._store(self._compressor.flush())
        assert self._file is not None
        self._file.flush()

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = temporary_file(self._folder)
                self._compressor = None if self._codec is None else compressor(self._codec)
            for piece in self._waiting:
                self._digest.update(piece)
                self._store(piece if self._compressor is None else self._compressor.compress(piece))
        except OSError as error:
            raise Unavailable(f"there is no room for what is sent: {error.strerror or error}") from error
        self._waiting.clear()
        self._waiting_bytes = 0

    def _store(self, content: bytes) -> None:
        assert self._file is not None
        self._file.write(content)
        self.stored_bytes += len(content)
