from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables.compacted import can_be_compacted, compacted

HIDDEN = "hidden-from-every-row"
NUMBER = 7391824650

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["a", HIDDEN, "", None, "b"]),
    "large text": (pa.large_string(), ["a", HIDDEN, "", None, "b"]),
    "bytes": (pa.binary(), [b"a", HIDDEN.encode(), b"", None, b"b"]),
    "bytes of one length": (pa.binary(21), [b"a" * 21, HIDDEN.encode(), b"b" * 21, None, b"c" * 21]),
    "number": (pa.int64(), [1, NUMBER, 2, None, 3]),
    "decimal": (pa.decimal128(20, 2), [Decimal("1.25"), Decimal(NUMBER), Decimal("2.5"), None, Decimal("-3")]),
    "truth": (pa.bool_(), [True, False, True, None, False]),
    "null": (pa.null(), [None] * 5),
    "list": (pa.list_(pa.string()), [["a", "b"], [HIDDEN], [], None, ["c", None]]),
    "large list": (pa.large_list(pa.int64()), [[1, 2], [NUMBER], [], None, [3, None]]),
    "list of two": (pa.list_(pa.string(), 2), [["a", "b"], [HIDDEN, "x"], [None, "c"], None, ["d", "e"]]),
    "map": (pa.map_(pa.string(), pa.string()), [[("a", "b")], [(HIDDEN, HIDDEN)], [], None, [("c", None)]]),
    "struct": (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
        [{"a": "x", "b": [{"c": "y"}]}, {"a": HIDDEN, "b": [{"c": HIDDEN}]}, {"a": None, "b": []}, None, {"a": "z"}],
    ),
}


def hidden(column: pa.Array) -> pa.Array:
    """The same, and a null at the second place, with its bytes still there."""
    kind = column.type
    if pa.types.is_null(kind):
        return column
    valid = pa.array([place not in (1, 3) for place in range(5)]).buffers()[1]
    if pa.types.is_map(kind):
        children = [pa.StructArray.from_arrays([column.keys, column.items], fields=[kind.key_field, kind.item_field])]
    elif pa.types.is_struct(kind):
        children = [column.field(place) for place in range(kind.num_fields)]
    else:
        children = [column.values] if pa.types.is_nested(kind) else []
    own = 1 if pa.types.is_struct(kind) or pa.types.is_fixed_size_list(kind) else 2 if children else None
    return pa.Array.from_buffers(kind, 5, [valid, *column.buffers()[1:own]], children=children)


def content(column: pa.Array) -> bytes:
    return b"".join(bytes(buffer) for buffer in column.buffers() if buffer is not None)


def is_hidden_in(column: pa.Array) -> bool:
    return HIDDEN.encode() in content(column) or NUMBER.to_bytes(8, "little") in content(column)


@pytest.mark.parametrize("name", COLUMNS)
def test_values_and_type_stay_and_what_no_row_shows_goes(name: str) -> None:
    kind, values = COLUMNS[name]
    column = hidden(pa.array(values, kind))
    assert can_be_compacted(kind)
    for start in range(6):
        for part in (column.slice(start), column.slice(0, start)):
            found = compacted(part)
            found.validate(full=True)
            assert (found.type, found.to_pylist()) == (kind, part.to_pylist())
            assert not is_hidden_in(found)
    assert name in ("truth", "null", "decimal") or is_hidden_in(column), "nothing is hidden"


def test_what_is_next_to_a_slice_goes() -> None:
    for kind, values in COLUMNS.values():
        part = pa.array(values, kind).slice(2)
        assert not is_hidden_in(compacted(part)), kind
        assert compacted(part).to_pylist() == part.to_pylist()


def test_a_dictionary_keeps_the_entries_that_rows_have() -> None:
    column = pa.array(["a", HIDDEN, "b", None, "a"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
    found = compacted(column.slice(2))
    assert (found.type, found.to_pylist()) == (column.type, ["b", None, "a"])
    assert found.dictionary.to_pylist() == ["b", "a"]


def test_entries_of_a_dictionary_may_be_nested_and_are_not_multiplied() -> None:
    entries = pa.array([{"a": "x" * 1000}, {"a": HIDDEN}])
    column = pa.DictionaryArray.from_arrays(pa.array([0, None, 0] * 1000, pa.int8()), entries)
    found = compacted(column)
    assert (found.type, found.to_pylist()) == (column.type, column.to_pylist())
    assert not is_hidden_in(found.dictionary)
    assert len(found.dictionary) == 1


def test_not_every_type_can_be_compacted() -> None:
    union = pa.sparse_union([pa.field("a", pa.int64())])
    for kind in (union, pa.list_(union), pa.string_view(), pa.list_view(pa.int64()), pa.uuid()):
        assert not can_be_compacted(kind), kind
    assert not can_be_compacted(pa.run_end_encoded(pa.int32(), pa.string()))
