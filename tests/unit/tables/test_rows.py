"""Values of columns as JSON, where their type alone does not say how."""

from __future__ import annotations

import datetime
import uuid

import orjson
import pyarrow as pa
import pytest

from noetl_serverless.tables.beginning import beginning_of
from noetl_serverless.tables.export import Batches, pieces
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.rows import rows_of
from noetl_serverless.tables.table import InvalidTable

AT = datetime.datetime(2026, 1, 2, 12, 0, 0, 120_000)


@pytest.mark.parametrize(
    ("form", "column", "values"),
    [
        (None, pa.array(["1", "{}", None]), ["1", "{}", None]),
        ("json", pa.array(['{"a": [1, 1.5]}', '"x"', "null", None]), [{"a": [1, 1.5]}, "x", None, None]),
        ("decimal", pa.array(["3", "1.50", "NaN", "12345678901234567890.5"]), [3, 1.5, None, "12345678901234567890.5"]),
        (None, pa.array([AT]), ["2026-01-02T12:00:00.120000"]),
        ("postgres", pa.array([AT]), ["2026-01-02T12:00:00.12"]),
        ("postgres", pa.array([AT], pa.timestamp("us", "UTC")), ["2026-01-02T12:00:00.12+00:00"]),
        ("postgres", pa.array([AT.replace(microsecond=0), None]), ["2026-01-02T12:00:00", None]),
        ("postgres", pa.array([AT.time()]), ["12:00:00.12"]),
        (None, pa.array([AT.time()]), ["12:00:00.120000"]),
        # the end of a day, beside which others have the text that they have without it
        (
            None,
            pa.array([43_200_120_000, 0, 86_400_000_000]).cast(pa.time64("us")),
            ["12:00:00.120000", "00:00:00", "24:00:00"],
        ),
        ("postgres", pa.array([43_200_120_000, 86_400_000_000]).cast(pa.time64("us")), ["12:00:00.12", "24:00:00"]),
        (None, pa.array([[(True, 1)], [(False, 2)]], pa.map_(pa.bool_(), pa.int8())), [{"true": 1}, {"false": 2}]),
        (None, pa.array([[(1, 1), (2, 2)]], pa.map_(pa.int8(), pa.int8())), [{"1": 1, "2": 2}]),
        ("postgres", pa.array([AT.date(), None]), ["2026-01-02", None]),
        (
            "postgres",
            pa.array([2**63 - 1, 0], pa.int64()).cast(pa.timestamp("us", "UTC")),
            ["infinity", "1970-01-01T00:00:00+00:00"],
        ),
        (None, pa.array([253_402_300_800], pa.int64()).cast(pa.timestamp("s")), ["10000-01-01 00:00:00"]),
        # of task code, which may write any metadata
        ("unknown", pa.array(["x"]), ["x"]),
    ],
)
def test_the_form_of_a_column_says_how_its_values_become_json(
    form: object, column: pa.Array, values: list[object]
) -> None:
    schema = pa.schema([field_of("v", column.type, form)])  # type: ignore[arg-type]
    found = [row["v"] for row in rows_of(pa.RecordBatch.from_arrays([column], schema=schema))]
    assert list(map(repr, found)) == list(map(repr, values))


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("json", "{bad", "the text is no JSON"),
        ("json", "", "the text is no JSON"),
        ("json", "[" * 110 + "]" * 110, "nested deeper than 109 levels"),
        ("json", '{"a":' * 300 + "1" + "}" * 300, "nested deeper than 109 levels"),
        ("json", "[" * 2_000 + "]" * 2_000, "nested deeper than 109 levels"),
        ("json", "[" * 500_000, "nested deeper than 109 levels"),
        ("decimal", "abc", "'abc' is no number"),
        ("decimal", "", "'' is no number"),
        ("decimal", "1e99999999999999999999", "is no number"),
    ],
)
def test_a_text_that_is_not_what_its_form_says_is_refused(form: str, text: str, expected: str) -> None:
    schema = pa.schema([field_of("n", pa.int64()), field_of("v", pa.string(), form)])  # type: ignore[arg-type]
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 3]), pa.array(["1", None, text])], schema=schema)
    with pytest.raises(InvalidTable, match=f"row 42, column 'v': .*{expected}"):
        rows_of(batch, first=40)


@pytest.mark.parametrize("text", ["[" * 109 + "]" * 109, "[" + "[1]," * 500 + "[1]]", '"' + "[" * 1_000 + '"'])
def test_a_document_may_be_deep_or_have_many_brackets(text: str) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([text])], schema=pa.schema([field_of("v", pa.string(), "json")]))
    assert rows_of(batch) == [{"v": orjson.loads(text)}]


FAR = 2**63 - 1


@pytest.mark.parametrize(
    ("column", "last"),
    [
        (pa.array([1, FAR], pa.duration("s")), "106751991167300 days, 15:30:07"),
        (pa.array([1, -1], pa.duration("us")), "-1 day, 23:59:59.999999"),
        (pa.array([0, 86_400_000 * 4_000_000], pa.date64()), "12921-08-18"),
        (pa.array([(0, 1, 0), (100_000_000, 0, 0)], pa.month_day_nano_interval()), "3000000000 days, 0:00:00"),
        (pa.array([0, 253_402_300_800], pa.timestamp("s")).dictionary_encode(), "10000-01-01 00:00:00"),
        (
            pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array([0, 1_000], pa.timestamp("ns"))),
            "1970-01-01T00:00:00.000001",
        ),
        (pa.array([[1], [FAR]], pa.list_(pa.duration("s"))), ["106751991167300 days, 15:30:07"]),
        (pa.array([0, 0], pa.timestamp("us", "No/Zone")), "1970-01-01 00:00:00+00"),
    ],
    ids=lambda it: str(it.type)[:40] if isinstance(it, pa.Array) else "",
)
def test_a_value_that_python_does_not_have_is_a_text(column: pa.Array, last: object) -> None:
    batch = pa.record_batch([column], names=["v"])
    assert rows_of(batch)[1] == {"v": last}
    assert rows_of(batch.slice(1)) == [{"v": last}]
    assert beginning_of(batch, 0)[1] == {"v": last} or isinstance(last, list)
    assert orjson.loads(b"".join(pieces(Batches(batch.schema, iter([batch])), "json")))[1] == {"v": last}


def test_of_lists_below_runs_a_null_is_read_without_an_end_of_the_process() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 5, 6], pa.int32()), pa.array([1, None, 2]))
    views = pa.LargeListViewArray.from_arrays(
        pa.array([1, 2], pa.int64()), pa.array([3, 0], pa.int64()), runs, mask=pa.array([False, True])
    )
    batch = pa.record_batch([views], names=["v"])
    assert rows_of(batch) == [{"v": [1, None, None]}, {"v": None}]
    assert beginning_of(batch, 0)[1] == {"v": None}


def test_uuids_in_lists_are_shown_as_uuids() -> None:
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=1).bytes] * 40, pa.binary(16)))
    column = pa.ListArray.from_arrays(pa.array([0, 40], pa.int32()), uuids)
    batch = pa.record_batch([column], names=["v"])
    assert beginning_of(batch, 10)[0]["v"][0] == rows_of(batch)[0]["v"][0] == str(uuid.UUID(int=1))


def test_the_form_of_a_column_that_has_no_texts_says_nothing() -> None:
    column = pa.array([[1] * 5_000])
    batch = pa.record_batch([column], pa.schema([field_of("v", column.type, "json")]))
    assert beginning_of(batch, 10)[0]["v"][:2] == [1, 1]
    assert rows_of(batch) == [{"v": [1] * 5_000}]
