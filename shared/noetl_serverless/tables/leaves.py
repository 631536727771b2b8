"""The arrays without nesting that hold what the rows of a column show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .compacted import can_be_compacted
from .unions import has_dense_union

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, slots=True)
class Leaf:
    values: pyarrow.Array
    # of maps: rows have them as names
    are_keys: bool


def leaves(column: pyarrow.Array, are_keys: bool = False) -> Iterator[Leaf]:
    """Each value once, however many rows have it, and none that no row has, except nulls. `column`: validated. Types of
    extensions are taken for values without nesting.

    `flatten` and `take` of pyarrow do not know every type, and end the process for some: those are taken apart by
    slices, of which there are as many as there are gaps.
    """
    import pyarrow.compute as compute
    import pyarrow.types as t

    kind = column.type
    if not len(column):
        return
    if t.is_dictionary(kind):
        used = compute.array_sort_indices(places := _numbers(column.indices.unique().drop_null()))
        yield from _of_all(_each(column.dictionary, places.take(used)), are_keys)
    elif t.is_run_end_encoded(kind):
        runs = column.values.slice(column.find_physical_offset(), column.find_physical_length())
        yield from leaves(runs, are_keys)
    elif t.is_struct(kind):
        valid = _numbers(compute.indices_nonzero(column.is_valid())) if column.null_count else None
        for at in range(kind.num_fields):
            field = column.field(at)
            yield from _of_all([field] if valid is None else _each(field, valid), are_keys)
    elif t.is_union(kind):
        yield from _of_all(_members(column), are_keys)
    elif t.is_map(kind):
        yield from _of_all(_items(column, column.keys), are_keys=True)
        yield from _of_all(_items(column, column.items), are_keys)
    elif t.is_nested(kind):
        yield from _of_all(_items(column, column.values), are_keys)
    else:
        yield Leaf(column, are_keys)


def _of_all(columns: Iterable[pyarrow.Array], are_keys: bool) -> Iterator[Leaf]:
    for column in columns:
        yield from leaves(column, are_keys)


def _items(column: pyarrow.Array, values: pyarrow.Array) -> list[pyarrow.Array]:
    """Of `values`, those that are in a list."""
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as t

    kind = column.type
    if t.is_fixed_size_list(kind):
        size = kind.list_size
        starts = pyarrow.array(range(size * column.offset, size * (column.offset + len(column)), size or 1))
        starts = starts if size else pyarrow.array([0] * len(column), pyarrow.int64())
        ends = compute.add(starts, size)
    elif t.is_list_view(kind) or t.is_large_list_view(kind):
        starts = _numbers(column.offsets)
        ends = compute.add(starts, _numbers(column.sizes))
    else:
        offsets = _numbers(column.offsets)
        starts, ends = offsets[:-1], offsets[1:]
    has_items = compute.and_(column.is_valid(), compute.less(starts, ends))
    starts, ends = starts.filter(has_items), ends.filter(has_items)
    if t.is_list_view(kind) or t.is_large_list_view(kind):
        order = compute.array_sort_indices(starts)
        starts, ends = starts.take(order), ends.take(order)
    return _between(values, starts, ends)


def _members(column: pyarrow.UnionArray) -> Iterator[pyarrow.Array]:
    import pyarrow
    import pyarrow.compute as compute

    kind = column.type
    # pyarrow gives the codes and offsets of a slice as if it began with the first value
    buffers = column.buffers()
    codes = pyarrow.Array.from_buffers(pyarrow.int8(), len(column), [None, buffers[1]], offset=column.offset)
    for index, code in enumerate(kind.type_codes):
        places = _numbers(compute.indices_nonzero(compute.equal(codes, pyarrow.scalar(code, pyarrow.int8()))))
        if kind.mode == "dense":
            offsets = pyarrow.Array.from_buffers(
                pyarrow.int32(), len(column), [None, buffers[2]], offset=column.offset
            ).take(places)
            used = offsets.unique()
            places = _numbers(used.take(compute.array_sort_indices(used)))
        yield from _each(column.field(index), places)


def _each(values: pyarrow.Array, places: pyarrow.Array) -> list[pyarrow.Array]:
    """Of `values`, those at these places, which are in order."""
    import pyarrow.compute as compute

    if can_be_compacted(values.type):
        return [values.take(places)] if len(places) else []
    return _between(values, places, compute.add(places, 1))


def _between(values: pyarrow.Array, starts: pyarrow.Array, ends: pyarrow.Array) -> list[pyarrow.Array]:
    """Of `values`, those that are in any of these ranges, which are in the order of their starts: in one array, unless
    each slice would bring all values of a dense union with it."""
    import pyarrow
    import pyarrow.compute as compute

    count = len(starts)
    if not count:
        return []
    reached = compute.cumulative_max(ends)
    # where one does not touch those before it
    gaps = compute.indices_nonzero(compute.greater(starts[1:], reached[:-1])).to_pylist()
    firsts, lasts = [0, *(at + 1 for at in gaps)], [*gaps, count - 1]
    starts, ends = starts.take(pyarrow.array(firsts)), reached.take(pyarrow.array(lasts))
    between = zip(starts.to_pylist(), ends.to_pylist(), strict=True)
    slices = [values.slice(start, end - start) for start, end in between]
    return slices if len(slices) == 1 or has_dense_union(values.type) else [pyarrow.concat_arrays(slices)]


def _numbers(column: pyarrow.Array) -> pyarrow.Array:
    import pyarrow

    return column.cast(pyarrow.int64())
