"""What is known of values before they are converted."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest

from noetl_serverless.tables.beginning import beginning_of
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.rows import rows_of
from noetl_serverless.tables.sizes import JSON, OBJECTS, hidden, least, least_of_rows, may_hide

TEXTS = ["", "ä" * 700, "x" * 5_000, 'quo"ted\n' * 40, None, "end"]
LISTS = [[1] * 400, [], None, [1, None, 3], [7] * 9_000, [2]]
COLUMNS: dict[str, pa.Array] = {
    "null": pa.nulls(6),
    "bool": pa.array([True, None, False, True, True, True]),
    "int": pa.array([1, None, 2**40, -5, 0, 1]),
    "float": pa.array([1.5, None, float("nan"), float("inf"), 0.0, -1e300]),
    "decimal": pa.array([decimal.Decimal("1.50")] * 5 + [None]),
    "date": pa.array([datetime.date(2026, 1, 2)] * 5 + [None]),
    "text": pa.array(TEXTS),
    "large text": pa.array(TEXTS, pa.large_string()),
    "text view": pa.array(TEXTS, pa.string_view()),
    "binary": pa.array([b"\xff" * n for n in (0, 1, 2, 3_000, 4)] + [None]),
    "binary view": pa.array([b"\xff" * n for n in (0, 1, 2, 3_000, 4)] + [None], pa.binary_view()),
    "fixed binary": pa.array([b"\xff" * 2_000] * 5 + [None], pa.binary(2_000)),
    "list": pa.array(LISTS),
    "large list": pa.array(LISTS, pa.large_list(pa.int8())),
    "list of nulls": pa.array([[None] * 3_000, None, [], [None], [None] * 70_000, [None]], pa.list_(pa.null())),
    "list of times": pa.array([[datetime.time(1)] * 250] * 6),
    "lists of texts": pa.array([[TEXTS, None, []], None, [], [TEXTS] * 20, [["x" * 40_000]], [TEXTS]]),
    "fixed list": pa.array([list(range(1_500))] * 5 + [None], pa.list_(pa.int64(), 1_500)),
    "fixed list of texts": pa.array(
        [["a", None], None, ["x" * 3_000, ""], None, ["ä", "b"], None], pa.list_(pa.string(), 2)
    ),
    "fixed list of text views": pa.array(
        [None, ["a", None], ["x" * 3_000, ""], None, None, ["ä" * 700, "b"]], pa.list_(pa.string_view(), 2)
    ),
    "fixed list of fixed lists": pa.array(
        [[["a"]], None, [["x" * 3_000]], [None], None, [[None]]], pa.list_(pa.list_(pa.binary_view(), 1), 1)
    ),
    "fixed list of structs": pa.array(
        [[{"t": "a"}], [None], None, None, [{"t": "x" * 3_000}], None],
        pa.list_(pa.struct([("t", pa.string_view())]), 1),
    ),
    "fixed list of extensions": pa.FixedSizeListArray.from_arrays(
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", None, '"' + "x" * 3_000 + '"', None, None, "2"])),
        1,
        mask=pa.array([False, True, False, True, True, True]),
    ),
    "list view": pa.array(LISTS, pa.list_view(pa.int64())),
    "struct": pa.array([{"a": text, "b": [1]} for text in TEXTS]),
    "null struct": pa.array([None, {"a": None}, None, {"a": "x" * 3_000}, None, None], pa.struct([("a", pa.string())])),
    "list of empty structs": pa.array([[{}] * 2_000] * 6, pa.list_(pa.struct([]))),
    "map": pa.array([{f"k{n}": "v" for n in range(800)}, None, {}] * 2, pa.map_(pa.string(), pa.string())),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "dictionary of lists": pa.DictionaryArray.from_arrays(pa.array([0, 4, None, 1, 4, 3], pa.int8()), pa.array(LISTS)),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2, 5, 6], pa.int32()), pa.array(["x" * 4_000, None, "y"])),
    "sparse union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 1, 0, 1, 0], pa.int8()), [pa.array(range(6)), pa.array([text or "" for text in TEXTS])]
    ),
    "dense union": pa.UnionArray.from_dense(
        pa.array([0, 1, 1, 0, 1, 0], pa.int8()),
        pa.array([0, 1, 2, 1, 3, 2], pa.int32()),
        [pa.array(range(3)), pa.array(["", *TEXTS[1:4]])],
    ),
    "extension": pa.ExtensionArray.from_storage(pa.json_(), pa.array(TEXTS)),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize(("first", "count"), [(0, 6), (1, 4), (2, 1), (3, 3), (4, 0)])
def test_rows_have_at_least_so_many_bytes_of_json(name: str, first: int, count: int) -> None:
    batch = pa.record_batch([COLUMNS[name], COLUMNS["int"]], names=[name, "é"]).slice(first, count)
    rows = rows_of(batch)
    # a comma after each, and a bracket
    assert least_of_rows(batch, 0, count, JSON) <= len(orjson.dumps(rows)) - 1
    assert least_of_rows(batch, 0, count, JSON) == sum(least_of_rows(batch, at, at + 1, JSON) for at in range(count))
    assert least(COLUMNS[name], first, first + count, JSON) == least(batch.column(0), 0, count, JSON)


@pytest.mark.parametrize("name", list(COLUMNS)[6:])
def test_what_is_large_is_known_to_be(name: str) -> None:
    batch = pa.record_batch([COLUMNS[name]], names=["v"])
    assert least_of_rows(batch, 0, 6, JSON) > len(orjson.dumps(rows_of(batch))) / 8


@pytest.mark.parametrize("limit", [10, 64, 1_000])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_beginning_shows_the_same_as_all(name: str, limit: int) -> None:
    batch = pa.record_batch([COLUMNS["int"], COLUMNS[name]], names=["n", "v"])
    for first in range(6):
        rows = batch.slice(first, 3)
        whole, shown = orjson.dumps(rows_of(rows)), orjson.dumps(beginning_of(rows, limit))
        assert shown[:limit] == whole[:limit], f"from row {first}"
        # of a time, a byte is known
        assert len(shown) <= 16 * limit * 12 + 100, "it shows more than it has to"


def test_a_large_document_is_shown_as_it_was_written() -> None:
    texts = ["[1, 2]", "[" + "1, " * 50_000 + "1]", None]
    batch = pa.record_batch([pa.array(texts)], schema=pa.schema([field_of("j", pa.string(), "json")]))
    shown = orjson.dumps(beginning_of(batch, 1_000))
    assert shown.startswith(b'[{"j":[1,2]},{"j":[1, 1, 1, ')
    assert len(shown) < 1_100


def test_a_document_may_be_smaller_as_json() -> None:
    texts = ["[1,        2]", "1e3", "null"]
    batch = pa.record_batch([pa.array(texts)], schema=pa.schema([field_of("j", pa.string(), "json")]))
    assert least_of_rows(batch, 0, 3, JSON) <= len(orjson.dumps(rows_of(batch)))


def test_nothing_is_converted_to_measure_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 300_000_000
    nulls = pa.NullArray.from_buffers(pa.null(), count, [None], count)
    offsets = pa.py_buffer(b"\0\0\0\0" + count.to_bytes(4, "little"))
    row = pa.Array.from_buffers(pa.list_(pa.null()), 1, [None, offsets], children=[nulls])
    before = pa.total_allocated_bytes()
    assert least(row, 0, 1, JSON) == 2 * count + 1
    assert least(row, 0, 1, OBJECTS) > 8 * count
    assert pa.total_allocated_bytes() - before < 10_000
    batch = pa.record_batch([row], names=["l"])
    assert orjson.dumps(beginning_of(batch, 100)).startswith(b'[{"l":[null,null,')


@pytest.mark.parametrize(
    "text",
    ["[" + "{}," * 1_000_000 + "1]", "[" + "[]," * 1_000_000 + "1]", "[" + '{"a":{}},' * 1_000_000 + "1]"],
    ids=["objects", "lists", "objects in objects"],
)
def test_the_objects_of_a_large_document_are_known(text: str) -> None:
    batch = pa.record_batch([pa.array(["0", text])], schema=pa.schema([field_of("j", pa.string(), "json")]))
    assert least_of_rows(batch, 1, 2, OBJECTS) > 60 * 1_000_000
    assert least_of_rows(batch, 0, 2, OBJECTS) > 60 * 1_000_000


def test_brackets_in_the_strings_of_a_document_are_no_objects() -> None:
    text = orjson.dumps(["{[,:" * 1_000_000, 'a\\"[' * 1_000_000]).decode()
    batch = pa.record_batch([pa.array([text])], schema=pa.schema([field_of("j", pa.string(), "json")]))
    assert least_of_rows(batch, 0, 1, OBJECTS) < len(text) + 1_000


def test_a_string_that_does_not_end_is_looked_through_once() -> None:
    brackets = 1_300_000
    # looked for again from each quote, its end would take an hour
    text = "[" * brackets + " " * 900_000 + '"' + '\\"' * 1_000_000
    batch = pa.record_batch([pa.array([text])], schema=pa.schema([field_of("j", pa.string(), "json")]))
    assert 50 * brackets < least_of_rows(batch, 0, 1, OBJECTS) < 60 * brackets + len(text) + 1_000


INNER: Any = pa.struct([(f"field_{number}", pa.int64()) for number in range(30)])


@pytest.mark.parametrize(
    ("column", "most"),
    [
        (pa.array([[None] * 10_000], pa.list_(pa.struct([("a", INNER)]))), 8),
        (pa.array([[True, False] * 5_000]), 8),
        (pa.array([[None] * 10_000], pa.list_(pa.int64())), 8),
        (pa.array([[None] * 10_000], pa.list_(pa.list_(pa.int64()))), 8),
    ],
    ids=["nulls over structs", "booleans", "nulls", "null lists"],
)
def test_what_python_has_once_takes_its_place_alone(column: pa.Array, most: int) -> None:
    batch = pa.record_batch([column], names=["v"])
    assert least_of_rows(batch, 0, 1, OBJECTS) <= most * 10_000 + 200


EMPTY: Any = pa.struct([])


@pytest.mark.parametrize(
    ("column", "count"),
    [
        (pa.array([[None] * 5, [None]], pa.list_(pa.null())), 6),
        (pa.array([[b""] * 5], pa.large_list(pa.binary(0))), 5),
        (pa.array([[{}] * 5], pa.list_(EMPTY)), 5),
        (pa.array([[{"a": None}] * 5], pa.list_(pa.struct([("a", pa.null())]))), 5),
        (pa.array([{"a": [None] * 5}], pa.struct([("a", pa.list_(pa.null()))])), 5),
        (pa.array([[[None] * 4] * 3], pa.list_(pa.list_(pa.null(), 4))), 3),
        (pa.array([[None] * 5], pa.list_(pa.null(), 5)), 5),
        (pa.array([[("k", None)] * 5], pa.map_(pa.string(), pa.null())), 5),
        (pa.DictionaryArray.from_arrays(pa.array([0]), pa.array([[None] * 5], pa.list_(pa.null()))), 5),
        (pa.array([[1] * 5]), 0),
        (pa.array([{"a": 1}]), 0),
        (pa.array(["x"]), 0),
    ],
    ids=lambda it: str(it.type) if isinstance(it, pa.Array) else None,
)
def test_nested_values_that_take_no_bytes_are_counted(column: pa.Array, count: int) -> None:
    assert hidden(column) == count
    assert may_hide(column.type) is (count > 0)
