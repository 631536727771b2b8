"""Code of Python steps, compiled once for all executions: in a child that has run nothing yet, compiling a line takes
longer than running it, and reading it as it is here a quarter of that."""

from __future__ import annotations

import marshal
import struct
from functools import lru_cache

# as the frames of the code name it
FILE = "<code>"
# of one text: longer ones would hold up the event loop
_MAX_CHARACTERS = 20_000
_MAX_CODES = 512


def request(code: str, fields: bytes) -> bytes:
    """What a child is sent: 4 bytes of length, big-endian, the code as `marshal` writes it, and the JSON `fields`.
    Nothing of the code if the child has to compile it, because it is long or wrong."""
    compiled = _compiled(code) if len(code) <= _MAX_CHARACTERS else b""
    return struct.pack(">I", len(compiled)) + compiled + fields


def read_request(content: bytes | bytearray) -> tuple[bytes, memoryview]:
    """The code, and the fields."""
    (length,) = struct.unpack_from(">I", content)
    return bytes(content[4 : 4 + length]), memoryview(content)[4 + length :]


@lru_cache(_MAX_CODES)
def _compiled(code: str) -> bytes:
    import warnings

    with warnings.catch_warnings(action="ignore"):
        try:
            return marshal.dumps(compile(code, FILE, "exec", dont_inherit=True))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return b""
