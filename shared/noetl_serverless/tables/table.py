"""A table as templates, loops and tools read it: a sequence of rows that are made when they are asked for."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, overload

import orjson

from ..limits import MIB
from ..playbook.values import Rows
from .invalid import InvalidTable as InvalidTable
from .invalid import TableTooLarge
from .mapped import MappedFile
from .sizes import OBJECTS, hidden_in, least_of_rows, may_hide
from .stream import VALUE, digest_of

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
# converted at once: to convert all of a batch would take many times its memory
CHUNK_ROWS = 10_000
CHUNK_BYTES = 64 * MIB
# as a list, of Python objects at least: a value that takes a byte in a table, or none, is one as well
MAX_LISTED_OBJECTS: Final = 2048 * MIB
# of kinds of tools
TAKE_TABLES: Final = ("duckdb", "postgres", "python")
# a table of so few may have less than a bit for each
MANY_ROWS: Final = 1_000_000


class Table(Rows):
    """Rows as dicts of JSON values, the same that a small table has as JSON. Nothing is read before it is needed, and
    then a batch at a time.

    The stream begins at `offset` of `file`, which may hold what task code has written: every batch is validated before
    anything looks into it.
    """

    def __init__(self, file: MappedFile, offset: int = 0) -> None:
        self.file = file
        self.offset = offset
        # the reference that it was read by, and where it is in that
        self.origin: tuple[Mapping[str, Any], tuple[str | int, ...]] | None = None
        self._kept: tuple[int, list[Row]] = (0, [])

    # -- as rows

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def width(self) -> int:
        return len(self.schema)

    def check_listed(self) -> None:
        """Raises TableTooLarge, and InvalidTable."""
        size = sum(least_of_rows(batch, 0, batch.num_rows, OBJECTS) for batch in self.batches())
        if size > MAX_LISTED_OBJECTS:
            raise TableTooLarge(
                f"a table of {len(self)} rows and at least {size // MIB} MiB of values cannot be used as a list, which "
                f"may have {MAX_LISTED_OBJECTS // MIB} MiB; tools of kind {', '.join(TAKE_TABLES)} take tables of any "
                "size"
            )

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._slice(start, stop) if step == 1 else [self[at] for at in range(start, stop, step)]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError("the table has no such row")
        start, rows = self._chunk(at)
        return rows[at - start]

    def __iter__(self) -> Iterator[Row]:
        return self._between(0, len(self))

    def __eq__(self, other: object) -> bool:
        if other is self:
            # of millions of rows it would take minutes to see that
            return True
        if not isinstance(other, list | Rows):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """The text that a list of its rows has. Raises LimitExceeded if it is longer than that of a template may be."""
        from ..playbook.bounds import check_length

        rows, length = [], 0
        for row in self:
            rows.append(repr(row))
            length += len(rows[-1]) + 2
            check_length(length)
        return f"[{', '.join(rows)}]"

    def __native__(self) -> list[Row]:
        """All rows at once."""
        return list(self)

    def beginning(self, count: int, limit: int) -> list[Row]:
        """So many rows, of whose large values there is only what the first `limit` bytes of their JSON show."""
        from .beginning import beginning_of

        rows: list[Row] = []
        for number in range(len(self._ends)):
            if len(rows) == count:
                break
            rows += beginning_of(self._batch(number).slice(0, count - len(rows)), limit, len(rows))
        return rows

    # -- as Arrow

    @property
    def schema(self) -> pyarrow.Schema:
        return self._opened[0]

    @property
    def schema_digest(self) -> str:
        """Of the names and types of the columns."""
        return digest_of(self.schema)

    @cached_property
    def sha256(self) -> str:
        """Of its stream, in hexadecimal."""
        return hashlib.sha256(self.file.view[self.offset : self.end]).hexdigest()

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        """Validated; without a copy of what the file holds. Raises InvalidTable."""
        return map(self._batch, range(len(self._ends)))

    def reader(self) -> pyarrow.RecordBatchReader:
        import pyarrow

        return pyarrow.RecordBatchReader.from_batches(self.schema, self.batches())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    # -- as a part of a result

    @property
    def end(self) -> int:
        """Of the stream, in the file."""
        return self._opened[3]

    @property
    def whole_bytes(self) -> int:
        """Of the JSON that `whole` is read from."""
        return len(self._opened[2] or b"")

    @property
    def whole(self) -> Mapping[str, Any] | None:
        """What the last message of the stream says of the whole result. Raises InvalidTable."""
        try:
            # each time anew: it is changed to what it describes
            return None if self._opened[2] is None else orjson.loads(self._opened[2])
        except ValueError as error:
            raise InvalidTable(f"its last message is no JSON: {error}") from error

    # --

    @cached_property
    def _opened(self) -> tuple[pyarrow.Schema, list[pyarrow.RecordBatch], bytes | None, int]:
        """The schema, the batches that have rows, what the last message says of the whole result, and the end."""
        import pyarrow

        from .messages import has_compressed

        try:
            content = pyarrow.py_buffer(self.file.view[self.offset :])
            if has_compressed(pyarrow.BufferReader(content)):
                raise InvalidTable("its batches are compressed, which would be unpacked in memory")
            source = pyarrow.BufferReader(content)
            reader = pyarrow.ipc.open_stream(source)
            batches: list[pyarrow.RecordBatch] = []
            value: bytes | None = None
            for batch, metadata in reader.iter_batches_with_custom_metadata():
                if batch.num_rows:
                    batches.append(batch)
                if metadata is not None and VALUE in metadata:
                    value = metadata[VALUE]
        except InvalidTable:
            raise
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise InvalidTable(f"not an Arrow IPC stream: {error}") from error
        rows = sum(batch.num_rows for batch in batches)
        if rows and not reader.schema.names:
            raise InvalidTable("it has rows and no columns")
        if rows > max(MANY_ROWS, 8 * source.tell()):
            # of columns without values, or of one value: whoever makes a list of them would have no memory left
            raise InvalidTable(f"it has {rows} rows in {source.tell()} bytes")
        # asked once: a gigabyte has many batches, and is to be opened within a millisecond or two
        if any(map(may_hide, reader.schema.types)):
            check_hidden(sum(map(hidden_in, batches)), source.tell())
        return reader.schema, batches, value, self.offset + source.tell()

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(batch.num_rows for batch in self._opened[1]))

    def _begin(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    @cached_property
    def _valid(self) -> set[int]:
        return set()

    def _batch(self, number: int) -> pyarrow.RecordBatch:
        import pyarrow

        batch = self._opened[1][number]
        if number not in self._valid:
            try:
                batch.validate(full=True)
            except pyarrow.ArrowException as error:
                raise InvalidTable(f"the values do not fit their types: {error}") from error
            self._valid.add(number)
        return batch

    def _chunk(self, at: int) -> tuple[int, list[Row]]:
        """The rows around the row `at`, and where they begin. The last are kept: rows are read one after the other."""
        from .rows import rows_of

        start, rows = self._kept
        if not start <= at < start + len(rows):
            number = bisect.bisect_right(self._ends, at)
            batch, begin = self._batch(number), self._begin(number)
            first, end = few_around(batch, at - begin)
            self._kept = begin + first, rows_of(batch.slice(first, end - first), begin + first)
        return self._kept

    def _slice(self, start: int, stop: int) -> list[Row]:
        from .rows import rows_of

        if stop - start >= CHUNK_ROWS or start >= stop:
            return list(self._between(start, stop))
        # only what is asked for: a preview needs few rows of many
        rows: list[Row] = []
        while start < stop:
            number = bisect.bisect_right(self._ends, start)
            within, end = start - self._begin(number), min(stop, self._ends[number])
            rows += rows_of(self._batch(number).slice(within, end - start), start)
            start = end
        return rows

    def _between(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` on, before `stop`."""
        at = start
        while at < stop:
            begin, rows = self._chunk(at)
            yield from rows[at - begin : stop - begin]
            at = begin + len(rows)


def few_around(batch: pyarrow.RecordBatch, at: int) -> tuple[int, int]:
    """Where the rows begin and end that are converted with that at `at`, the same for each of them: CHUNK_ROWS, or the
    half as often as they are too large."""
    first = at // CHUNK_ROWS * CHUNK_ROWS
    end = min(first + CHUNK_ROWS, batch.num_rows)
    while end - first > 1 and least_of_rows(batch, first, end, OBJECTS) > CHUNK_BYTES:
        middle = (first + end) // 2
        first, end = (first, middle) if at < middle else (middle, end)
    return first, end


def parts_of(batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
    """All rows of it, in parts that are converted one after the other."""
    at = 0
    while at < batch.num_rows:
        first, at = few_around(batch, at)
        yield batch.slice(first, at - first)


def check_hidden(count: int, size: int) -> None:
    """The same for nested values as for rows. Raises InvalidTable."""
    if count > max(MANY_ROWS, 8 * size):
        raise InvalidTable(f"it has {count} nested values without content in {size} bytes")
