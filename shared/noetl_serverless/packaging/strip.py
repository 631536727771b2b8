"""Strips symbol tables and debugging sections from shared libraries: two thirds of some wheels.

The segments, from which a library is loaded, stay as they are. Everything after the last one is cut off, including the
table of sections. This needs no tool for the target's processor and gives the same bytes everywhere.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"  # 64 bit, little-endian
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTIONS_AT, _COUNTS_AT = 0x28, 0x3C


def strip(path: Path) -> int:
    """Strip a file and return the bytes saved; a file that is not such a library is left alone."""
    data = bytearray(path.read_bytes())
    if not data.startswith(_MAGIC):
        return 0
    before = len(data)
    end = _end_of_segments(data)
    if end >= before:
        return 0
    del data[end:]
    struct.pack_into("<Q", data, _SECTIONS_AT, 0)
    # number of sections, and which of them holds their names
    struct.pack_into("<HH", data, _COUNTS_AT, 0, 0)
    path.write_bytes(data)
    return before - len(data)


def _end_of_segments(data: bytearray) -> int:
    """The offset after the last byte that any program header refers to, the headers themselves included."""
    table, size, count = struct.unpack_from("<Q", data, 0x20)[0], *struct.unpack_from("<HH", data, 0x36)
    end: int = table + size * count
    for index in range(count):
        _, _, offset, _, _, length, _, _ = _PROGRAM.unpack_from(data, table + size * index)
        end = max(end, offset + length)
    return end
