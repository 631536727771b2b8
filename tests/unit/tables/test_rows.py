"""Values of columns as JSON, where their type alone does not say how."""

from __future__ import annotations

import datetime

import orjson
import pyarrow as pa
import pytest

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
