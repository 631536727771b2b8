"""Reads the rows of a statement as the server sends them, a batch at a time: memory does not grow with their number."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pg8000 import core, native

from ..limits import KIB, MIB
from .postgres_limits import Limits

# for each column, its values; null is None
Columns = list[list[bytes | None]]

# of a batch: a value takes about ten times as much in Python as in the protocol
_BATCH_BYTES: Final = 2 * MIB
_READ_BYTES: Final = 256 * KIB
_DATA_ROW: Final = ord("D")
_READY_FOR_QUERY: Final = ord("Z")
# of a message: what it is, and its length without that
_HEADER: Final = struct.Struct("!BI").unpack_from
_HEADER_BYTES: Final = 5
# of the number of values in a row
_COUNT_BYTES: Final = 2
_LENGTH: Final = struct.Struct("!i").unpack_from


class RowReader:
    """Reads what is left of a statement's rows."""

    def __init__(
        self, socket: Any, handlers: Mapping[bytes, Any], context: core.Context, first: Sequence[bytes], limits: Limits
    ) -> None:
        """`socket`: a buffered file of the connection; `handlers`: of messages that are no rows; `first`: the rows that
        have been read already, each as the content of its message."""
        self._socket = socket
        self._handlers = handlers
        self._context = context
        self._first = first
        self._limits = limits
        self._rows = self._size = 0

    def batches(self) -> Iterator[Columns]:
        """Raises pg8000's errors, and TooManyRows."""
        columns = self._empty()
        for row in self._first:
            self._append(row, [_COUNT_BYTES], columns)
            self._count(1, len(row))
        size = self._size
        for data, rows, read in self._messages():
            self._append(data, rows, columns)
            size += read
            self._count(len(rows), read)
            if size >= _BATCH_BYTES:
                yield columns
                columns, size = self._empty(), 0
        if self._context.error is not None:
            raise self._context.error
        if columns[0]:
            yield columns

    def _empty(self) -> Columns:
        return [[] for _ in self._context.columns]

    def _count(self, rows: int, size: int) -> None:
        self._rows += rows
        self._size += size
        self._limits.check(self._rows, self._size)

    @staticmethod
    def _append(data: bytes, rows: Sequence[int], columns: Columns) -> None:
        """The values of the rows that begin at these positions."""
        appends = [column.append for column in columns]
        for at in rows:
            for append in appends:
                (length,) = _LENGTH(data, at)
                at += 4
                if length < 0:
                    append(None)
                else:
                    end = at + length
                    append(data[at:end])
                    at = end

    def _messages(self) -> Iterator[tuple[bytes, list[int], int]]:
        """What the server sends up to the end of the statement, where in it the values of each row begin, and up to
        where it is read."""
        rest, is_last = b"", False
        while not is_last:
            data = self._longer(rest)
            rows: list[int] = []
            at, end = 0, len(data)
            while end - at >= _HEADER_BYTES:
                code, length = _HEADER(data, at)
                following = at + 1 + length
                if following > end:
                    break
                if code == _DATA_ROW:
                    rows.append(at + _HEADER_BYTES + _COUNT_BYTES)
                else:
                    self._handlers[data[at : at + 1]](data[at + _HEADER_BYTES : following], self._context)
                    is_last = code == _READY_FOR_QUERY
                at = following
            yield data, rows, at
            rest = data[at:]

    def _longer(self, data: bytes) -> bytes:
        """`data` with more of what the server sends, at least up to the end of the first message."""
        found, size, needed = [data], len(data), len(data) + 1
        while size < needed:
            try:
                part = self._socket.read1(_READ_BYTES)
            except OSError as error:
                raise native.InterfaceError("network error") from error
            if not part:
                raise native.InterfaceError("network error")
            found.append(part)
            size += len(part)
            if size >= _HEADER_BYTES and needed == len(data) + 1:
                beginning = b"".join(found)
                found = [beginning]
                needed = max(needed, 1 + _HEADER(beginning)[1])
        return b"".join(found)
