"""How much values take at least, by what Arrow knows of their lengths: none of them is converted for that.

It is a lower bound for what pyarrow, DuckDB and PostgreSQL make; a table of task code may hide bytes below nulls, which
are counted as well.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..limits import MIB
from .forms import form_of, is_document

if TYPE_CHECKING:
    import pyarrow


@dataclass(kw_only=True, frozen=True, slots=True)
class Cost:
    """Bytes of any value, and of one that there is once for all its places, as a null; of a text and a container beside
    their content; of the place that an item of a container takes; whether names are in each object; and by how much a
    document may be larger as text. None for the last: it is there as text while its values are made."""

    value: int
    shared: int
    text: int
    container: int
    item: int
    names: bool
    document: int | None


# with a comma after each item but the last, and documents that have many blanks
JSON: Final = Cost(value=1, shared=1, text=2, container=1, item=1, names=True, document=16)
# of Python
OBJECTS: Final = Cost(value=8, shared=0, text=56, container=56, item=8, names=False, document=None)
# documents of less are not looked into: their objects take at most 24 times as much, for which there is room
_LOOKED_INTO: Final = 2 * MIB
# the marks of one document that would take so much are counted exactly
_DOUBTED: Final = 64 * MIB
# also one that does not end: from each quote in it another would be looked for otherwise, to the end of the text
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

_Measure = Callable[[Any, int, int, Cost], int]


def least_of_rows(batch: pyarrow.RecordBatch, start: int, stop: int, cost: Cost) -> int:
    """Of the rows from `start` on, before `stop`, as objects in a list."""
    # of several columns with one name the last counts
    columns = {name: index for index, name in enumerate(batch.schema.names)}
    if not columns:
        return 0
    names = sum(len(orjson.dumps(name)) + 1 for name in columns) if cost.names else 0
    each = cost.container + cost.item + names + cost.item * len(columns)
    return (stop - start) * each + sum(_of_column(batch, index, start, stop, cost) for index in columns.values())


def least(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    """Of the values from `start` on, before `stop`."""
    if start >= stop:
        return 0
    measure = _measures().get(column.type.id, _plain)
    return measure(column, start, stop, cost)


def _plain(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    if _is_shared(column.type):
        return cost.shared * (stop - start)
    return _with_nulls(cost.value, column, start, stop, cost)


def _with_nulls(each: int, column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    nulls = _nulls(column, start, stop)
    return each * (stop - start - nulls) + cost.shared * nulls


def _is_shared(kind: pyarrow.DataType) -> bool:
    """Whether Python has each value of the type once."""
    import pyarrow.types as t

    return bool(t.is_null(kind) or t.is_boolean(kind) or t.is_int8(kind) or t.is_uint8(kind))


def _of_column(batch: pyarrow.RecordBatch, index: int, start: int, stop: int, cost: Cost) -> int:
    column, field = batch.column(index), batch.schema.field(index)
    found = least(column, start, stop, cost)
    if form_of(field) not in ("json", "decimal"):
        return found
    if cost.document is not None:
        return max(found // cost.document, cost.shared * (stop - start))
    return found + _of_documents(column.slice(start, stop - start)) if is_document(field) else found


def _of_documents(texts: pyarrow.Array) -> int:
    """Of the objects and lists in them, which are many times as large as their brackets."""
    content = _content(texts)
    if len(content) < _LOOKED_INTO:
        return 0
    found = sum(_of_marks(bytes(content[at : at + MIB])) for at in range(0, len(content), MIB))
    if len(texts) > 1 or found < _DOUBTED:
        return found
    # are they in strings?
    return _of_marks(_STRINGS.sub(b"", content))


def _of_marks(json: bytes) -> int:
    return 64 * json.count(b"{") + 56 * json.count(b"[") + 16 * json.count(b":") + 8 * json.count(b",")


def _content(texts: pyarrow.Array) -> memoryview:
    """The bytes of all of them, one after the other."""
    _, ends, data = texts.buffers()
    if data is None:
        return memoryview(b"")
    layout = "<q" if texts.type == "large_string" else "<i"
    size = struct.calcsize(layout)
    first, last = (struct.unpack_from(layout, ends, size * (texts.offset + at))[0] for at in (0, len(texts)))
    return memoryview(data).cast("B")[first:last]


@cache
def _measures() -> Mapping[int, _Measure]:
    """By the ids of types; those of all others have one size."""
    import pyarrow

    ids: Any = pyarrow.lib
    by_name: dict[str, _Measure] = {
        "STRING": _texts("<i"),
        "BINARY": _texts("<i"),
        "LARGE_STRING": _texts("<q"),
        "LARGE_BINARY": _texts("<q"),
        "STRING_VIEW": _views,
        "BINARY_VIEW": _views,
        "FIXED_SIZE_BINARY": _of_one_width,
        "LIST": _lists,
        "LARGE_LIST": _lists,
        "FIXED_SIZE_LIST": _lists_of_one_length,
        "LIST_VIEW": _list_views,
        "LARGE_LIST_VIEW": _list_views,
        "MAP": _maps,
        "STRUCT": _structs,
        "SPARSE_UNION": _unions,
        "DENSE_UNION": _unions,
        "DICTIONARY": _dictionaries,
        "RUN_END_ENCODED": _runs,
    }
    by_id = {getattr(ids, f"Type_{name}"): measure for name, measure in by_name.items()}
    # which all types of extensions have
    by_id[pyarrow.uuid().id] = lambda column, start, stop, cost: least(column.storage, start, stop, cost)
    return by_id


def _nulls(column: pyarrow.Array, start: int, stop: int) -> int:
    return int(column.slice(start, stop - start).null_count) if column.null_count else 0


def _texts(layout: str) -> _Measure:
    size = struct.calcsize(layout)

    def measure(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
        ends = column.buffers()[1]
        first, last = (struct.unpack_from(layout, ends, size * (column.offset + at))[0] for at in (start, stop))
        return _of_texts(last - first, column, start, stop, cost)

    return measure


def _of_texts(content: int, column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    nulls = _nulls(column, start, stop)
    return content + cost.text * (stop - start - nulls) + cost.shared * nulls


def _views(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    views = memoryview(column.buffers()[1]).cast("B")[16 * column.offset :]
    content = sum(memoryview(views[16 * start : 16 * stop]).cast("i")[::4])
    return _of_texts(content, column, start, stop, cost)


def _of_one_width(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    count = stop - start - _nulls(column, start, stop)
    return _of_texts(column.type.byte_width * count, column, start, stop, cost)


def _lists(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    first, last = _between(column, start, stop)
    found = _with_nulls(cost.container, column, start, stop, cost)
    return found + cost.item * (last - first) + least(column.values, first, last, cost)


def _between(column: pyarrow.Array, start: int, stop: int) -> tuple[int, int]:
    """Where the items of these lists are."""
    offsets = column.offsets
    return offsets[start].as_py(), offsets[stop].as_py()


def _lists_of_one_length(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    # if null, each has its items nevertheless
    length: int = column.type.list_size
    found = _with_nulls(cost.container, column, start, stop, cost)
    for valid, begin, end in _without_nulls(column, start, stop):
        first, last = (length * (valid.offset + at) for at in (begin, end))
        found += cost.item * (last - first) + least(valid.values, first, last, cost)
    return found


def _without_nulls(column: pyarrow.Array, start: int, stop: int) -> Iterator[tuple[pyarrow.Array, int, int]]:
    """Where the values are that are not null. pyarrow cannot take them out of every type: of one that it cannot, each
    run between two nulls."""
    from .compacted import can_be_compacted

    if not _nulls(column, start, stop):
        yield column, start, stop
    elif can_be_compacted(column.type):
        valid = column.slice(start, stop - start).drop_null()
        yield valid, 0, len(valid)
    else:
        at = start
        for is_valid, run in groupby(column.slice(start, stop - start).is_valid().to_pylist()):
            end = at + len(list(run))
            if is_valid:
                yield column, at, end
            at = end


def _list_views(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    found = _with_nulls(cost.container, column, start, stop, cost)
    for first, count in zip(column.offsets[start:stop].to_pylist(), column.sizes[start:stop].to_pylist(), strict=True):
        # several may have the same items
        found += cost.item * count + least(column.values, first, first + count, cost)
    return found


def _maps(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    first, last = _between(column, start, stop)
    pairs = column.values
    members = sum(least(pairs.field(index), first, last, cost) for index in (0, 1))
    return _with_nulls(cost.container, column, start, stop, cost) + 2 * cost.item * (last - first) + members


def _structs(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    count, nulls = stop - start, _nulls(column, start, stop)
    found = _with_nulls(cost.container, column, start, stop, cost)
    for index, field in enumerate(column.type):
        name = len(field.name.encode()) + 3 if cost.names else 0
        # below a null, what builds a struct leaves the shortest values
        content = least(column.field(index), start, stop, cost) - nulls * _of_shortest(field.type, cost)
        found += (name + cost.item) * (count - nulls) + max(0, content)
    return found


def _of_shortest(kind: pyarrow.DataType, cost: Cost) -> int:
    import pyarrow.types as t

    size: int
    if t.is_struct(kind):
        names = sum(len(field.name.encode()) + 3 for field in kind) if cost.names else 0
        members = sum(_of_shortest(field.type, cost) for field in kind)
        size = kind.num_fields
        return cost.container + names + cost.item * size + members
    if t.is_fixed_size_list(kind):
        size = kind.list_size
        return cost.container + size * (cost.item + _of_shortest(kind.value_type, cost))
    if t.is_nested(kind) and not t.is_union(kind):
        return cost.container
    if t.is_fixed_size_binary(kind):
        size = kind.byte_width
        return cost.text + size
    if kind.id in _measures():
        # of a dictionary, of runs and of a union it is not known
        return cost.text
    return cost.shared if _is_shared(kind) else cost.value


def _unions(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    kind = column.type
    # pyarrow gives those of a slice as if it began with the first value
    buffers = column.buffers()
    begin, end = column.offset + start, column.offset + stop
    codes = bytes(memoryview(buffers[1]).cast("B")[begin:end])
    members = {code: index for index, code in enumerate(kind.type_codes)}
    found, at = 0, 0
    for code, run in groupby(codes):
        count = len(list(run))
        member = column.field(members[code])
        if kind.mode == "sparse":
            found += least(member, start + at, start + at + count, cost)
        elif member.type.id not in _measures():
            found += min(cost.value, cost.shared) * count
        else:
            places = struct.unpack_from(f"<{count}i", buffers[2], 4 * (begin + at))
            found += sum(least(member, place, place + 1, cost) for place in places)
        at += count
    return found


def _dictionaries(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    import pyarrow.compute as compute

    values = column.dictionary
    if values.type.id not in _measures():
        # each value is there once
        return cost.shared * (stop - start)
    counts = compute.value_counts(column.indices[start:stop])
    found = 0
    for index, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
        found += count * (cost.shared if index is None else least(values, index, index + 1, cost))
    return found


def _runs(column: pyarrow.Array, start: int, stop: int, cost: Cost) -> int:
    values = column.values
    if values.type.id not in _measures():
        # each value is there once
        return cost.shared * (stop - start)
    ends = column.run_ends
    at, end = column.offset + start, column.offset + stop
    run = bisect.bisect_right(range(len(ends)), at, key=lambda index: ends[index].as_py())
    found = 0
    while at < end:
        last = min(end, ends[run].as_py())
        found += (last - at) * least(values, run, run + 1, cost)
        at, run = last, run + 1
    return found


# -- what takes no bytes in Arrow


def hidden_in(batch: pyarrow.RecordBatch) -> int:
    """The number of nested values that take no bytes. `batch`: need not be validated."""
    return sum(hidden(batch.column(index)) for index, kind in enumerate(batch.schema.types) if may_hide(kind))


def may_hide(kind: pyarrow.DataType) -> bool:
    """Whether it has nested values in any number, which take no bytes."""
    return any(_takes_nothing(it) or may_hide(it) for it in children(kind))


def hidden(column: pyarrow.Array) -> int:
    return sum(
        len(child) if _takes_nothing(child.type) else hidden(child) for child in _arrays(column) if _counts(child.type)
    )


def _counts(kind: pyarrow.DataType) -> bool:
    return _takes_nothing(kind) or may_hide(kind)


def _takes_nothing(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    if isinstance(kind, _extension()):
        return _takes_nothing(kind.storage_type)
    if t.is_null(kind) or t.is_run_end_encoded(kind):
        return True
    if t.is_fixed_size_binary(kind):
        return bool(kind.byte_width == 0)
    if t.is_fixed_size_list(kind):
        return kind.list_size == 0 or _takes_nothing(kind.value_type)
    return t.is_struct(kind) and all(_takes_nothing(field.type) for field in kind)


def children(kind: pyarrow.DataType) -> list[pyarrow.DataType]:
    """The types of the values within those of a nested type."""
    import pyarrow.types as t

    if isinstance(kind, _extension()):
        return children(kind.storage_type)
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return [kind.value_type]
    return [kind.field(index).type for index in range(kind.num_fields)]


def _arrays(column: pyarrow.Array) -> list[pyarrow.Array]:
    """The same as `children`, with the values."""
    import pyarrow.types as t

    kind = column.type
    if isinstance(kind, _extension()):
        return _arrays(column.storage)
    if t.is_dictionary(kind):
        return [column.dictionary]
    if t.is_struct(kind) or t.is_union(kind):
        return [column.field(index) for index in range(kind.num_fields)]
    return [column.values] if kind.num_fields else []


@cache
def _extension() -> Any:
    import pyarrow

    return pyarrow.BaseExtensionType
