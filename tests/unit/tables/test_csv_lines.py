"""A cell of CSV has the text that JSON has for the value, whatever type its column has."""

from __future__ import annotations

import csv
import io

import orjson
import pyarrow as pa
import pytest
from tests.unit.tables.test_json_lines import CASES

from noetl_serverless.tables.csv_lines import csv_lines, csv_of_objects, header
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.json_lines import json_lines, json_text


@pytest.mark.parametrize("name", CASES)
def test_a_cell_has_the_text_that_json_has(name: str) -> None:
    form, array = CASES[name]
    schema = pa.schema([field_of("n", pa.int64()), field_of("v", array.type, form)])
    batch = pa.record_batch([pa.array(range(len(array))), array], schema)
    for part in (batch, batch.slice(1), batch.slice(len(array) - 1)):
        values = [line[line.index(b'"v":') + 4 : -1] for line in json_lines(part, b"\x1e").split(b"\x1e")[:-1]]
        expected = ["" if value == b"null" else _text(value) for value in values]
        found = list(csv.reader(io.StringIO(csv_lines(part).decode(), newline="")))
        assert [row[1] for row in found] == expected


def _text(value: bytes) -> str:
    # a text that is no Unicode is there as JSON
    if not value.startswith(b'"') or value == b'"\\ud800"':
        return value.decode()
    return str(orjson.loads(value))


def test_what_has_a_comma_a_quote_or_a_line_break_is_quoted_and_a_null_is_not_an_empty_text() -> None:
    columns = [pa.array(['a,"b"\n', "", None]), pa.array([86_400 * 3, None, 1], pa.duration("s"))]
    batch = pa.record_batch(columns, names=['the "name"', "d"])
    assert header(batch.schema.names) == b'"the ""name""","d"\n'
    assert csv_lines(batch) == b'"a,""b""\n","3 days, 0:00:00"\n"",\n,0:00:01\n'


def test_the_text_of_a_document_is_its_json() -> None:
    texts = pa.array(['{"a": [1, 2]}', '"x"', "null"])
    batch = pa.record_batch([texts], schema=pa.schema([field_of("j", texts.type, "json")]))
    assert csv_lines(batch) == b'"{""a"":[1,2]}"\n"x"\n""\n'
    assert json_text({"a": [1, 2]}) == b'{"a":[1,2]}'


def test_a_null_that_is_all_of_its_line_is_no_empty_line_which_readers_leave_out() -> None:
    expected = b'1\n""\n3\n'
    assert csv_lines(pa.record_batch([pa.array([1, None, 3])], names=["v"])) == expected
    assert csv_lines(pa.record_batch([pa.array(["1", None])], names=["v"])) == b'"1"\n""\n'
    assert csv_of_objects([{"v": 1}, {"v": None}, {"v": 3}], ["v"]) == expected
    beside = pa.record_batch([pa.array([1, None]), pa.nulls(2)], names=["v", "w"])
    assert csv_lines(beside) == b"1,\n,\n"


def test_objects_are_written_as_the_rows_of_a_table_are() -> None:
    table = pa.table({"i": [1, None, 3], "f": [0.5, 1e22, None], "b": [True, None, False], "s": ['a,"b"\n', "", None]})
    (batch,) = table.to_batches()
    assert csv_of_objects(table.to_pylist(), table.schema.names) == csv_lines(batch)
