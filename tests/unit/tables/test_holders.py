"""The tables of a value are found by their places, within limits."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables import holders
from noetl_serverless.tables.holders import Holders, TooManyPlaces
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table


@pytest.fixture
def table() -> Table:
    descriptor = memory_file()
    return Table(MappedFile(descriptor, write_table(descriptor, pa.table({"n": [1]})).bytes))


def named(value: Any, **options: bool) -> list[str]:
    return [name for name, _ in Holders(value, **options).named_tables()]


def test_tables_are_named_in_order(table: Table) -> None:
    rows = [{"a": 1}]
    value = {"x": table, "y": {"z": [rows, [table], "text"], "empty": []}, "rows": [], "loop": [{"t": table}, {"t": 1}]}
    assert named(value) == ["x", "y.z.0", "y.z.1.0", "rows", "loop", "loop.0.t"]
    assert (named(table), named(rows), named([]), named([1])) == ([""], [""], [""], [])
    assert named({"a": rows, "b": [{"rows": rows}]}, is_json=True) == ["a", "b"], "a list of objects is one table"


def test_what_holds_tables_is_known(table: Table) -> None:
    inner, other = {"t": table}, {"t": [1]}
    value: dict[str, Any] = {"a": [inner], "b": [other], "c": [[], [table]]}
    found = Holders(value)
    assert [found.has_table(part) for part in (value, inner, other, value["c"], value["c"][0], table)] == [
        *(True, True, False, True, False, True)
    ]
    assert (found.holds_tables(value["a"]), found.is_rows(value["a"])) == (True, False)
    assert (found.holds_tables(value["b"]), found.is_rows(value["b"])) == (False, True)


def test_each_part_of_a_deep_value_is_looked_at_once(table: Table) -> None:
    looks = 0

    class Counted(list[Any]):
        def __iter__(self) -> Any:
            nonlocal looks
            looks += 1
            return super().__iter__()

    value: Any = [{"t": table, "w": Counted([1])}]
    for _ in range(100):
        value = [{"a": value}]
    found = Holders(value)
    part = value
    while isinstance(part, list):
        assert found.holds_tables(part)
        part = part[0].get("a")
    assert looks <= 1, f"the innermost list was looked at {looks} times"


@pytest.mark.parametrize("value", [[[]] * 21, {"a": [[1]] * 10, "b": {"c": [[]] * 10}}], ids=["flat", "nested"])
def test_of_too_many_places_none_is_looked_at(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setattr(holders, "MAX_PLACES", 20)
    with pytest.raises(TooManyPlaces, match="more than 20 lists and objects"):
        named(value)
    assert named([{"a": number} for number in range(100)]) == [""], "the rows of a table are none"


def test_names_that_are_too_long_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MAX_CHARACTERS", 1000)
    with pytest.raises(TooManyPlaces, match="more than 1000 characters"):
        named({"a" * 300: [[{"n": 1}]] * 4})
