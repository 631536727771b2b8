"""Batches as they are written as Parquet, whose writer takes no dictionary with a null among its entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


def written_schema(schema: pyarrow.Schema) -> pyarrow.Schema:
    """With the values in the place of dictionaries that are in lists, structs and maps."""
    import pyarrow

    return pyarrow.schema([field.with_type(_written(field.type)) for field in schema], schema.metadata)


def written_batch(batch: pyarrow.RecordBatch, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """`schema`: that which is written."""
    import pyarrow
    import pyarrow.types as t

    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if t.is_dictionary(column.type):
            columns.append(_without_null_entries(column))
        else:
            columns.append(column if column.type == field.type else column.cast(field.type))
    return pyarrow.record_batch(columns, schema)


def _without_null_entries(column: pyarrow.DictionaryArray) -> pyarrow.DictionaryArray:
    """With a null in the place of each index of one."""
    import pyarrow

    entries = column.dictionary
    if not entries.null_count:
        return column
    places: list[int | None] = []
    count = 0
    for is_valid in entries.is_valid().to_pylist():
        places.append(count if is_valid else None)
        count += is_valid
    indices = pyarrow.array(places, column.type.index_type).take(column.indices)
    return pyarrow.DictionaryArray.from_arrays(indices, entries.drop_null(), ordered=column.type.ordered)


def _written(kind: pyarrow.DataType) -> pyarrow.DataType:
    import pyarrow
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return kind
    decoded = _decoded(kind)
    try:
        pyarrow.array([], kind).cast(decoded)
    except (pyarrow.ArrowException, NotImplementedError):
        # what has no null among its entries is written all the same
        return kind
    return decoded


def _decoded(kind: pyarrow.DataType) -> pyarrow.DataType:
    import pyarrow
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return kind.value_type
    if t.is_struct(kind):
        return pyarrow.struct([field.with_type(_decoded(field.type)) for field in kind])
    if t.is_map(kind):
        key, item = (field.with_type(_decoded(field.type)) for field in (kind.key_field, kind.item_field))
        return pyarrow.map_(key, item, kind.keys_sorted)
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        values = kind.value_field.with_type(_decoded(kind.value_type))
        if t.is_fixed_size_list(kind):
            return pyarrow.list_(values, kind.list_size)
        return pyarrow.large_list(values) if t.is_large_list(kind) else pyarrow.list_(values)
    return kind
