"""The first rows of a table, of whose large values only the beginning is converted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from .forms import is_document
from .rows import column_values, has_python_value, member_of_union, values_of
from .sizes import JSON, least
from .values import plain_value

if TYPE_CHECKING:
    import pyarrow

# by how much the values of a column may be larger than what is shown of them, and are converted as usual
_FACTOR: Final = 16


def beginning_of(batch: pyarrow.RecordBatch, limit: int, first: int = 0) -> list[dict[str, Any]]:
    """The rows of `batch`, which has few of them and is validated. The first `limit` bytes of their JSON are those of
    the whole rows; a large document is there as it was written. Raises InvalidTable."""
    names = batch.schema.names
    columns: list[list[Any]] = []
    for column, field in zip(batch.columns, batch.schema, strict=True):
        if least(column, 0, len(column), JSON) <= _FACTOR * limit:
            columns.append(column_values(column, field, first))
        elif is_document(field):
            columns.append([_document(column.slice(row, 1), field, first + row, limit) for row in range(len(column))])
        else:
            columns.append([_Cut(limit).value(column, row) for row in range(len(column))])
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if columns else []


def _document(column: pyarrow.Array, field: pyarrow.Field, row: int, limit: int) -> Any:
    if least(column, 0, 1, JSON) <= _FACTOR * limit:
        return column_values(column, field, row)[0]
    return orjson.Fragment(_first_bytes(column[0], limit + 1))


def _first_bytes(scalar: pyarrow.Scalar, count: int) -> bytes:
    return bytes(memoryview(scalar.as_buffer())[:count])


class _Cut:
    """Of one value at most `left` parts are made: each takes a byte at least."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit

    def value(self, column: pyarrow.Array, row: int) -> Any:
        import pyarrow
        import pyarrow.types as t

        kind = column.type
        if t.is_union(kind):
            index, place = member_of_union(column, row)
            return self.value(column.field(index), place)
        if t.is_run_end_encoded(kind):
            return self.value(column.values, column.slice(row, 1).find_physical_offset())
        self.left -= 1
        # a scalar of a null list over runs is a segmentation fault in pyarrow, so that there are none of nested values
        if column.slice(row, 1).null_count:
            return None
        if t.is_dictionary(kind):
            return self.value(column.dictionary, column.indices[row].as_py())
        if isinstance(kind, pyarrow.BaseExtensionType) and not has_python_value(kind):
            return self.value(column.storage, row)
        if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
            return _first_bytes(column[row], self.limit).decode(errors="ignore")
        if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind):
            return plain_value(_first_bytes(column[row], self.limit))
        if t.is_struct(kind):
            names = [field.name for field in kind]
            return {names[index]: self.value(column.field(index), row) for index in self._while_left(range(len(names)))}
        if t.is_map(kind):
            keys, values = column.keys, column.items
            places = self._while_left(_places_of_items(column, row))
            return {str(self.value(keys, place)): self.value(values, place) for place in places}
        if t.is_nested(kind):
            items = column.values
            return [self.value(items, place) for place in self._while_left(_places_of_items(column, row))]
        return values_of(column.slice(row, 1))[0]

    def _while_left(self, places: range) -> Iterator[int]:
        for place in places:
            if self.left <= 0:
                return
            yield place


def _places_of_items(column: pyarrow.Array, row: int) -> range:
    import pyarrow.types as t

    kind = column.type
    if t.is_fixed_size_list(kind):
        start = kind.list_size * (column.offset + row)
        return range(start, start + kind.list_size)
    start = column.offsets[row].as_py()
    if t.is_list_view(kind) or t.is_large_list_view(kind):
        return range(start, start + column.sizes[row].as_py())
    return range(start, column.offsets[row + 1].as_py())
