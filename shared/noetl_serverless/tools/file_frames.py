"""How a Python child and its parent exchange open files, beside the frames of `compiled_code`.

Only the parent sends descriptors, and only when it is asked to, so that a call without files costs nothing. The child
asks by a frame that begins with ASK and says what for; the parent sends one byte and, with it, the descriptors: zero,
or the number of an error without any. For its tables, and for a file, a call may ask once.

Tables go this way, and JSON that is large: the engine passes the file on to the store and to the next child as it is.
"""

from __future__ import annotations

import struct

# a reply begins with a bracket
ASK = 1
# for the files of the input
GIVEN = b"\x01g"
# for a file to write a table or the JSON of the result into, of about as many bytes as follow in 8 bytes
TABLE = b"\x01t"
# for room for as many bytes as follow in that file; given another, with the same bytes and position, it goes on there
ROOM = b"\x01r"
# the descriptors of one message: Linux allows 253
MAX_DESCRIPTORS = 200

_SIZE = struct.Struct(">Q")


def ask_for_file(size: int) -> bytes:
    return TABLE + _SIZE.pack(size)


def ask_for_room(size: int) -> bytes:
    return ROOM + _SIZE.pack(size)


def size_of_file(frame: bytes | bytearray) -> int:
    """What it asks for. Raises ValueError."""
    if len(frame) != len(TABLE) + _SIZE.size:
        raise ValueError("it named no size")
    return int(_SIZE.unpack_from(frame, len(TABLE))[0])
