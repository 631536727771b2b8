"""A result as CSV, JSON, lines of JSON, Parquet or Arrow, converted a batch at a time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from .csv_lines import csv_lines, csv_of_objects, header
from .from_rows import typed_table
from .holders import USUAL_NAME, Holders, TooManyPlaces
from .invalid import InvalidTable
from .json_lines import json_lines, json_text
from .media_types import Form
from .parquet_batches import written_batch, written_schema
from .parquet_types import check_parquet
from .table import CHUNK_ROWS, Table, parts_of

if TYPE_CHECKING:
    import pyarrow

# of JSON, written at once
_PIECE_ROWS: Final = CHUNK_ROWS
# of CSV: each row has a cell of each name, though few rows may have a value of it
_PIECE_CELLS: Final = 20 * CHUNK_ROWS
# in a message
MAX_NAMED: Final = 20
HAVE_COLUMNS: Final[Sequence[Form]] = ("csv", "parquet", "arrow")


class NoTable(ValueError):
    """There is no table where one is needed. `tables`: the names of those that there are."""

    def __init__(self, message: str, tables: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.tables = tuple(tables)


@dataclass(frozen=True, slots=True)
class Batches:
    """Columns that are read once, from a file."""

    schema: pyarrow.Schema
    batches: Iterator[pyarrow.RecordBatch]


def pieces(
    value: Any, form: Form, table: str | None = None, accumulated: Sequence[str] = (), *, is_json: bool = False
) -> Iterator[bytes]:
    """`value`: JSON with tables in it, or `Batches`. As JSON all of it is given, in the other forms its table; `table`
    names the one that is meant, by its place in the value: `a`, or `b.0`. `accumulated`: the fields that were, if any;
    `is_json`: it is known to have no tables that are no JSON.

    Raises NoTable, InvalidTable, and ValueError or a pyarrow.ArrowException for what has no form there.
    """
    with _not_too_deep():
        holders = Holders(value, is_json=is_json)
        if table is None and form == "json":
            chosen = value
        else:
            chosen = table_in(value, holders, table, has_columns=form in HAVE_COLUMNS, accumulated=accumulated)
        match form:
            case "json":
                found = _ended(_json(chosen, holders))
            case "ndjson":
                found = _lines(chosen, holders)
            case "csv" if isinstance(chosen, list):
                found = _csv_of_list(chosen)
            case _:
                found = _columns(_batches(chosen), form)
    return _checked(found)


def items(value: Any) -> Iterator[bytes]:
    """The items of a table, or of a list with tables in it, as JSON, without the brackets; a line for each row of a
    table. Raises InvalidTable."""
    return _items(value, Holders(value))


@contextmanager
def _not_too_deep() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise InvalidTable("it is nested too deeply to be converted") from None


def _checked(found: Iterator[bytes]) -> Iterator[bytes]:
    with _not_too_deep():
        yield from found


def _items(value: Any, holders: Holders, line: bytes = b"\n") -> Iterator[bytes]:
    """`line`: between the rows of a table."""
    separator = b""
    if isinstance(value, Table | Batches) or holders.is_rows(value):
        end = b"," + line
        for rows in _chunks(value, end):
            # the last comma is not written before more rows follow
            yield separator + rows[: -len(end)]
            separator = end
        return
    for item in value:
        yield separator
        yield from _json(item, holders, line)
        separator = b","


def table_in(
    value: Any, holders: Holders, name: str | None, *, has_columns: bool = True, accumulated: Sequence[str] = ()
) -> Any:
    """The table of the value, or that with this name: a Table, Batches, or a list of objects. Of several, that in the
    field `rows` is meant; where something was accumulated, that, as `rows` may be the last page alone. `accumulated`:
    the fields that may be, of which the value may lack some. Not `has_columns`: the objects may have tables in them.
    Raises NoTable."""
    if isinstance(value, Batches):
        if name is not None:
            raise NoTable(f"the result is a table, and has none that is called {name!r:.200}")
        return value
    if name is None and not has_columns and holders.holds_tables(value):
        return value
    try:
        found = list(holders.named_tables())
    except TooManyPlaces as error:
        raise NoTable(f"the tables of the result cannot be found: {error}") from error
    if name is not None:
        return _named(found, holders, name, has_columns)
    if there := [field for field in accumulated if isinstance(value, Mapping) and field in value]:
        within = _of_accumulated(found, there)
        if any(its == there[0] for its, _ in within):
            return _named(found, holders, there[0], has_columns)
        found = within
    found = [(its, table) for its, table in found if not holders.holds_tables(table)]
    if not found:
        raise NoTable("the result is no table: it is no list of objects, and has none in a field")
    usual = [table for its, table in found if its == USUAL_NAME]
    if len(found) > 1 and len(usual) != 1:
        names, listed = _listed(found)
        raise NoTable(f"the result has {len(found)} tables: {listed}", names)
    return usual[0] if len(found) > 1 else found[0][1]


def _of_accumulated(found: Sequence[tuple[str, Any]], fields: Sequence[str]) -> list[tuple[str, Any]]:
    """The table that was accumulated, or those in it, where objects were merged. At least one."""
    names, listed = _listed(found)
    there = f"The result has {listed}" if names else "The result has no table"
    if len(fields) > 1:
        raise NoTable(f"{len(fields)} fields were accumulated: {', '.join(fields[:MAX_NAMED])}. {there}", names)
    within = [(its, table) for its, table in found if its == fields[0] or its.startswith(f"{fields[0]}.")]
    if not within:
        raise NoTable(f"{fields[0]!r:.200}, which was accumulated, is no table. {there}", names)
    return within


def _named(found: Sequence[tuple[str, Any]], holders: Holders, name: str, has_columns: bool) -> Any:
    names, listed = _listed(found)
    meant = [table for its, table in found if its == name]
    if not meant:
        there = f"there are {listed}" if any(names) else "it is a table itself" if names else "it has none"
        raise NoTable(f"the result has no table {name!r:.200}: {there}", names)
    if len(meant) > 1:
        what = f"{name!r:.200} names {len(meant)} tables of the result, as there are fields with a dot in their names"
        raise NoTable(f"{what}: none of them can be had alone, and all can be had as JSON. There are {listed}", names)
    if has_columns and holders.holds_tables(meant[0]):
        what = f"{name!r:.200} is a list of objects that have tables in them"
        raise NoTable(f"{what}: it has no columns, and can be had as JSON. There are {listed}", names)
    return meant[0]


def _listed(found: Sequence[tuple[str, Any]]) -> tuple[list[str], str]:
    """The names of tables, and the first of them in a message."""
    names = list(dict.fromkeys(name for name, _ in found))
    return names, ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")


def _batches(table: Any) -> Batches:
    if isinstance(table, Batches):
        return table
    if isinstance(table, Table):
        return Batches(table.schema, table.batches())
    columns = typed_table(table)
    return Batches(columns.schema, iter(columns.to_batches(_PIECE_ROWS)))


def _chunks(table: Any, end: bytes) -> Iterator[bytes]:
    """The rows as JSON, many at once, with `end` after each."""
    if isinstance(table, list):
        for start in range(0, len(table), _PIECE_ROWS):
            yield b"".join(json_text(row) + end for row in table[start : start + _PIECE_ROWS])
        return
    first = 0
    for batch in chain.from_iterable(map(parts_of, _batches(table).batches)):
        yield json_lines(batch, end, first)
        first += batch.num_rows


def _lines(table: Any, holders: Holders) -> Iterator[bytes]:
    if not holders.holds_tables(table):
        yield from _chunks(table, b"\n")
        return
    for item in table:
        yield from _json(item, holders, b"")
        yield b"\n"


def _json(value: Any, holders: Holders, line: bytes = b"\n") -> Iterator[bytes]:
    """With the rows of tables, of which a few are in memory at once. `line`: between rows."""
    if isinstance(value, Table | Batches) or holders.is_rows(value):
        begin = b"[" + line
        for rows in _items(value, holders, line):
            yield begin + rows
            begin = b""
        yield b"[]" if begin else line + b"]"
    elif isinstance(value, dict) and holders.has_table(value):
        separator = b"{"
        for key, member in value.items():
            yield separator + json_text(key) + b":"
            yield from _json(member, holders, line)
            separator = b","
        yield b"}"
    elif isinstance(value, list) and holders.has_table(value):
        yield b"["
        yield from _items(value, holders, line)
        yield b"]"
    else:
        yield json_text(value)


def _ended(parts: Iterable[bytes]) -> Iterator[bytes]:
    yield from parts
    yield b"\n"


# -- in columns


class _Sink(io.BytesIO):
    """What is written to it, until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._taken_bytes = 0

    def tell(self) -> int:
        return self._taken_bytes + super().tell()

    def take(self) -> bytes:
        taken = self.getvalue()
        self._taken_bytes += len(taken)
        self.seek(0)
        self.truncate(0)
        return taken


def _columns(table: Batches, form: Form) -> Iterator[bytes]:
    if form == "csv":
        yield from _csv(table)
        return
    sink = _Sink()
    if form == "parquet":
        check_parquet(table.schema)
        schema = written_schema(table.schema)
        table = Batches(schema, (written_batch(batch, schema) for batch in table.batches))
    writer = _writer(sink, table.schema, form)
    for batch in table.batches:
        writer.write_batch(batch)
        if piece := sink.take():
            yield piece
    writer.close()
    yield sink.take()


def _writer(sink: _Sink, schema: pyarrow.Schema, form: Form) -> Any:
    import pyarrow

    # else what writes Parquet closes it
    file = pyarrow.PythonFile(sink, mode="w")
    if form == "parquet":
        from pyarrow import parquet

        return parquet.ParquetWriter(file, schema, compression="zstd")
    return pyarrow.ipc.new_stream(file, schema)


def _csv(table: Batches) -> Iterator[bytes]:
    # with the first rows: what cannot be converted there fails before an answer begins
    piece, first = header(table.schema.names), 0
    for batch in chain.from_iterable(map(parts_of, table.batches)):
        yield piece + csv_lines(batch, first)
        piece = b""
        first += batch.num_rows
    yield piece


def _csv_of_list(rows: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """Straight from JSON: no column needs a type that all of its values have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    piece = header(names)
    step = max(1, min(_PIECE_ROWS, _PIECE_CELLS // max(1, len(names))))
    for start in range(0, len(rows), step):
        yield piece + csv_of_objects(rows[start : start + step], names)
        piece = b""
    yield piece
