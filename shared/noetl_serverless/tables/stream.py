"""Writes a table as an Arrow IPC stream (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format).

A result may be a JSON value with tables somewhere in it. The last message of the stream, a batch without rows, then has
in its metadata the rest, and the place of each table: {"rest": {"row_count": 3, "rows": null}, "tables": [[["rows"],
0]]}. Other readers of Arrow find a batch without rows. Several tables are several streams, one after the other (see
`value`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from ..limits import MIB
from .forms import with_type

if TYPE_CHECKING:
    import pyarrow

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
# in the metadata of the last message
VALUE: Final = b"noetl.value"
# of a batch: few enough for a gigabyte to be opened in a millisecond, and for a reader to have one in memory
BATCH_BYTES: Final = 16 * MIB
# what a batch has beside its columns, about
_HEADER_BYTES: Final = MIB // 16
# that wait to be joined: each keeps the map of its file, and before Python 3.13 a descriptor with it
_MAX_PENDING: Final = 256


@dataclass(frozen=True, slots=True)
class Written:
    bytes: int
    rows: int


def readable(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type without views, in which polars has texts: most readers of Arrow know none."""
    import pyarrow
    import pyarrow.types as t

    if t.is_string_view(kind):
        return pyarrow.string()
    if t.is_binary_view(kind):
        return pyarrow.binary()
    if t.is_dictionary(kind):
        return pyarrow.dictionary(kind.index_type, readable(kind.value_type), kind.ordered)
    if t.is_struct(kind):
        return pyarrow.struct([with_type(it, readable(it.type)) for it in kind.fields])
    if t.is_map(kind):
        return pyarrow.map_(readable(kind.key_type), readable(kind.item_type), kind.keys_sorted)
    for is_it, make in ((t.is_list, pyarrow.list_), (t.is_large_list, pyarrow.large_list)):
        if is_it(kind):
            return make(with_type(kind.value_field, readable(kind.value_type)))
    if t.is_fixed_size_list(kind):
        return pyarrow.list_(with_type(kind.value_field, readable(kind.value_type)), kind.list_size)
    return kind


def digest_of(schema: pyarrow.Schema) -> str:
    return hashlib.sha256(schema.serialize()).hexdigest()[:16]


def is_table(value: Any) -> bool:
    """Whether it is a table of pyarrow, pandas, polars, or of anything else that exports an Arrow stream."""
    return hasattr(type(value), "__arrow_c_stream__")


class StreamWriter:
    """Writes batches of one schema into an open file, from where it is. `extend`: called before each with the size that
    the file is about to have; the descriptor may stand for another file afterwards.

    It writes in a `with` statement alone, within which the descriptor stays open: what is still in its buffer later
    would be written to whatever file has the same number by then."""

    def __init__(self, file: int, schema: pyarrow.Schema, extend: Callable[[int], object] | None = None) -> None:
        import pyarrow

        self._descriptor = file
        self._extend = extend
        # what a producer keeps beside names and types, such as the index of pandas, is not the table's
        self._schema = pyarrow.schema([with_type(it, readable(it.type)) for it in schema])
        self._pending: list[pyarrow.RecordBatch] = []
        self._pending_bytes = 0
        self._rows = 0

    def __enter__(self) -> Self:
        import pyarrow

        self._file = os.fdopen(self._descriptor, "wb", buffering=MIB, closefd=False)
        self._begin = self._file.tell()
        try:
            self._writer = pyarrow.ipc.new_stream(self._file, self._schema)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def write(self, batch: pyarrow.RecordBatch) -> None:
        """Raises OSError if there is no room."""
        self._rows += batch.num_rows
        for part in _parts(batch):
            size = size_of(part)
            # to join one that is large by itself would be a copy for nothing, and of some slices one of the whole
            is_alone = 2 * size >= BATCH_BYTES or _is_small_part(part)
            if is_alone:
                self._flush()
            self._pending.append(part)
            self._pending_bytes += size
            if is_alone or self._pending_bytes >= BATCH_BYTES or len(self._pending) == _MAX_PENDING:
                self._flush()

    def finish(self, value: Mapping[str, Any] | None = None) -> Written:
        """`value`: of the last stream of a result that is more than a table, {"rest", "tables"}."""
        import pyarrow

        self._flush()
        if value is not None:
            empty = pyarrow.RecordBatch.from_arrays(
                [pyarrow.nulls(0, kind) for kind in self._schema.types], schema=self._schema
            )
            self._writer.write_batch(empty, custom_metadata={VALUE: orjson.dumps(value)})
        self._writer.close()
        self._file.flush()
        size = self._file.tell() - self._begin
        self._file.close()
        return Written(size, self._rows)

    def _close(self) -> None:
        # where it fails, what it was closed for is what counts; `finish` has written all before
        with suppress(OSError):
            self._file.close()

    def _flush(self) -> None:
        pending = self._pending
        self._pending, self._pending_bytes = [], 0
        for batch in _joined(pending):
            if self._extend is not None:
                self._file.flush()
                self._extend(self._file.tell() + size_of(batch) + _HEADER_BYTES)
            self._writer.write_batch(batch.cast(self._schema) if batch.schema != self._schema else batch)


def write_table(file: int, table: Any, value: Mapping[str, Any] | None = None) -> Written:
    """Write what `is_table` into an open file, a batch at a time. Raises OSError if there is no room, and what the
    table raises as it is read. `value`: see `StreamWriter.finish`."""
    import pyarrow

    reader = pyarrow.RecordBatchReader.from_stream(table)
    return write_batches(file, reader.schema, reader, value)


def write_batches(
    file: int,
    schema: pyarrow.Schema,
    batches: Iterable[pyarrow.RecordBatch],
    value: Mapping[str, Any] | None = None,
    extend: Callable[[int], object] | None = None,
) -> Written:
    with StreamWriter(file, schema, extend) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.finish(value)


def in_field(field: str, rest: Mapping[str, Any]) -> dict[str, Any]:
    """The value of a result whose table is in the field `field`, with these other fields."""
    return {"rest": {**rest, field: None}, "tables": [[[field], 0]]}


def _parts(batch: pyarrow.RecordBatch) -> Iterable[pyarrow.RecordBatch]:
    """The batch in slices of about BATCH_BYTES."""
    size = size_of(batch)
    if size <= BATCH_BYTES or batch.num_rows < 2:
        return [batch]
    rows = max(1, batch.num_rows * BATCH_BYTES // size)
    return [batch.slice(start, rows) for start in range(0, batch.num_rows, rows)]


def _joined(batches: list[pyarrow.RecordBatch]) -> Sequence[pyarrow.RecordBatch]:
    """One batch; all of them, where that cannot be: pandas numbers categories with as few bits as they need, which may
    be too few for those of two tables together. In a stream each batch has its own."""
    import pyarrow

    if len(batches) < 2:
        return batches
    try:
        return [pyarrow.concat_batches(batches)]
    except pyarrow.ArrowException:
        return batches


def size_of(batch: pyarrow.RecordBatch) -> int:
    """In bytes. `nbytes` of pyarrow ends the process for an empty union: with one, whole buffers are counted, though a
    slice needs a part of them."""
    from .unions import has_union

    return int(batch.get_total_buffer_size() if any(map(has_union, batch.schema.types)) else batch.nbytes)


def _is_small_part(batch: pyarrow.RecordBatch) -> bool:
    """Whether a copy of the batch would take much more than what is written of it."""
    import pyarrow

    from .unions import has_dense_union

    if not any(map(has_dense_union, batch.schema.types)):
        return False
    return size_of(batch) > 2 * int(pyarrow.ipc.get_record_batch_size(batch))
