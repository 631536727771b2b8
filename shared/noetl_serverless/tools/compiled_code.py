"""Code of Python steps, compiled once for all executions: in a child that has run nothing yet, compiling a line takes
longer than running it, and reading it as it is here a quarter of that."""

from __future__ import annotations

import marshal
import struct
from functools import lru_cache
from typing import NamedTuple

# as the frames of the code name it
FILE = "<code>"
# of one text: longer ones would hold up the event loop
_MAX_CHARACTERS = 20_000
_MAX_CODES = 512


class CompiledCode(NamedTuple):
    """`content`: as `marshal` writes it; empty if the child has to compile it, because it is long or wrong."""

    content: bytes = b""
    is_pure: bool = False


def compiled(code: str) -> CompiledCode:
    return _compiled(code) if len(code) <= _MAX_CHARACTERS else CompiledCode()


def request(code: CompiledCode, fields: bytes) -> bytes:
    """What a child is sent: 4 bytes of length, big-endian, the code's content, and the JSON `fields`."""
    return struct.pack(">I", len(code.content)) + code.content + fields


def read_request(content: bytes | bytearray) -> tuple[bytes, memoryview]:
    """The code's content, and the fields."""
    (length,) = struct.unpack_from(">I", content)
    return bytes(content[4 : 4 + length]), memoryview(content)[4 + length :]


@lru_cache(_MAX_CODES)
def _compiled(code: str) -> CompiledCode:
    # the children, which import this file, need neither
    import ast
    import warnings

    from .pure_code import is_pure

    with warnings.catch_warnings(action="ignore"):
        try:
            module = ast.parse(code, FILE)
            # what runs is what was looked at
            return CompiledCode(marshal.dumps(compile(module, FILE, "exec", dont_inherit=True)), is_pure(module))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return CompiledCode()
