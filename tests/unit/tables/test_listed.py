from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables import listed as module
from noetl_serverless.tables.listed import TableTooLarge, has_table, listed
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table


@pytest.fixture
def table() -> Table:
    file = memory_file(0)
    return Table(MappedFile(file, write_table(file, pa.table({"n": [1, 2]})).bytes))


ROWS = [{"n": 1}, {"n": 2}]


def test_tables_at_any_depth_are_lists(table: Table) -> None:
    given = {"a": table, "b": [1, {"c": table}], "d": (table, "x"), "e": {"f": [2]}}
    assert listed(given) == {"a": ROWS, "b": [1, {"c": ROWS}], "d": [ROWS, "x"], "e": {"f": [2]}}
    assert type(listed(table)) is list


def test_a_value_without_tables_is_the_same_object(table: Table) -> None:
    plain: dict[str, Any] = {"a": [1, {"b": None}], "c": "text"}
    assert listed(plain) is plain
    assert not has_table(plain)
    assert has_table([{"a": (table,)}])


@pytest.mark.parametrize("limit", ["MAX_LISTED_ROWS", "MAX_LISTED_BYTES"])
def test_one_that_is_too_large_says_who_takes_it(table: Table, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(module, limit, 1)
    with pytest.raises(TableTooLarge, match=r"a table of 2 rows and .* tools of kind duckdb, postgres, python take"):
        listed({"a": table})


def test_one_whose_values_take_too_much_memory_says_how_much(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.table.MAX_LISTED_OBJECTS", 1)
    with pytest.raises(TableTooLarge, match=r"a table of 2 rows and at least 0 MiB .* duckdb, postgres, python take"):
        listed({"a": table})
