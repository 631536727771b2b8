"""The lines of JSON of a batch are byte for byte those of its rows, whatever types it has."""

from __future__ import annotations

import datetime as dt
import decimal
import random
from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.json_lines import json_lines, json_text
from noetl_serverless.tables.rows import rows_of

TEXTS = ["", "plain", "ü 名 ∀ 🎈", 'quo"te', "back\\slash", "line\nbreak", "\x00\x1f\x7f", "a,b", "null", None]
INTS = [0, 1, -1, None]
MICROSECONDS = [0, 1, -1, 999_999, 500_000, 10**6, -(10**6), 1_700_000_000_123_456, 1_700_000_000_120_000, None]
FIRST, LAST = -62_135_596_800, 253_402_300_799
INTERVALS = [(1, 2, 3_000_000), (0, 0, 1), None]


def instants(unit: str, zone: str | None) -> pa.Array:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    numbers = [None if value is None else value * factor // 10**6 for value in MICROSECONDS]
    ends = [] if unit == "ns" else [FIRST * factor, LAST * factor + factor - 1]
    return pa.array([*numbers, *ends], pa.int64()).cast(pa.timestamp(unit, zone))


ARRAYS: dict[str, pa.Array] = {
    "null": pa.nulls(3),
    "bool": pa.array([True, False, None]),
    **{
        str(kind): pa.array([2 ** (kind.bit_width - 1) - 1, *INTS], kind)
        if pa.types.is_signed_integer(kind)
        else pa.array([2**kind.bit_width - 1, 0, None], kind)
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    **{
        str(kind): pa.array([0.0, -0.0, 0.1, 1.0, 1.5e300 if kind == pa.float64() else 1.5e3, 1e-5, None], kind)
        for kind in (pa.float16(), pa.float32(), pa.float64())
    },
    "no numbers": pa.array([float("nan"), float("inf"), -float("inf"), 1e16, 123456789012345680.0, 5e-324, None]),
    **{str(kind): pa.array(TEXTS, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    "plain": pa.array(["a", "bc", "ü", None]),
    "texts of a dictionary": pa.array(["a", "b", 'c"', "a", None]).dictionary_encode(),
    "instants of a dictionary": pa.array([1, 2, 1, None], pa.timestamp("us")).dictionary_encode(),
    "binary": pa.array([b"", b"\x00\xff", None]),
    "large_binary": pa.array([b"", b"\x00\xff", None], pa.large_binary()),
    "fixed": pa.array([b"ab", b"\x00\xff", None], pa.binary(2)),
    "decimal128": pa.array([decimal.Decimal("1.10"), decimal.Decimal("123456789012345678.901"), None]),
    "decimal256": pa.array([decimal.Decimal("1.5"), None], pa.decimal256(50, 2)),
    "date32": pa.array([0, -1, -719_162, 2_932_896, None], pa.int32()).cast(pa.date32()),
    "far date32": pa.array([0, -719_163, 2_932_897, 2**31 - 1, -(2**31), None], pa.int32()).cast(pa.date32()),
    "date64": pa.array([0, 86_400_000, None], pa.int64()).cast(pa.date64()),
    **{
        f"{unit} {zone}": instants(unit, zone)
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "Asia/Tokyo")
    },
    "whole seconds": pa.array([0, 10**6, -(10**6), None], pa.int64()).cast(pa.timestamp("us")),
    "far instants": pa.array([0, 2**63 - 1, -(2**63) + 1, 2**62, None], pa.int64()).cast(pa.timestamp("us", "UTC")),
    "far seconds": pa.array([0, 2**40, None], pa.int64()).cast(pa.timestamp("s")),
    "time32": pa.array([0, 86_399, None], pa.int32()).cast(pa.time32("s")),
    "time64": pa.array([0, 86_399_999_999, 86_400_000_000, None], pa.int64()).cast(pa.time64("us")),
    "time64ns": pa.array([0, 1_001, None], pa.int64()).cast(pa.time64("ns")),
    **{f"duration {unit}": pa.array([0, 1, -1, 10**6, None], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "interval": pa.array(INTERVALS, pa.month_day_nano_interval()),
    "list": pa.array([[1, None], [], None]),
    "large_list": pa.array([["a"], []], pa.large_list(pa.string())),
    "fixed list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
    "struct": pa.array([{"a": 1, "b": dt.datetime(2024, 1, 2, 3, 4, 5, 600)}, {"a": None, "b": None}, None]),
    "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x"])]
    ),
    "nested instants": pa.array([[0, 1_500], None], pa.list_(pa.timestamp("ns"))),
}
FORMS: dict[str, tuple[Any, pa.Array]] = {
    "json": ("json", pa.array(['{"a": [1, 2]}', "123456789012345678901234567890", '"\\ud800"', "null", None])),
    "decimal": ("decimal", pa.array(["1.10", "123456789012345678901234567890", "NaN", None])),
    "postgres text": ("postgres", pa.array(["x", 'y"', None])),
    **{f"postgres {unit}": ("postgres", instants(unit, "UTC")) for unit in ("s", "ms", "us", "ns")},
    "postgres far": ("postgres", ARRAYS["far instants"]),
    "postgres date": ("postgres", ARRAYS["far date32"]),
    "unknown": ("other", pa.array(["x", None])),
}
CASES = {**{name: (None, array) for name, array in ARRAYS.items()}, **FORMS}


def as_rows(batch: pa.RecordBatch, end: bytes) -> bytes:
    return b"".join(json_text(row) + end for row in rows_of(batch))


@pytest.mark.parametrize("name", CASES)
def test_a_column_of_any_type_is_what_its_rows_are(name: str) -> None:
    form, array = CASES[name]
    schema = pa.schema([field_of('the "name"', array.type, form)])
    batch = pa.record_batch([array], schema)
    assert json_lines(batch, b"\n") == as_rows(batch, b"\n")
    # of a part, and of one value
    for start, length in ((1, len(array)), (0, 1), (len(array) - 1, 1)):
        part = batch.slice(start, length)
        assert json_lines(part, b",\n") == as_rows(part, b",\n"), (start, length)


def test_every_type_of_arrow_has_a_case() -> None:
    missing = {"run_end_encoded", "list_view", "large_list_view", "binary_view", "decimal32", "decimal64"}
    kinds = {array.type.id for array in ARRAYS.values()}
    named = {name: getattr(pa.lib, name) for name in dir(pa.lib) if name.startswith("Type_")}
    lacking = {name for name, number in named.items() if number not in kinds}
    # of which pyarrow makes no Python values that our tables have, or which are views, of which tables have none
    allowed = {f"Type_{name.upper()}" for name in missing} | {
        *("Type_EXTENSION", "Type_INTERVAL_MONTHS", "Type_INTERVAL_DAY_TIME", "Type_SPARSE_UNION", "Type_MAX_ID"),
    }
    assert lacking <= allowed, f"no case for {lacking - allowed}"


def test_many_columns_are_one_object_for_each_row() -> None:
    arrays = [array.slice(0, 2) for array in ARRAYS.values()]
    batch = pa.record_batch(arrays, [f"c{number}" for number in range(len(arrays))])
    assert json_lines(batch, b"\n") == as_rows(batch, b"\n")


def test_of_two_columns_with_one_name_the_last_counts() -> None:
    batch = pa.record_batch([pa.array([1, 2]), pa.array(["a", "b"])], names=["x", "x"])
    assert json_lines(batch, b"\n") == b'{"x":"a"}\n{"x":"b"}\n'


def test_instants_by_chance() -> None:
    chance = random.Random(5)
    numbers = [chance.randrange(FIRST * 10**6, (LAST + 1) * 10**6) for _ in range(2000)]
    numbers += [number // 10 ** chance.randrange(7) * 10 ** chance.randrange(7) % (LAST * 10**6) for number in numbers]
    for form, zone in ((None, None), ("postgres", "UTC"), (None, "UTC")):
        array = pa.array(numbers, pa.int64()).cast(pa.timestamp("us", zone))
        batch = pa.record_batch([array], pa.schema([field_of("at", array.type, form)]))  # type: ignore[arg-type]
        assert json_lines(batch, b"\n") == as_rows(batch, b"\n")
