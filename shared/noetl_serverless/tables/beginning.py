"""The first rows of a table, of whose large values only the beginning is converted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson

from .forms import form_of
from .rows import column_values, of_scalar
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
        elif form_of(field) == "json":
            columns.append([_document(column.slice(row, 1), field, first + row, limit) for row in range(len(column))])
        else:
            columns.append([_Cut(limit).value(scalar) for scalar in column])
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

    def value(self, scalar: pyarrow.Scalar) -> Any:
        import pyarrow
        import pyarrow.types as t

        self.left -= 1
        kind = scalar.type
        if not scalar.is_valid:
            return None
        is_run = t.is_run_end_encoded(kind)
        if is_run or isinstance(kind, pyarrow.BaseExtensionType) or t.is_union(kind) or t.is_dictionary(kind):
            return self.value(scalar.value)
        if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
            return _first_bytes(scalar, self.limit).decode(errors="ignore")
        if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind):
            return plain_value(_first_bytes(scalar, self.limit))
        if t.is_struct(kind):
            return {kind.field(index).name: self.value(scalar[index]) for index in self._while_left(kind.num_fields)}
        if t.is_map(kind):
            keys, values = scalar.values.field(0), scalar.values.field(1)
            return {str(self.value(keys[index])): self.value(values[index]) for index in self._while_left(len(keys))}
        if t.is_nested(kind):
            items = scalar.values
            return [self.value(items[index]) for index in self._while_left(len(items))]
        return of_scalar(scalar)

    def _while_left(self, count: int) -> Iterator[int]:
        for index in range(count):
            if self.left <= 0:
                return
            yield index
