"""The log file of a batch: gzip members of JSON lines. Consecutive members are a gzip file, too.

An execution begins with a line {"execution", "results", "commands"}, at the start of a member; its events follow, one
per line. Its blocks are the places of its members: [[first seq, offset, length]].
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import orjson

from ..store.recorded import RecordedEvent
from .messages import EventRow

# bytes of JSON in one member, which is read at once to show a page of events
BLOCK_BYTES = 256 * 1024
# how many blocks of a log are in memory at once while it is read
MAX_CONCURRENT_BLOCKS = 8
# more than any line has; needed because a few bytes of gzip can expand to a thousand times as many
MAX_LINE_BYTES = 256 * 1024 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Block = tuple[int, int, int]


class NotALog(ValueError):
    """What was read is not what a `LogWriter` writes."""


class LogWriter:
    """`open` an execution, `add` its events in order, repeat for the next execution; `close` at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = 0
        self._lines: list[bytes] = []
        self._size = 0
        self._first = 0
        self._blocks: list[Block] = []
        self.members = 0

    def open(self, head: str) -> list[Block]:
        """The execution's blocks, complete once the next is opened or the writer closed."""
        self._flush()
        self._blocks = []
        self._first = 0
        self._add(head.encode())
        return self._blocks

    def add(self, row: EventRow) -> None:
        _, seq, cause, type, step, generation, command, at, payload = row
        named = {"seq": seq, "cause": cause, "type": type, "step": step, "generation": generation}
        start = orjson.dumps({**named, "command_id": command, "at": at})[:-1]
        if self._size >= BLOCK_BYTES:
            self._flush()
            self._first = seq
        # the payload unchanged: parsing and writing it again would cost time, and digits of large numbers
        self._add(start + b',"payload":' + payload.encode() + b"}")

    def close(self) -> None:
        self._flush()

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)

    def _flush(self) -> None:
        if not self._lines:
            return
        # without a timestamp, so that the same batch makes the same bytes
        member = gzip.compress(b"\n".join(self._lines) + b"\n", 6, mtime=0)
        self._file.write(member)
        self._blocks.append((self._first, self._offset, len(member)))
        self._offset += len(member)
        self.members += 1
        self._lines, self._size = [], 0


def spans(blocks: Sequence[Sequence[int]], after: int, last: int) -> list[tuple[int, int]]:
    """(offset, length) of the blocks with the events after `after`, up to `last`: of a few consecutive blocks each."""
    first_rows = [block[0] for block in blocks]
    begin = max((index for index, first in enumerate(first_rows) if first <= after + 1), default=0)
    chosen = blocks[begin : max(sum(first <= last for first in first_rows), begin + 1)]
    few = [chosen[at : at + MAX_CONCURRENT_BLOCKS] for at in range(0, len(chosen), MAX_CONCURRENT_BLOCKS)]
    return [(group[0][1], sum(block[2] for block in group)) for group in few]


def head_of(member: bytes) -> dict[str, Any]:
    """{"execution", "results", "commands"} of the execution that begins with this block. Raises NotALog."""
    for line in _lines(member):
        head: dict[str, Any] = line
        return head
    raise NotALog("it is empty")


def events_of(execution_id: int, members: bytes) -> Iterator[RecordedEvent]:
    """The events in consecutive blocks of one execution. Raises NotALog."""
    for row in _lines(members):
        if "seq" not in row:
            continue
        try:
            at = EPOCH + timedelta(microseconds=row.pop("at"))
            yield RecordedEvent(execution_id=execution_id, at=at, **row)
        except (KeyError, TypeError, OverflowError) as error:
            raise NotALog(f"a line is not an event: {error}") from None


def _lines(members: bytes) -> Iterator[dict[str, Any]]:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(members)) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                if len(line) > MAX_LINE_BYTES:
                    raise NotALog(f"a line has more than {MAX_LINE_BYTES} bytes")
                row = orjson.loads(line)
                if not isinstance(row, dict):
                    raise NotALog("a line is not a JSON object")
                yield row
    except (OSError, EOFError, zlib.error, orjson.JSONDecodeError) as error:
        raise NotALog(str(error)) from None
