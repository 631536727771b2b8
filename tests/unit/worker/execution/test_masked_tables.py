from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.telemetry.secret_texts import SecretTexts
from noetl_serverless.worker.execution.masked_tables import masked_tables

SECRET = "s3cr3t-value-of-an-hour"
TEXTS = SecretTexts([SECRET, 918273645546372819])


def table(columns: Any) -> Table:
    descriptor = memory_file(0)
    return Table(
        MappedFile(
            descriptor, write_table(descriptor, columns if isinstance(columns, pa.Table) else pa.table(columns)).bytes
        )
    )


def masked(value: Any) -> Any:
    return masked_tables(value, TEXTS, memory_file)


def test_a_table_without_secrets_stays_the_same_file() -> None:
    rows = table({"n": list(range(30_000)), "text": ["x" * 30] * 30_000, "list": [[1, 2]] * 30_000})
    value = {"rows": rows, "note": SECRET}
    assert masked(value)["rows"] is rows
    assert masked(value)["note"] == SECRET, "what is no table is masked elsewhere"


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (["a", f"Bearer {SECRET}!", None], ["a", "Bearer ***!", None]),
        ([1, 918273645546372819, None], ["1", "***", None]),
        ([[], ["b", SECRET], None], ["[]", '["b","***"]', None]),
        ([{"t": "x"}, {"t": f"{SECRET}/{SECRET}"}, None], ['{"t":"x"}', '{"t":"***/***"}', None]),
        (pa.array(["a", SECRET, None]).dictionary_encode(), ["a", "***", None]),
        (pa.array(["a", SECRET, None], pa.large_string()), ["a", "***", None]),
    ],
    ids=str,
)
def test_secrets_are_replaced_and_all_else_stays(column: Any, found: list[Any]) -> None:
    rows = table({"n": [1, 2, 3], "v": column})
    (after,) = (masked({"rows": rows})["rows"],)
    assert [row["v"] for row in after] == found
    assert [row["n"] for row in after] == [1, 2, 3]
    assert after.schema.field("n").type == pa.int64()
    assert SECRET.encode() not in bytes(after.file.view)


def test_a_secret_far_down_is_found_and_one_table_at_two_places_is_written_once() -> None:
    texts = ["x"] * 250_000
    texts[249_999] = SECRET
    rows = table({"v": texts})
    after = masked({"rows": rows, "again": [rows]})
    assert after["rows"] is after["again"][0]
    assert (after["rows"][249_999], after["rows"][0]) == ({"v": "***"}, {"v": "x"})


def test_names_of_columns_are_masked() -> None:
    assert list(masked(table({f"of {SECRET}": [1]}))) == [{"of ***": "1"}]


def test_what_cannot_be_written_leaves_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def full(size: int) -> int:
        opened.append(os.open("/dev/full", os.O_RDWR))
        return opened[-1]

    with pytest.raises(OSError, match="No space"):
        masked_tables(table({"v": [SECRET * 100]}), TEXTS, full)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


@pytest.mark.parametrize(
    "column",
    [
        pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), ["a", "b", SECRET]),
        pa.array([None, None, None], pa.struct([(SECRET, pa.int64())])),
        pa.array([[{SECRET: 1}], [], []], pa.list_(pa.struct([(SECRET, pa.int64())]))),
        [[["x"]], [[SECRET]], None],
    ],
    ids=["an entry of a dictionary that no row has", "a name in a null", "a name in a list", "a list in a list"],
)
def test_secrets_beside_the_values_are_replaced(column: Any) -> None:
    rows = table({"n": [1, 2, 3], "v": column})
    after = masked(rows)
    assert SECRET.encode() not in bytes(after.file.view)
    assert [row["n"] for row in after] == [1, 2, 3]


def test_what_a_producer_keeps_beside_the_columns_is_not_stored() -> None:
    field = pa.field("v", pa.struct([pa.field("x", pa.int64(), metadata={"note": SECRET})]), metadata={"note": SECRET})
    rows = table(pa.Table.from_arrays([pa.array([{"x": 1}], field.type)], schema=pa.schema([field], {"note": SECRET})))
    assert SECRET.encode() not in bytes(rows.file.view)
    assert list(rows) == [{"v": {"x": 1}}]
