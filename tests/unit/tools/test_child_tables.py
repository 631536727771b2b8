"""What code declares, and what counts as a table; the rest is tested with real children."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import orjson
import polars
import pyarrow as pa
import pytest
from tests.opened_files import OpenedBy

from noetl_serverless.playbook.values import InvalidValue
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tools import child_tables
from noetl_serverless.tools.child_tables import Given, WrongInput, is_frame, kind_of
from noetl_serverless.tools.given_names import may_be_table, may_declare_tables


class Exported:
    """As any library may give its tables to others."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (pa.Table, "arrow"),
        (pa.RecordBatchReader, "reader"),
        (pa.Table | None, "arrow"),
        (typing.Optional[pa.Table], "arrow"),  # noqa: UP045
        ("pa.Table", "arrow"),
        ("other.Table | None", "arrow"),
        ("typing.Optional[pa.RecordBatchReader]", "reader"),
        ("T", "arrow"),
        # which the code imports only where types are checked
        ("pd.DataFrame", "pandas"),
        ("pandas.DataFrame | None", "pandas"),
        ("pl.LazyFrame", "lazy"),
        ("polars.DataFrame", "polars"),
        (list, None),
        (list[pa.Table], None),
        (dict[str, typing.Any], None),
        ("list[dict]", None),
        ("DataFrame", None),
        ("mine.Table", None),
        ("pa.Table.nothing", None),
        ("pa.no.Table", None),
        ("exit()", None),
        (pa.RecordBatch, None),
        (None, None),
        (5, None),
    ],
)
def test_a_parameter_is_declared_by_type_or_by_name(annotation: Any, kind: str | None) -> None:
    mine = types.SimpleNamespace(Table=pa.Table)
    names = {"pa": pa, "other": pa, "T": pa.Table, "mine": mine}
    assert kind_of(annotation, names) == kind
    if kind is not None:
        assert may_declare_tables({"n": int, "rows": annotation}, names)


def test_ordinary_annotations_declare_no_table() -> None:
    assert not may_declare_tables({"n": int, "x": dict, "y": list[dict[str, int]], "z": "list[int]", "return": str}, {})


def test_columns_and_batches_are_no_frames() -> None:
    table = pa.table({"n": [1]})
    assert [is_frame(value) for value in (table, table.to_reader(), table.to_batches()[0], Exported(table))] == [
        True
    ] * 4
    assert [is_frame(value) for value in (table["n"], pa.array([1]), [1], {"n": 1}, None)] == [False] * 5
    assert not any(map(may_be_table, ([1], {"n": 1}, None, "x", object())))


def replied(value: Any, limit: int = 64_000, open_file: Callable[[int], int] | None = None) -> Any:
    def none(size: int) -> int:
        raise AssertionError("a small table needs no file")

    content = child_tables.reply(value, limit, OpenedBy(open_file or none), nullcontext())
    return None if content is None else orjson.loads(content)


@pytest.mark.parametrize("made", [pa.Table, Exported, "reader", "batch"])
def test_few_rows_are_a_list_whatever_they_come_as(made: Any) -> None:
    table = pa.table({"n": [1, 2], "x": [0.5, float("nan")]})
    value: Any = Exported(table) if made is Exported else table
    value = table.to_reader() if made == "reader" else table.to_batches()[0] if made == "batch" else value
    assert replied(value) == {"data": [{"n": 1, "x": 0.5}, {"n": 2, "x": None}]}


def test_rows_stay_where_the_table_was() -> None:
    table = pa.table({"n": [1]})
    reply = replied({"a": 1, "rows": table, "other": table, "b": None})
    assert reply == {"data": {"a": 1, "rows": [{"n": 1}], "other": [{"n": 1}], "b": None}}
    assert list(reply["data"]) == ["a", "rows", "other", "b"]


def test_a_value_without_a_table_is_left_alone() -> None:
    assert replied({"a": 1, "column": pa.table({"n": [1]})["n"]}) is None


def test_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    with pytest.raises(InvalidValue, match="two columns of the table have the name 'n'") as refused:
        replied({"rows": table})
    assert refused.value.path == ["data", "rows"]


@pytest.mark.parametrize("limit", [64_000, 0], ids=["few", "many"])
def test_values_that_do_not_fit_their_type_are_refused(limit: int) -> None:
    texts = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    with pytest.raises(InvalidValue, match=r"the values of the table do not fit their types: .*UTF8") as refused:
        replied({"rows": pa.table({"text": texts})}, limit, memory_file)
    assert refused.value.path == ["data", "rows"]


@pytest.mark.parametrize("limit", [64_000, 0], ids=["few", "many"])
def test_more_values_than_the_bytes_of_a_table_can_hold_are_refused(limit: int) -> None:
    table = pa.table({"l": pa.array([[None] * 2_000_000], pa.list_(pa.null()))})
    with pytest.raises(InvalidValue, match="cannot be read: it has 2000000 nested values without content") as refused:
        replied({"rows": table}, limit, memory_file)
    assert refused.value.path == ["data", "rows"]


@pytest.mark.parametrize("rows", [0, 2], ids=["no rows", "empty lists"])
@pytest.mark.parametrize("limit", [64_000, 0], ids=["few", "many"])
def test_a_union_without_values_is_returned(limit: int, rows: int) -> None:
    # for which nbytes of pyarrow ends the process
    union = pa.UnionArray.from_sparse(pa.array([], pa.int8()), [pa.array([], pa.int64()), pa.array([], pa.string())])
    lists = pa.ListArray.from_arrays(pa.array([0] * (rows + 1), pa.int32()), union)
    batch = pa.record_batch([lists if rows else union], names=["u"])
    reply = replied(pa.RecordBatchReader.from_batches(batch.schema, [batch]), limit, memory_file)
    assert reply.get("file", {"rows": len(reply.get("data", []))})["rows"] == rows


def test_a_document_that_is_too_deep_is_refused_where_the_table_is() -> None:
    schema = pa.schema([field_of("j", pa.string(), "json")])
    table = pa.Table.from_arrays([pa.array(["[" * 300 + "]" * 300])], schema=schema)
    with pytest.raises(InvalidValue, match="row 0, column 'j': the document is nested deeper than") as refused:
        replied({"rows": table})
    assert refused.value.path == ["data", "rows"]


@pytest.mark.parametrize("rows", [1, 20_000])
@pytest.mark.parametrize("kind", ["frame", "lazy", "nested"])
def test_a_column_of_objects_of_polars_is_refused_by_its_name(rows: int, kind: str) -> None:
    objects = polars.DataFrame({"id": range(rows), "v": polars.Series([{1}] * rows, dtype=polars.Object)})
    made = {"frame": objects, "lazy": objects.lazy(), "nested": {"rows": objects}}[kind]
    with pytest.raises(InvalidValue, match=r"column 'v' has the type Object of polars.*frame.to_dicts\(\)"):
        replied(made)


def test_a_limit_of_zero_keeps_the_types_of_any_number_of_rows() -> None:
    for rows in (0, 10):
        assert "file" in replied(pa.table({"n": pa.array(range(rows), pa.int8())}), 0, memory_file), rows


def test_only_what_main_declares_is_converted() -> None:
    def main(rows: pa.Table, more: list, text: str, none: pa.Table | None) -> None: ...  # type: ignore[type-arg]

    arguments = {"rows": [{"n": 1}], "more": [{"n": 2}], "text": "x", "none": None}
    main.__annotations__ = {"rows": pa.Table, "more": list, "text": str, "none": "pa.Table | None"}
    found = Given().for_main(main, arguments)  # type: ignore[arg-type]
    assert found.pop("rows").to_pylist() == [{"n": 1}]
    assert found == {"more": [{"n": 2}], "text": "x", "none": None}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"rows": [{"n": 1}], "row_count": 1}, "an object is given; give it 'rows' of that: {{ step.rows }}"),
        ({"n": 1}, "an object is given"),
        ([1], "a list is given that holds other things than objects"),
        ("text", "a value of type str is given"),
    ],
)
def test_what_is_no_table_is_refused_where_one_is_declared(value: Any, why: str) -> None:
    def main(rows: Any) -> None: ...

    main.__annotations__ = {"rows": pa.RecordBatchReader}
    with pytest.raises(WrongInput) as refused:
        Given().for_main(main, {"rows": value})  # type: ignore[arg-type]
    assert str(refused.value) == f"main declares 'rows' as pyarrow.RecordBatchReader, and {why}"


def test_rows_whose_columns_have_several_types_are_refused_with_the_places() -> None:
    def main(rows: Any) -> None: ...

    rows = [{"n": 1, "v": None}, {"n": 2.5, "v": 1}, {"n": 3, "v": "x"}]
    for kind, name in ((pa.Table, "pyarrow.Table"), (polars.DataFrame, "polars.DataFrame")):
        main.__annotations__ = {"rows": kind}
        with pytest.raises(WrongInput) as refused:
            Given().for_main(main, {"rows": rows})  # type: ignore[arg-type]
        said = f"main declares 'rows' as {name}: the rows are no table: column 'v': int in row 1, str in row 2"
        assert str(refused.value).startswith(said)


def test_rows_that_are_declared_as_what_they_cannot_be_are_refused_and_other_values_are_not() -> None:
    def main(rows: Any) -> None: ...

    main.__annotations__ = {"rows": polars.Series}
    with pytest.raises(
        WrongInput, match=r"'rows' as polars\.Series, and rows are given, which can be pyarrow\.Table, "
    ):
        Given().for_main(main, {"rows": [{"n": 1}]})  # type: ignore[arg-type]
    for annotation, value in (
        (polars.Series, "x"),
        (polars.Series, [1]),
        (dict, [{"n": 1}]),
        ("SomeFrame", [{"n": 1}]),
    ):
        main.__annotations__ = {"rows": annotation}
        assert Given().for_main(main, {"rows": value}) == {"rows": value}  # type: ignore[arg-type]
