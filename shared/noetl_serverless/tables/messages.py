"""What the messages of an Arrow stream say of themselves, in FlatBuffers (https://arrow.apache.org/docs/format/
Columnar.html#encapsulated-message-format), before anything of their bodies is read.

pyarrow unpacks compressed bodies as it reads them, without a limit: a few kilobytes of a task would be gigabytes of
memory here, and none of it mapped from the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow

# of `Message`: the kind of its header, and the header
_HEADER_TYPE: Final = 1
_HEADER: Final = 2
_DICTIONARY_BATCH: Final = 2
_RECORD_BATCH: Final = 3
# of `DictionaryBatch`: its record batch
_DATA: Final = 1
# of `RecordBatch`
_COMPRESSION: Final = 3


def has_compressed(source: pyarrow.BufferReader) -> bool:
    """Whether any batch up to the end of the stream is compressed. Raises what pyarrow raises for no stream, and
    ValueError for one whose messages cannot be read."""
    try:
        return any(_is_compressed(message) for message in _messages(source))
    except struct.error as error:
        raise ValueError(f"a message of the stream cannot be read: {error}") from error


def _messages(source: pyarrow.BufferReader) -> Iterator[bytes]:
    import pyarrow

    reader = pyarrow.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        yield message.metadata.to_pybytes()


def _is_compressed(message: bytes) -> bool:
    table = _followed(message, 0)
    kind = _field(message, table, _HEADER_TYPE)
    header = _field(message, table, _HEADER)
    if kind is None or header is None or message[kind] not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        return False
    batch = _followed(message, header)
    if message[kind] == _DICTIONARY_BATCH:
        data = _field(message, batch, _DATA)
        if data is None:
            return False
        batch = _followed(message, data)
    return _field(message, batch, _COMPRESSION) is not None


def _followed(message: bytes, at: int) -> int:
    """Where the table is that the offset at `at` leads to."""
    (offset,) = struct.unpack_from("<I", message, at)
    return at + int(offset)


def _field(message: bytes, table: int, number: int) -> int | None:
    """Where a field of the table is; None if it is left out."""
    (back,) = struct.unpack_from("<i", message, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", message, fields)
    entry = 4 + 2 * number
    if entry >= size:
        return None
    (offset,) = struct.unpack_from("<H", message, fields + entry)
    return table + int(offset) if offset else None
