"""The values of recorded results."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import orjson

from ..results.compression import BadContent, decompress
from ..results.content import compression_of
from ..tables.mapped import MappedFile
from ..tables.media_types import form_named
from ..tables.sealed import memory_file, sealed_file
from ..tables.value import read_value
from .recording import Result


def value_of(result: Result) -> Any:
    """Of JSON, or of tables. Raises ValueError."""
    content = unpacked(result)
    if form_named(result.content_type) == "arrow":
        return read_value(_file(content))
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        raise ValueError(f"it is {result.content_type} and not JSON") from None


def is_as_written(result: Result) -> bool:
    """Whether the content is that which its reference was made of. In a file in which secrets are masked it may not be,
    and need not."""
    try:
        return hashlib.sha256(unpacked(result)).hexdigest() == result.sha256
    except ValueError:
        return False


def unpacked(result: Result) -> bytes:
    """The content, whether it was stored compressed or not. Raises ValueError."""
    content = result.content or b""
    match compression_of(result.key, None):
        case "gzip" | "zstd" as codec:
            try:
                return decompress(content, codec, result.size)
            except BadContent as error:
                raise ValueError(f"it cannot be unpacked: {error}") from error
    return content


def _file(content: bytes) -> MappedFile:
    def write(descriptor: int) -> int:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            return file.write(content)

    return sealed_file(len(content), write, memory_file)
