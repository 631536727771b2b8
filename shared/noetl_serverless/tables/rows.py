"""Rows of a batch as JSON values, the same whatever tool has made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..limits import MIB, RESULT_DEPTH
from ..playbook.values import is_deeper
from .forms import form_of
from .instants import DAY_MICROSECONDS, date_text, duration_text, far_date_text, instant_text, time_text
from .invalid import InvalidTable, RowTooLarge
from .sizes import OBJECTS, least_of_rows
from .values import key_text, plain_decimal, plain_value

if TYPE_CHECKING:
    import pyarrow


# of one row, as Python objects; it has several times as many
ROW_BYTES: Final = 256 * MIB
# of a document: a result has its rows in a list in a field
DOCUMENT_DEPTH: Final = RESULT_DEPTH - 3


def rows_of(batch: pyarrow.RecordBatch, first: int = 0) -> list[dict[str, Any]]:
    """`batch`: validated. `first`: the number of its first row, for messages. Of instants and durations what is below a
    microsecond is left out; those that Python has no value for are texts. Raises InvalidTable, which names the row and
    the column."""
    check_sizes(batch, 0, batch.num_rows, first)
    return small_rows_of(batch, first)


def small_rows_of(batch: pyarrow.RecordBatch, first: int = 0) -> list[dict[str, Any]]:
    """The same of rows that are known to be small."""
    names = batch.schema.names
    columns = [column_values(column, field, first) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if columns else []


def column_values(column: pyarrow.Array, field: pyarrow.Field, first: int) -> list[Any]:
    """As `values_of`, but an error names the column and the row."""
    form = form_of(field)
    try:
        return values_of(column, form)
    except _NO_VALUE as error:
        row = error.row if isinstance(error, _Unreadable) else _first_without_value(column, form)
        raise InvalidTable(f"row {first + row}, column {field.name!r:.200}: {error}") from error


# of pyarrow, whose own errors are among them, for what it does not convert
_NO_VALUE: Final = (ArithmeticError, ValueError, NotImplementedError, LookupError, TypeError)


def _first_without_value(column: pyarrow.Array, form: str | None) -> int:
    for row in range(len(column)):
        try:
            values_of(column.slice(row, 1), form)
        except _NO_VALUE:
            return row
    return 0


def check_sizes(batch: pyarrow.RecordBatch, start: int, stop: int, first: int) -> None:
    """Raises RowTooLarge. Most batches are smaller than what one row may be."""
    size = least_of_rows(batch, start, stop, OBJECTS)
    if size <= ROW_BYTES:
        return
    if stop - start > 1:
        middle = (start + stop) // 2
        check_sizes(batch, start, middle, first)
        check_sizes(batch, middle, stop, first)
        return
    sizes = [least_of_rows(batch.select([index]), start, stop, OBJECTS) for index in range(batch.num_columns)]
    name = batch.schema.names[sizes.index(max(sizes))]
    raise RowTooLarge(
        f"row {first + start}, column {name!r:.200}: as a value the row takes at least {size // MIB} MiB, and at most "
        f"{ROW_BYTES // MIB} MiB are converted; tools that take tables can read it in parts"
    )


class _Unreadable(InvalidTable):
    """A value that is not what the form of its column says. `row`: in the column."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def values_of(column: pyarrow.Array, form: str | None = None) -> list[Any]:
    """`form`: see `forms`. Raises InvalidTable for texts that are not what it says."""
    import pyarrow
    import pyarrow.types as t

    kind = column.type
    if t.is_string(kind) or t.is_large_string(kind):
        values = column.to_pylist()
        return values if form is None else _read(values, form)
    if t.is_boolean(kind) or t.is_integer(kind):
        return list(column.to_pylist())
    if t.is_temporal(kind):
        return _temporal(column, form == "postgres")
    if t.is_dictionary(kind):
        return _picked(column.dictionary, column.indices.to_pylist())
    if t.is_run_end_encoded(kind):
        return _of_runs(column)
    if t.is_nested(kind):
        return _nested(column)
    if isinstance(kind, pyarrow.BaseExtensionType) and not has_python_value(kind):
        return values_of(column.storage)
    return list(map(plain_value, column.to_pylist()))


def has_python_value(kind: pyarrow.DataType) -> bool:
    """Whether the values of an extension are others than those that it is stored as."""
    import pyarrow

    return isinstance(kind, pyarrow.UuidType | pyarrow.Bool8Type)


def _read(texts: Iterable[str | None], form: str) -> list[Any]:
    read: Callable[[str], Any] = {"json": _document, "decimal": _number}.get(form, str)
    values: list[Any] = []
    try:
        for text in texts:
            values.append(None if text is None else read(text))
    except InvalidTable as error:
        raise _Unreadable(len(values), str(error)) from error
    return values


def _document(text: str) -> Any:
    try:
        try:
            value = orjson.loads(text)
        except ValueError:
            value = json.loads(text)
    except RecursionError:
        raise InvalidTable(_TOO_DEEP) from None
    except ValueError as error:
        raise InvalidTable(f"the text is no JSON: {error}") from error
    # the depth cannot exceed the number of brackets, which few texts have so many of
    may_be_deep = len(text) > 2 * DOCUMENT_DEPTH and text.count("[") + text.count("{") > DOCUMENT_DEPTH
    if may_be_deep and is_deeper(value, DOCUMENT_DEPTH):
        raise InvalidTable(_TOO_DEEP)
    return value


_TOO_DEEP: Final = f"the document is nested deeper than {DOCUMENT_DEPTH} levels"


def _number(text: str) -> int | float | str | None:
    try:
        return plain_decimal(Decimal(text))
    except (InvalidOperation, OverflowError) as error:
        raise InvalidTable(f"{text!r:.200} is no number") from error


def _temporal(column: pyarrow.Array, postgres: bool) -> list[str | None]:
    import pyarrow
    import pyarrow.types as t

    kind = column.type
    if t.is_interval(kind):
        return list(map(_interval, column.to_pylist()))
    if not t.is_duration(kind):
        return _instants(column, postgres)
    if kind.unit == "ns":
        column = column.cast(pyarrow.duration("us"), safe=False)
    factor = _MICROSECONDS[column.type.unit]
    numbers = column.cast(pyarrow.int64()).to_pylist()
    return [None if number is None else duration_text(number * factor) for number in numbers]


# of a unit of Arrow
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}


def _instants(column: pyarrow.Array, postgres: bool) -> list[str | None]:
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as t

    kind = column.type
    if t.is_time(kind):
        numbers = column.cast(pyarrow.time64("us"), safe=False).cast(pyarrow.int64())
        ends = compute.min_max(numbers).as_py()
        # in SQL, the end of a day is one as well
        if postgres or (ends["max"] is not None and (ends["max"] >= DAY_MICROSECONDS or ends["min"] < 0)):
            # six digits of a fraction, as Python writes them of all others
            return [None if number is None else time_text(number, postgres) for number in numbers.to_pylist()]
    if t.is_timestamp(kind) or t.is_time64(kind):
        column = column.cast(_in_microseconds(kind), safe=False) if kind.unit == "ns" else column
    try:
        texts = [None if value is None else value.isoformat() for value in column.to_pylist()]
    except _NOT_OF_PYTHON:
        return _far(column, postgres)
    return list(map(_without_zeros, texts)) if postgres and t.is_timestamp(kind) else texts


# beyond its calendar, or in a zone that is not known here
_NOT_OF_PYTHON: Final = (OverflowError, ValueError, LookupError)


def _far(column: pyarrow.Array, postgres: bool) -> list[str | None]:
    """Of dates and instants, some of which are beyond the calendar of Python."""
    import pyarrow
    import pyarrow.types as t

    kind = column.type
    if t.is_date32(kind):
        days = column.cast(pyarrow.int32()).to_pylist()
        return [None if day is None else date_text(day, postgres) for day in days]
    if t.is_date64(kind):
        numbers = column.cast(pyarrow.int64()).to_pylist()
        return [None if number is None else far_date_text(number // (DAY_MICROSECONDS // 1000)) for number in numbers]
    factor = _MICROSECONDS[kind.unit]
    texts: list[str | None] = []
    for index, number in enumerate(column.cast(pyarrow.int64()).to_pylist()):
        try:
            value = column[index].as_py()
            text = None if value is None else value.isoformat()
            texts.append(_without_zeros(text) if postgres else text)
        except _NOT_OF_PYTHON:
            texts.append(instant_text(number * factor, kind.tz is not None, postgres))
    return texts


def _without_zeros(text: str | None) -> str | None:
    """An instant without zeros at the end of its fraction, which has six digits."""
    if text is None or text[19:20] != ".":
        return text
    return text[:26].rstrip("0") + text[26:]


def _in_microseconds(kind: pyarrow.DataType) -> pyarrow.DataType:
    import pyarrow

    return pyarrow.timestamp("us", kind.tz) if pyarrow.types.is_timestamp(kind) else pyarrow.time64("us")


def _interval(value: Any) -> str | None:
    """As DuckDB gives an interval to Python: a month has 30 days."""
    if value is None:
        return None
    return duration_text((30 * value.months + value.days) * DAY_MICROSECONDS + value.nanoseconds // 1000)


# -- values in values


def _nested(column: pyarrow.Array) -> list[Any]:
    import pyarrow.types as t

    kind = column.type
    if t.is_union(kind):
        return _of_union(column)
    if t.is_struct(kind):
        names = [field.name for field in kind]
        fields = [values_of(column.field(index)) for index in range(len(names))]
        rows: Iterable[tuple[Any, ...]] = zip(*fields, strict=True) if fields else [()] * len(column)
        return _valid(column, [dict(zip(names, row, strict=True)) for row in rows])
    if t.is_list_view(kind) or t.is_large_list_view(kind):
        return _of_views(column)
    if t.is_fixed_size_list(kind):
        ends = [kind.list_size * at for at in range(column.offset, column.offset + len(column) + 1)]
    else:
        ends = column.offsets.to_pylist()
    first, count = ends[0], ends[-1] - ends[0]
    within = [(start - first, end - first) for start, end in pairwise(ends)]
    if t.is_map(kind):
        keys, items = (values_of(part.slice(first, count)) for part in (column.keys, column.items))
        pairs = list(zip(map(key_text, keys), items, strict=True))
        return _valid(column, [dict(pairs[start:end]) for start, end in within])
    values = values_of(column.values.slice(first, count))
    return _valid(column, [values[start:end] for start, end in within])


def _valid(column: pyarrow.Array, values: list[Any]) -> list[Any]:
    if not column.null_count:
        return values
    return [value if valid else None for value, valid in zip(values, column.is_valid().to_pylist(), strict=True)]


def _of_views(column: pyarrow.Array) -> list[Any]:
    """Several lists may have the same items."""
    valid = column.is_valid().to_pylist()
    sizes = [size if is_valid else 0 for size, is_valid in zip(column.sizes.to_pylist(), valid, strict=True)]
    places = [range(start, start + size) for start, size in zip(column.offsets.to_pylist(), sizes, strict=True)]
    items = iter(_picked(column.values, list(chain.from_iterable(places))))
    return _valid(column, [list(islice(items, size)) for size in sizes])


def _of_union(column: pyarrow.Array) -> list[Any]:
    found: list[Any] = [None] * len(column)
    rows: dict[int, list[int]] = {}
    members = [member_of_union(column, row) for row in range(len(column))]
    for row, (index, _) in enumerate(members):
        rows.setdefault(index, []).append(row)
    for index, mine in rows.items():
        for row, value in zip(mine, _picked(column.field(index), [members[row][1] for row in mine]), strict=True):
            found[row] = value
    return found


def member_of_union(column: pyarrow.Array, row: int) -> tuple[int, int]:
    """Of a value: the index of its field, and its place there."""
    # pyarrow gives those of a slice as if it began with the first value
    _, codes, *offsets = column.buffers()[:3]
    at = column.offset + row
    index = column.type.type_codes.index(memoryview(codes).cast("b")[at])
    return index, memoryview(offsets[0]).cast("B").cast("i")[at] if column.type.mode == "dense" else row


def _of_runs(column: pyarrow.Array) -> list[Any]:
    first, count = column.find_physical_offset(), column.find_physical_length()
    values = values_of(column.values.slice(first, count))
    found: list[Any] = []
    for value, end in zip(values, column.run_ends.slice(first, count).to_pylist(), strict=True):
        found += [value] * (min(end - column.offset, len(column)) - len(found))
    return found


def _picked(column: pyarrow.Array, places: list[int | None]) -> list[Any]:
    """The values at these places, of which others are not converted where they are many: `take` lacks some types."""
    used = sorted({place for place in places if place is not None})
    if used and used[-1] - used[0] < 2 * len(used):
        first = used[0]
        values = values_of(column.slice(first, used[-1] - first + 1))
        return [None if place is None else values[place - first] for place in places]
    by_place = {place: values_of(column.slice(place, 1))[0] for place in used}
    return [None if place is None else by_place[place] for place in places]
