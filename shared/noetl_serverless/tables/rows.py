"""Rows of a batch as JSON values, the same whatever tool has made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..limits import MIB, RESULT_DEPTH
from ..playbook.values import is_deeper
from .forms import form_of
from .instants import DAY_MICROSECONDS, date_text, instant_text, time_text
from .invalid import InvalidTable, RowTooLarge
from .sizes import OBJECTS, least_of_rows
from .values import plain_decimal, plain_value

if TYPE_CHECKING:
    import pyarrow


# of one row, as Python objects; it has several times as many
ROW_BYTES: Final = 256 * MIB
# of a document: a result has its rows in a list in a field
DOCUMENT_DEPTH: Final = RESULT_DEPTH - 3


def rows_of(batch: pyarrow.RecordBatch, first: int = 0) -> list[dict[str, Any]]:
    """`batch`: validated. `first`: the number of its first row, for messages. Of instants and durations what is below a
    microsecond is left out. Raises InvalidTable, which names the row and the column."""
    check_sizes(batch, 0, batch.num_rows, first)
    return small_rows_of(batch, first)


def small_rows_of(batch: pyarrow.RecordBatch, first: int = 0) -> list[dict[str, Any]]:
    """The same of rows that are known to be small."""
    names = batch.schema.names
    columns = [column_values(column, field, first) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if columns else []


def column_values(column: pyarrow.Array, field: pyarrow.Field, first: int) -> list[Any]:
    """As `values_of`, but an error names the column and the row."""
    try:
        return values_of(column, form_of(field))
    except _Unreadable as error:
        raise InvalidTable(f"row {first + error.row}, column {field.name!r:.200}: {error}") from error


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
    import pyarrow.types as t

    kind = column.type
    if t.is_string(kind) or t.is_large_string(kind):
        values = column.to_pylist()
        return values if form is None else _read(values, form)
    if t.is_boolean(kind) or t.is_integer(kind):
        return list(column.to_pylist())
    if t.is_date32(kind) or t.is_timestamp(kind) or t.is_time(kind):
        return _instants(column, form == "postgres")
    if t.is_duration(kind) and kind.unit == "ns":
        import pyarrow

        column = column.cast(pyarrow.duration("us"), safe=False)
    elif t.is_interval(kind):
        return list(map(_interval, column.to_pylist()))
    elif t.is_nested(kind):
        return _nested(column)
    return [plain_value(value) for value in column.to_pylist(maps_as_pydicts="lossy")]


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


def _instants(column: pyarrow.Array, postgres: bool) -> list[str | None]:
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as t

    kind = column.type
    if t.is_time(kind):
        numbers = column.cast(pyarrow.time64("us"), safe=False).cast(pyarrow.int64())
        last = compute.max(numbers).as_py()
        # in SQL, the end of a day is one as well
        if postgres or (last is not None and last >= DAY_MICROSECONDS):
            return [None if number is None else time_text(number) for number in numbers.to_pylist()]
    if t.is_timestamp(kind) or t.is_time64(kind):
        column = column.cast(_in_microseconds(kind), safe=False) if kind.unit == "ns" else column
    try:
        texts = [None if value is None else value.isoformat() for value in column.to_pylist()]
    except (OverflowError, ValueError):
        return _far(column, postgres)
    return list(map(_without_zeros, texts)) if postgres and t.is_timestamp(kind) else texts


def _far(column: pyarrow.Array, postgres: bool) -> list[str | None]:
    """Of dates and instants, some of which are beyond the calendar of Python."""
    import pyarrow
    import pyarrow.types as t

    kind = column.type
    if t.is_date32(kind):
        days = column.cast(pyarrow.int32()).to_pylist()
        return [None if day is None else date_text(day, postgres) for day in days]
    factor = {"s": 1_000_000, "ms": 1_000, "us": 1}[kind.unit]
    texts: list[str | None] = []
    for index, number in enumerate(column.cast(pyarrow.int64()).to_pylist()):
        try:
            value = column[index].as_py()
            text = None if value is None else value.isoformat()
            texts.append(_without_zeros(text) if postgres else text)
        except (OverflowError, ValueError):
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
    return str(timedelta(days=30 * value.months + value.days, microseconds=value.nanoseconds // 1000))


def _nested(column: pyarrow.Array) -> list[Any]:
    if not _is_special(column.type):
        try:
            return [plain_value(value) for value in column.to_pylist(maps_as_pydicts="lossy")]
        except (OverflowError, ValueError):
            pass
    return [of_scalar(scalar) for scalar in column]


def _is_special(kind: pyarrow.DataType) -> bool:
    """Whether there are parts in it that pyarrow does not convert as this module does."""
    import pyarrow.types as t

    if t.is_interval(kind) or t.is_time(kind):
        return True
    if t.is_timestamp(kind) or t.is_duration(kind):
        return bool(kind.unit == "ns")
    return any(_is_special(kind.field(index).type) for index in range(kind.num_fields))


def of_scalar(scalar: pyarrow.Scalar) -> Any:
    import pyarrow
    import pyarrow.types as t

    kind = scalar.type
    if not scalar.is_valid:
        return None
    if t.is_union(kind):
        return of_scalar(scalar.value)
    if t.is_struct(kind):
        return {name: of_scalar(value) for name, value in scalar.items()}
    if t.is_map(kind):
        keys, values = scalar.values.field(0), scalar.values.field(1)
        pairs = zip(values_of(keys), map(of_scalar, values), strict=True)
        return {str(key): value for key, value in pairs}
    if t.is_nested(kind):
        return [of_scalar(value) for value in scalar.values]
    return values_of(pyarrow.array([scalar], kind))[0]
