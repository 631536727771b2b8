"""Whether the rows that a tool has found go as JSON, with the step's outcome, or as a table, by reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from .invalid import InvalidTable
from .rows import small_rows_of
from .sealed import NewFiles, sealed_file
from .sizes import JSON, least_of_rows
from .stream import StreamWriter, in_field, size_of
from .table import Row
from .value import read_value

if TYPE_CHECKING:
    import pyarrow

# the fields of a result beside its rows, of which there are so many
Rest = Callable[[int], Mapping[str, Any]]

# converted at once, to see whether they fit
STEP_ROWS = 500


def collect(
    schema: pyarrow.Schema,
    batches: Iterable[pyarrow.RecordBatch],
    files: NewFiles,
    *,
    inline_bytes: int,
    field: str,
    rest: Rest,
) -> dict[str, Any]:
    """The result: `rest` of the number of rows, and in `field` the rows: a list if it has at most `inline_bytes` bytes
    of JSON, else a Table. Raises OSError if there is no room, InvalidTable, and what `batches` raises."""
    remaining = iter(batches)
    rows, read = few_rows(remaining, inline_bytes)
    if rows is not None:
        return {**rest(len(rows)), field: rows}

    def write(descriptor: int) -> int:
        with StreamWriter(descriptor, schema, partial(files.extend, descriptor)) as writer:
            count = 0
            for batch in chain(read, remaining):
                writer.write(batch)
                count += batch.num_rows
            return writer.finish(in_field(field, rest(count))).bytes

    # whoever reads it may hand it on
    file = sealed_file(sum(map(size_of, read)), write, files.open)
    return read_value(file)  # type: ignore[no-any-return]


def few_rows(batches: Iterator[pyarrow.RecordBatch], limit: int) -> tuple[list[Row] | None, list[pyarrow.RecordBatch]]:
    """All rows if they have at most `limit` bytes of JSON, else None; and the batches that were read for that. With a
    limit of 0 they are always a table, also without rows: it keeps the columns and their types. Raises
    InvalidTable."""
    rows: list[Row] = []
    read: list[pyarrow.RecordBatch] = []
    # of a bracket
    size = 1
    if size > limit:
        return None, read
    for batch in batches:
        read.append(batch)
        # most are so large that their rows need not be looked at, and one row may be larger than the memory
        if size + least_of_rows(batch, 0, batch.num_rows, JSON) > limit:
            return None, read
        for start in range(0, batch.num_rows, STEP_ROWS):
            part = small_rows_of(batch.slice(start, STEP_ROWS), len(rows))
            # with a comma in the place of the other
            size += _bytes_of(part) - 1
            if size > limit:
                return None, read
            rows += part
    return rows, read


def _bytes_of(rows: list[Row]) -> int:
    try:
        return len(orjson.dumps(rows))
    except TypeError as error:
        raise InvalidTable(f"a document in it is not JSON: {error}") from error
