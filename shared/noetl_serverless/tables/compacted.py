"""Columns without what no row shows: bytes under nulls, around slices, and in entries of dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


def can_be_compacted(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return can_be_compacted(kind.value_type)
    if t.is_nested(kind):
        is_known = t.is_struct(kind) or t.is_map(kind) or _is_list(kind) or t.is_fixed_size_list(kind)
        return is_known and all(can_be_compacted(kind.field(at).type) for at in range(kind.num_fields))
    is_view = t.is_string_view(kind) or t.is_binary_view(kind)
    return not (is_view or t.is_run_end_encoded(kind) or hasattr(kind, "storage_type"))


def compacted(column: pyarrow.Array) -> pyarrow.Array:
    """The same values and type, in buffers that hold nothing else. `column`: of a type that can be."""
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as t

    kind = column.type
    if t.is_dictionary(kind):
        # a slice has few entries of a large dictionary
        used = column.indices.unique().drop_null()
        places = compute.index_in(column.indices, used).cast(kind.index_type)
        entries = compacted(column.dictionary.take(used))
        return pyarrow.DictionaryArray.from_arrays(compacted(places), entries, ordered=kind.ordered)
    if t.is_struct(kind):
        # each without what a null has in it
        return _built(column, [], [compacted(field) for field in column.flatten()])
    if t.is_map(kind) or _is_list(kind):
        return _list(column)
    if t.is_fixed_size_list(kind):
        # a null has a list of nulls
        values = _taken(column).values
        return _built(column, [], [compacted(values)])
    return _taken(column)


def _is_list(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_list(kind) or t.is_large_list(kind))


def _list(column: pyarrow.Array) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as compute

    kind = column.type
    if pyarrow.types.is_map(kind):
        # which is a list of pairs
        buffers, values = column.buffers()[:2], [_pairs(column)]
        pairs = pyarrow.list_(pyarrow.field("entries", values[0].type, nullable=False))
        column = pyarrow.Array.from_buffers(pairs, len(column), buffers, offset=column.offset, children=values)
    lengths = compute.fill_null(compute.list_value_length(column), 0)
    ends = pyarrow.concat_arrays([pyarrow.array([0], lengths.type), compute.cumulative_sum(lengths)])
    values = [compacted(column.flatten())]
    return _built(column, [ends.buffers()[1]], values, kind)


def _pairs(column: pyarrow.MapArray) -> pyarrow.StructArray:
    """Of all rows, of whatever slice it is."""
    import pyarrow

    kind = column.type
    fields = [kind.key_field, kind.item_field]
    return pyarrow.StructArray.from_arrays([column.keys, column.items], fields=fields)


def _built(
    column: pyarrow.Array,
    buffers: list[pyarrow.Buffer],
    children: list[pyarrow.Array],
    kind: pyarrow.DataType | None = None,
) -> pyarrow.Array:
    import pyarrow

    valid = column.is_valid().buffers()[1] if column.null_count else None
    kind = column.type if kind is None else kind
    return pyarrow.Array.from_buffers(kind, len(column), [valid, *buffers], children=children)


def _taken(column: pyarrow.Array) -> pyarrow.Array:
    """A copy in which nulls have no bytes, or zeros."""
    import pyarrow

    return column.take(pyarrow.array(range(len(column)), pyarrow.int64()))
