from __future__ import annotations

import os
import tempfile
from typing import Any

import pyarrow
import pytest

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.results.extract import MAX_EXTRACT_BYTES, MISSING, at_path, extract
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table


def table(rows: list[dict[str, Any]]) -> Table:
    with tempfile.TemporaryFile() as file:
        written = write_table(file.fileno(), pyarrow.Table.from_pylist(rows))
        return Table(MappedFile(os.dup(file.fileno()), written.bytes))


def test_small_scalars_at_the_top_are_extracted() -> None:
    data = {"n": 3, "name": "x", "none": None, "flag": True, "rows": [1], "deep": {"n": 4}, "long": "y" * 300}
    assert extract(data) == {"n": 3, "name": "x", "none": None, "flag": True}


def test_extraction_ends_at_its_limit() -> None:
    fields = extract({f"k{i}": "v" * 100 for i in range(1000)})
    assert 0 < sum(len(k) + len(v) for k, v in fields.items()) <= MAX_EXTRACT_BYTES


def test_selected_paths_are_extracted_under_their_names() -> None:
    data = {"rows": [{"id": 7}, {"id": 8}], "page": {"next": "abc"}}
    select = [("$.rows[1].id", "second"), ("$.page", "page"), ("$.rows[9]", "none")]
    assert extract(data, select) == {"second": 8, "page": {"next": "abc"}}


def test_selecting_too_much_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="big"):
        extract({"big": ["x" * 100] * 1000}, [("$.big", "big")])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", {"a": [{"b-c": 1}], "o k": 2}),
        ("$.a[0]", {"b-c": 1}),
        ("$.a[0].b-c", 1),
        ("$['o k']", 2),
        ("$.a.b", MISSING),
        ("$.a[3]", MISSING),
        ("$.zz", MISSING),
    ],
)
def test_paths(path: str, value: object) -> None:
    found = at_path({"a": [{"b-c": 1}], "o k": 2}, path)
    assert found is value if value is MISSING else found == value


@pytest.mark.parametrize("path", ["a", "$.a[x]", "$.a[", "$.a || $.b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSON path"):
        at_path({}, path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.rows[*].id", [7, 8]),
        ("$..id", [7, 8]),
        ("$.rows[?@.id > 7].name", ["b"]),
        ("$.rows[-1].id", 8),
        ("$.rows[-9]", MISSING),
        ("$.none[*]", []),
    ],
)
def test_a_path_may_name_several_places(path: str, value: object) -> None:
    rows = [{"id": 7, "name": "a"}, {"id": 8, "name": "b"}]
    for data in ({"rows": rows}, {"rows": table(rows)}):
        found = at_path(data, path)
        assert found is value if value is MISSING else found == value


def test_a_table_s_fields_are_selected_by_index_whatever_its_size() -> None:
    data = {"rows": table([{"id": n} for n in range(20_000)]), "row_count": 20_000}
    select = [("$.rows[19999].id", "last"), ("$.row_count", "count")]
    assert extract(data, select) == {"row_count": 20_000, "last": 19_999, "count": 20_000}
    with pytest.raises(InvalidRequest, match="all of 20000 rows of a table; the limit is 10000"):
        at_path(data, "$.rows[*].id")
    with pytest.raises(InvalidRequest, match="select parts of them"):
        extract(data, [("$.rows", "rows")])


@pytest.mark.parametrize(
    ("path", "value"), [("$.rows[-1].n", 19_999), ("$.rows[-20000].n", 0), ("$.rows[-20001]", None)]
)
def test_a_row_of_a_large_table_is_found_from_its_end(path: str, value: int | None) -> None:
    rows = table([{"n": n} for n in range(20_000)])
    found = at_path({"rows": rows}, path)
    assert found is MISSING if value is None else found == value


def test_too_many_rows_for_a_path_are_refused_with_its_place() -> None:
    rows = table([{"n": n} for n in range(10_001)])
    with pytest.raises(InvalidRequest, match=r"output.select, as ids: \$.rows\[\*\].n looks at all of 10001 rows"):
        extract({"rows": rows}, [("$.rows[*].n", "ids")])
