"""gzip and zstd, of contents in memory and of files, in bounded memory."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, Protocol, cast

from ..limits import MIB

Codec = Literal["gzip", "zstd"]
CHUNK_BYTES: Final = 4 * MIB
# what zlib calls a gzip header
_GZIP: Final = 16 + zlib.MAX_WBITS
# a tenth of the time of zlib's default, and a fifth larger
_GZIP_LEVEL: Final = 1


class BadContent(ValueError):
    """What was compressed cannot be had back."""


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview) -> bytes: ...
    def flush(self) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, _: int, /) -> bytes: ...


def compress(content: bytes | memoryview, codec: Codec) -> bytes:
    writer = compressor(codec)
    return writer.compress(content) + writer.flush()


def decompress(content: bytes, codec: Codec, size: int) -> bytes:
    """`size`: of the content before it was compressed. Raises BadContent."""
    return b"".join(decompressed([content], codec, size))


def compress_file(source: memoryview, target: int, codec: Codec) -> int:
    """Into an open, empty file; returns its size."""
    writer = compressor(codec)
    starts = range(0, len(source), CHUNK_BYTES)
    size = sum(_write(target, writer.compress(source[start : start + CHUNK_BYTES])) for start in starts)
    return size + _write(target, writer.flush())


def decompress_file(source: memoryview, target: int, codec: Codec, size: int) -> None:
    """Into an open, empty file. Raises BadContent."""
    starts = range(0, len(source), CHUNK_BYTES)
    for chunk in decompressed((source[start : start + CHUNK_BYTES] for start in starts), codec, size):
        _write(target, chunk)


def decompressed(chunks: Iterable[bytes | memoryview], codec: Codec, size: int) -> Iterator[bytes]:
    """The content, of `size` bytes, in pieces of CHUNK_BYTES at most; raises BadContent."""
    reader = decompressor(codec)
    produced = 0
    try:
        for chunk in chunks:
            data: bytes | memoryview = chunk
            if reader.eof and len(data):
                raise BadContent("there is more behind its end")
            while not reader.eof:
                piece = reader.decompress(data, CHUNK_BYTES)
                produced += len(piece)
                if produced > size:
                    # not written to its end, which may be any number of times as large
                    raise BadContent(f"it has more than its {size} bytes")
                if piece:
                    yield piece
                data = unread(reader)
                if len(piece) < CHUNK_BYTES and not data:
                    break
    except (zlib.error, error_of(codec)) as error:
        raise BadContent(f"it is not valid {codec}: {error}") from error
    if reader.unused_data:
        raise BadContent("there is more behind its end")
    if not reader.eof or produced < size:
        raise BadContent(f"it ends after {produced} of {size} bytes")


def unread(reader: Any) -> bytes:
    """What zlib has not looked at yet; the one of zstd keeps that itself."""
    return getattr(reader, "unconsumed_tail", b"")


def compressor(codec: Codec) -> _Compressor:
    """For a content that comes piece by piece."""
    if codec == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    return cast(_Compressor, _zstd().ZstdCompressor())


def decompressor(codec: Codec) -> _Decompressor:
    """For an object that comes piece by piece; what is called with the bytes that it has not looked at (`unread`)."""
    if codec == "gzip":
        return cast(_Decompressor, zlib.decompressobj(wbits=_GZIP))
    return cast(_Decompressor, _zstd().ZstdDecompressor())


def error_of(codec: str) -> type[Exception]:
    return zlib.error if codec == "gzip" else cast(type[Exception], _zstd().ZstdError)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _write(file: int, content: bytes) -> int:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    return len(content)
