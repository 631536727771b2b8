from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest

from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import FilesInMemory
from noetl_serverless.tables.stream import in_field, write_table
from noetl_serverless.tables.table import InvalidTable, Table
from noetl_serverless.tables.value import file_of, read_value, tables_in, without_tables


def open_file(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Files(FilesInMemory):
    """On disk; knows what room it was asked for."""

    def __init__(self) -> None:
        self.extended: list[int] = []

    def open(self, size: int) -> int:
        return open_file(size)

    def extend(self, descriptor: int, size: int) -> bool:
        self.extended.append(size)
        return False


FILES = Files()


def table(rows: list[dict[str, Any]], value: dict[str, Any] | None = None) -> Table:
    descriptor = open_file(0)
    written = write_table(descriptor, pa.Table.from_pylist(rows), value)
    return Table(MappedFile(descriptor, written.bytes))


def again(value: Any) -> Any:
    """As it is read from the file that it is written to."""
    return read_value(file_of(value, FILES))


def as_lists(value: Any) -> Any:
    return without_tables(value, list)


MANY, FEW = [{"n": n} for n in range(30_000)], [{"text": "x", "n": None}]


@pytest.mark.parametrize(
    "make",
    [
        lambda: table(MANY),
        lambda: {"rows": table(MANY), "row_count": 30_000, "note": {"a": [1, None]}},
        lambda: {"a": table(MANY), "b": {"c": [1, table(FEW), {"d": table([])}]}, "e": None},
        lambda: [table(FEW), table(MANY)],
        lambda: {"both": (table(FEW), [table(MANY)])},
        lambda: {"results": {"rows": table(FEW)}, "rows": table(FEW)},
    ],
)
def test_a_value_with_tables_is_read_as_it_was_written(make: Callable[[], Any]) -> None:
    value = make()
    found = again(value)
    assert as_lists(found) == as_lists(value)
    assert [place for place, _ in tables_in(found)] == [place for place, _ in tables_in(value)]
    # and once more, from a file that holds several
    assert as_lists(again(found)) == as_lists(value)


def test_a_table_that_is_at_several_places_is_written_once() -> None:
    one = table(MANY)
    file = file_of({"rows": one, "results": {"load": {"rows": one}}}, FILES)
    assert file.size < one.file.size + 10_000
    found = read_value(file)
    assert found["rows"] is found["results"]["load"]["rows"]


def test_a_file_that_holds_just_the_value_is_not_written_again() -> None:
    rows = table(MANY, in_field("rows", {"row_count": 30_000}))
    value = read_value(rows.file)
    assert value == {"row_count": 30_000, "rows": value["rows"]}
    assert file_of(value, FILES) is rows.file
    for other in ({**value, "more": 1}, {"row_count": 30_000, "all": value["rows"]}, value["rows"]):
        file = file_of(other, FILES)
        assert file is not rows.file
        assert as_lists(read_value(file)) == as_lists(other)
    alone = table(MANY)
    assert file_of(alone, FILES) is alone.file


def test_a_part_of_a_file_is_written_alone() -> None:
    both = again({"a": table(MANY), "b": table(FEW)})
    for name, rows in (("a", MANY), ("b", FEW)):
        assert list(again(both[name])) == rows


def test_a_value_without_tables_stays_the_same_object() -> None:
    value = {"a": [1, {"b": 2}]}
    assert without_tables(value) is value
    assert list(tables_in(value)) == []


@pytest.mark.parametrize(
    "whole",
    [
        {},
        {"rest": 1},
        {"rest": {}, "tables": [[["rows"], 3]]},
        {"rest": {}, "tables": [[["a", "b"], 0]]},
        {"rest": [], "tables": [[[5], 0]]},
        {"rest": {}, "tables": 7},
        {"rest": None, "tables": [[["a"], 0]]},
        [],
    ],
    ids=orjson.dumps,
)
def test_a_last_message_that_fits_nothing_is_refused(whole: Any) -> None:
    with pytest.raises(InvalidTable, match="does not say where its tables belong"):
        read_value(table(FEW, whole).file)


def test_what_comes_after_the_table_must_be_one() -> None:
    one = table(FEW)
    os.pwrite(one.file.fileno(), b"more than that", one.file.size)
    with pytest.raises(InvalidTable):
        read_value(MappedFile(os.dup(one.file.fileno()), one.file.size + 14))


@pytest.mark.parametrize("other", [{"n": True, "m": 2}, {"n": 1, "m": 2.0}, {"m": 2, "n": 1}])
def test_a_value_that_only_compares_equal_is_written_anew(other: dict[str, Any]) -> None:
    rows = table(MANY, in_field("rows", {"n": 1, "m": 2}))
    value = {**other, "rows": read_value(rows.file)["rows"]}
    found = again(value)
    assert repr(without_tables(found)) == repr(without_tables(value)), "true is 1, or 2 is 2.0, for its readers"


def test_room_is_asked_for_all_that_is_written() -> None:
    files = Files()
    file = file_of({"a": table(MANY), "b": table(FEW)}, files)
    first, second = files.extended
    assert first < second, "a stream begins where the one before ends"
    assert second >= file.size
