from __future__ import annotations

import decimal
import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute
import pytest

from noetl_serverless.tables import rows as noetl_rows
from noetl_serverless.tables.leaves import leaves
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.rows import values_of
from noetl_serverless.tables.sealed import IN_MEMORY, FilesInMemory, memory_file
from noetl_serverless.tables.stream import in_field, write_batches, write_table
from noetl_serverless.tables.table import CHUNK_ROWS, Table
from noetl_serverless.tables.value import read_value
from noetl_serverless.telemetry.secret_texts import SecretTexts
from noetl_serverless.worker.execution import table_search
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
    return masked_tables(value, TEXTS, IN_MEMORY)


def test_a_table_without_secrets_stays_the_same_file() -> None:
    rows = table({"n": list(range(30_000)), "text": ["x" * 30] * 30_000, "list": [[1, 2]] * 30_000})
    value = {"rows": rows, "note": SECRET}
    assert masked(value)["rows"] is rows
    assert masked(value)["note"] == SECRET, "what is no table is masked elsewhere"


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (["a", f"Bearer {SECRET}!", None], ["a", "Bearer ***!", None]),
        ([1, 918273645546372819, None], [1, "***", None]),
        ([[], ["b", SECRET], None], [[], ["b", "***"], None]),
        ([{"t": "x"}, {"t": f"{SECRET}/{SECRET}"}, None], [{"t": "x"}, {"t": "***/***"}, None]),
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
    assert list(masked(table({f"of {SECRET}": [1]}))) == [{"of ***": 1}]


def test_what_cannot_be_written_leaves_no_file_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    class Full(FilesInMemory):
        def open(self, size: int) -> int:
            opened.append(os.open("/dev/full", os.O_RDWR))
            return opened[-1]

    with pytest.raises(OSError, match="No space"):
        masked_tables(table({"v": [SECRET * 100]}), TEXTS, Full())
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


TEXT = ["x" * 70] * 5 + [SECRET]
IS_SECRET = pa.array([False] * 5 + [True])


def under_a_null(column: pa.Array) -> pa.Array:
    """As pyarrow and polars leave out what a condition holds for."""
    return compute.if_else(IS_SECRET, pa.scalar(None, column.type), column)


def in_a_null_struct() -> pa.Array:
    return pa.StructArray.from_arrays([pa.array(TEXT)], names=["text"], mask=IS_SECRET)


def decimal_under_a_null() -> pa.Array:
    column = pa.array([1, 2, 3, 4, 5, 918273645546372819]).cast(pa.decimal128(30, 0))
    return pa.Array.from_buffers(column.type, 6, [compute.invert(IS_SECRET).buffers()[1], column.buffers()[1]])


def in_a_null_list() -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(7), pa.int32()), pa.array(TEXT), mask=IS_SECRET)


@pytest.mark.parametrize(
    "column",
    [
        under_a_null(pa.array(TEXT)),
        in_a_null_struct(),
        in_a_null_list(),
        pa.array(["ab"] * 5 + [SECRET]).slice(0, 5),
        pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), pa.array(["a", "b", SECRET])),
        pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), ["a", "b", SECRET]),
        under_a_null(pa.array([1, 2, 3, 4, 5, 918273645546372819])),
        decimal_under_a_null(),
        pa.array([1, 2, 3, 918273645546372819]).slice(0, 3),
        pa.ListArray.from_arrays(
            pa.array(range(7), pa.int32()), pa.array([1, 2, 3, 4, 5, 918273645546372819]), mask=IS_SECRET
        ),
    ],
    ids=[
        "under a null",
        "in a null struct",
        "in a null list",
        "next to a slice",
        "next to a list",
        "in a dictionary",
        "a number under a null",
        "a decimal under a null",
        "a number next to a slice",
        "a number in a null list",
    ],
)
def test_what_no_row_shows_is_not_stored(column: pa.Array) -> None:
    batch = pa.record_batch([column], names=["v"])
    descriptor = memory_file(0)
    # not through the interface of C, which knows no padding
    rows = Table(MappedFile(descriptor, write_batches(descriptor, batch.schema, [batch]).bytes))
    assert is_stored(rows), "the secret is not there at all"
    after = masked(rows)
    assert not is_stored(after)
    assert (list(after), after.schema) == (list(rows), rows.schema), "what rows show stays as it is"


def is_stored(rows: Table) -> bool:
    content = bytes(rows.file.view)
    return SECRET.encode() in content or (918273645546372819).to_bytes(8, "little") in content


def test_what_polars_leaves_out_is_not_stored() -> None:
    import polars

    frame = polars.DataFrame({"id": range(6), "text": TEXT, "list": [[text] for text in TEXT]})
    frame = frame.with_columns(
        polars.when(polars.col("id") == 5).then(None).otherwise(polars.col(name)).alias(name)
        for name in ("text", "list")
    )
    rows = table(frame.to_arrow())
    assert is_stored(rows)
    after = masked(rows)
    assert not is_stored(after)
    assert list(after) == list(rows)


@pytest.mark.parametrize(
    "column",
    [
        pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, 2])], [SECRET]),
        pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, 2]), pa.array([SECRET] * 2)], ["a", "b"]),
        pa.UnionArray.from_sparse(
            pa.array([0, 0], pa.int8()), [pa.array([1, 2]), pa.array([918273645546372819] * 2)], ["a", "b"]
        ),
    ],
    ids=["a name", "a text that no row has", "a number that no row has"],
)
def test_what_is_hidden_in_a_union_is_not_stored(column: pa.Array) -> None:
    rows = table({"v": column})
    assert is_stored(rows)
    after = masked(rows)
    assert not is_stored(after)
    assert list(after) == [{"v": 1}, {"v": 2}]


def test_what_the_last_message_of_a_file_holds_is_not_stored() -> None:
    descriptor = memory_file(0)
    size = write_table(descriptor, pa.table({"n": [1, 2]}), in_field("rows", {"note": SECRET})).bytes
    value = read_value(MappedFile(descriptor, size))
    after = masked(value)["rows"]
    assert not is_stored(after)
    assert (list(after), after.whole) == ([{"n": 1}, {"n": 2}], None)


def test_what_only_looks_like_a_secret_changes_no_type() -> None:
    column = pa.array([["1918273645546372819"], ["a"]])
    rows = table({"v": column})
    after = masked(rows)
    assert (list(after), after.schema) == (list(rows), rows.schema)


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("us"), pa.timestamp("s"), pa.date32(), pa.duration("s"), pa.time64("ns"), pa.float16()],
    ids=str,
)
def test_values_beyond_the_calendar_of_python_are_compared_with_numbers(kind: pa.DataType) -> None:
    largest = pa.array([1.0], kind) if kind == pa.float16() else pa.array([2**30], kind)
    if kind.bit_width == 64 and not pa.types.is_time(kind):
        largest = pa.array([2**60], pa.int64()).cast(kind)
    rows = table({"v": largest})
    assert masked(rows) is rows


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.float64(), pa.float32(), pa.decimal128(30, 2)], ids=str)
def test_a_number_is_found_in_whatever_type_it_is_exact(kind: pa.DataType) -> None:
    texts = SecretTexts(["16777216"])
    after = masked_tables(table({"v": pa.array([1, 16777216]).cast(kind)}), texts, IN_MEMORY)
    assert [row["v"] for row in after][1] == "***"


def test_numbers_that_no_value_of_a_type_can_be_are_not_looked_for_in_it() -> None:
    texts = SecretTexts([70000, 1234.5, 2**70])
    rows = table({"n": pa.array([1, 127], pa.int8()), "v": pa.array([0.5, 2.0], pa.float16())})
    assert masked_tables(rows, texts, IN_MEMORY) is rows


def test_columns_whose_names_hold_secrets_keep_different_names() -> None:
    texts = SecretTexts([SECRET, "another-secret-text"])
    rows = table({SECRET: [1], "***": [2], "another-secret-text": [3], "***3": [4]})
    after = masked_tables(rows, texts, IN_MEMORY)
    assert list(after) == [{"***2": 1, "***": 2, "***4": 3, "***3": 4}]


def test_a_masked_dictionary_stays_one_and_takes_no_more_room() -> None:
    entries = pa.array(["v" * 200, SECRET, f"Bearer {SECRET}", "***", None])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 4] * 20_000, pa.int8()), entries)
    rows = table({"v": column})
    after = masked(rows)
    assert not is_stored(after)
    assert [row["v"] for row in after][:5] == ["v" * 200, "***", "Bearer ***", "***", None]
    assert after.file.size < 5 * rows.file.size
    dictionary = next(after.batches()).column(0).dictionary.to_pylist()
    assert len(dictionary) == len(set(dictionary)), "readers take the entries of a dictionary for distinct"


def test_a_masked_table_grows_only_as_far_as_there_is_room() -> None:
    asked: list[int] = []

    class Counted(FilesInMemory):
        def extend(self, descriptor: int, size: int) -> bool:
            asked.append(size)
            return False

    rows = table({"v": [[1] * 50] * 5_000 + [[918273645546372819]]})
    after = masked_tables(rows, TEXTS, Counted())
    assert asked and max(asked) >= after.file.size, f"{after.file.size} bytes were written, and room asked for {asked}"


ESCAPED = 'Zk8+pQ/9v"T'


def with_form(form: str, texts: list[str | None]) -> pa.Table:
    field = pa.field("v", pa.string(), metadata={"noetl.form": form})
    return pa.table([pa.array(texts)], schema=pa.schema([field]))


@pytest.mark.parametrize(
    "written",
    [r"Zk8+pQ\/9v\"T", r"Zk8\u002BpQ/9v\"T", r"Zk8\u002bpQ\/9v\u0022T", r"Zk8+pQ/9v\"T"],
)
def test_a_secret_in_a_document_is_found_however_it_is_escaped(written: str) -> None:
    rows = table(with_form("json", [f'{{"id": 1, "k": "{written}"}}', '{"id": 2.50, "k": "x"}', None]))
    assert rows[0]["v"]["k"] == ESCAPED
    after = masked_tables(rows, SecretTexts([ESCAPED]), IN_MEMORY)
    assert list(after) == [{"v": {"id": 1, "k": "***"}}, {"v": {"id": 2.5, "k": "x"}}, {"v": None}]
    assert written.encode() not in bytes(after.file.view), "the document is still stored"


def test_a_document_that_hides_a_secret_behind_its_own_name_is_written_anew() -> None:
    rows = table(with_form("json", [r'{"k": "Zk8\u002BpQ/9v\"T", "k": 1}', '{"k": 2}']))
    after = masked_tables(rows, SecretTexts([ESCAPED]), IN_MEMORY)
    assert list(after) == list(rows)
    assert b"pQ/9v" not in bytes(after.file.view)


def test_what_is_no_document_is_masked_as_a_text() -> None:
    rows = table(with_form("json", ["{", f"[{SECRET}", f'["{SECRET}"]']))
    written = masked(rows).reader().read_all().column(0).to_pylist()
    assert written == ["{", "[***", '["***"]']


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([6374, 1], pa.date32()), ["***", "1970-01-02"]),
        (pa.array([550713600, 1], pa.timestamp("s")), ["***T00:00:00", "1970-01-01T00:00:01"]),
        (pa.array([6374, 1], pa.date32()).dictionary_encode(), ["***", "1970-01-02"]),
        (pa.array([[6374], [1]], pa.list_(pa.date32())), [["***"], ["1970-01-02"]]),
        (pa.array([[(6374, 1)], []], pa.map_(pa.date32(), pa.int8())), [{"***": 1}, {}]),
    ],
    ids=["date", "instant", "dictionary", "list", "name in a map"],
)
def test_dates_are_searched_as_rows_show_them(column: pa.Array, shown: list[Any]) -> None:
    after = masked_tables(table({"v": column}), SecretTexts(["1987-06-15"]), IN_MEMORY)
    assert [row["v"] for row in after] == shown


def test_only_times_that_could_show_a_secret_are_made_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(values: Any, form: str | None = None) -> list[Any]:
        raise AssertionError(f"{values.type} is made texts")

    monkeypatch.setattr(table_search, "values_of", made)
    rows = table({"d": pa.array([1], pa.date32()), "t": pa.array([1], pa.timestamp("us"))})
    assert masked(rows) is rows


def test_a_decimal_is_found_with_zeros_at_its_end() -> None:
    texts = SecretTexts(["987654.5"])
    after = masked_tables(table(with_form("decimal", ["987654.500", "12.50"])), texts, IN_MEMORY)
    assert list(after) == [{"v": "***"}, {"v": 12.5}]
    texts = SecretTexts(["8675309"])
    after = masked_tables(table(with_form("json", ['{"n": 8.675309e6}', '{"n": 1.0}'])), texts, IN_MEMORY)
    assert list(after) == [{"v": {"n": "***"}}, {"v": {"n": 1.0}}]


@pytest.mark.parametrize(
    ("secret", "kind", "value", "document"),
    [
        ("1234567.00", pa.decimal128(12, 0), 1234567, "1234567"),
        (1234567.0, pa.decimal64(12, 0), 1234567, "1234567"),
        (10**17, pa.float64(), 1e17, "1e17"),
        ("100000000000000000", pa.decimal128(20, 1), 10**17, "100000000000000000.0"),
        (12345.5, pa.decimal64(12, 2), decimal.Decimal("12345.50"), "12345.50"),
    ],
    ids=str,
)
def test_a_number_is_found_as_an_integer_and_as_a_float(
    secret: Any, kind: pa.DataType, value: Any, document: str
) -> None:
    texts = SecretTexts([secret])
    columns = pa.table({"v": pa.array([value], kind), "l": pa.array([[value]], pa.list_(kind))})
    after = masked_tables(table(columns), texts, IN_MEMORY)
    assert list(after) == [{"v": "***", "l": ["***"]}]
    after = masked_tables(table(with_form("json", [f'{{"a": {document}}}'])), texts, IN_MEMORY)
    assert list(after) == [{"v": {"a": "***"}}]


@pytest.mark.parametrize("kind", [pa.decimal32(8, 0), pa.decimal64(12, 2), pa.uint16()], ids=str)
def test_numbers_are_looked_for_in_every_width(kind: pa.DataType) -> None:
    after = masked_tables(table({"v": pa.array([1, 54321], kind)}), SecretTexts([54321]), IN_MEMORY)
    assert list(after) == [{"v": 1}, {"v": "***"}]


def test_a_secret_may_be_a_number_that_no_column_could_have() -> None:
    modulus = 2**2048 + 981_723_645
    rows = table({"n": [1, 2], "text": ["x", f"n={modulus}"]})
    after = masked_tables(rows, SecretTexts([modulus]), IN_MEMORY)
    assert [row["n"] for row in after] == [1, 2]
    assert str(modulus) not in str(list(after))


def test_of_types_that_are_taken_apart_by_slices_few_rows_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_search, "CHUNK_ROWS", 10)
    looked_at: list[int] = []

    def looked_through(column: pa.Array) -> Any:
        looked_at.append(len(column))
        return leaves(column)

    monkeypatch.setattr(table_search, "leaves", looked_through)
    union = pa.UnionArray.from_sparse(pa.array([0] * 95, pa.int8()), [pa.array(["x"] * 94 + [SECRET])])
    assert list(masked(table({"u": union})))[-1] == {"u": "***"}
    assert looked_at == [10] * 9 + [5], "rows of a column of unions"


def test_a_union_or_runs_in_a_struct_with_nulls_are_looked_through() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0] * 3, pa.int8()), [pa.array([1, 2, 3])])
    dense = pa.UnionArray.from_dense(
        pa.array([0] * 3, pa.int8()), pa.array(range(3), pa.int32()), [pa.array([1, 2, 3])]
    )
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array([SECRET]))
    nulls = pa.array([False, True, False])
    columns = [pa.StructArray.from_arrays([it], names=["u"], mask=nulls) for it in (union, dense, runs)]
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 3, pa.binary(16)))
    views = pa.ListViewArray.from_arrays(pa.array([0] * 3, pa.int32()), pa.array([1] * 3, pa.int32()), uuids)
    columns.append(pa.ListArray.from_arrays(pa.array(range(4), pa.int32()), views))
    rows = table({"a": columns[0], "b": columns[1], "c": columns[2], "d": columns[3], "t": [SECRET, "x", "y"]})
    before = list(rows)
    after = list(masked(rows))
    assert [row["c"] for row in after] == [{"u": "***"}, None, {"u": "***"}]
    assert [row["t"] for row in after] == ["***", "x", "y"]
    for name in "abd":
        assert [row[name] for row in after] == [row[name] for row in before], f"column {name} has changed"


@pytest.mark.parametrize("number", [0, 1])
def test_a_table_with_an_empty_union_can_be_written_anew(number: int) -> None:
    codes, items = pa.array([], pa.int8()), [pa.array([], pa.int64())]
    if number:
        union = pa.UnionArray.from_dense(codes, pa.array([], pa.int32()), items)
    else:
        union = pa.UnionArray.from_sparse(codes, items)
    column = pa.ListArray.from_arrays(pa.array([0, 0], pa.int32()), union)
    assert list(masked(table({"v": column, "t": [SECRET]}))) == [{"v": [], "t": "***"}]


def test_a_value_that_stands_for_many_rows_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(values: pa.Array, form: str | None = None) -> list[Any]:
        nonlocal made
        made += len(values)
        return values_of(values, form)

    monkeypatch.setattr(table_search, "values_of", counted)
    many, value = 700, pa.array([b"q" * 10_000, b"r"])
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([many - 1, many], pa.int32()), value)
    entries = pa.DictionaryArray.from_arrays(pa.array([0, 1] * (many // 2), pa.int8()), value)
    maps = pa.MapArray.from_arrays(pa.array(range(many + 1), pa.int32()), pa.array(["k"] * many), entries)
    views = pa.ListViewArray.from_arrays(pa.array([0] * many, pa.int32()), pa.array([2] * many, pa.int32()), value)
    rows = table({"runs": runs, "maps": maps, "views": views})
    assert masked(rows) is rows
    assert made == 6, f"{made} values were made of the two of each column"


def test_a_masked_column_of_runs_takes_no_more_room() -> None:
    value = pa.array([b"q" * 100_000 + SECRET.encode() * 2])
    rows = table({"v": pa.RunEndEncodedArray.from_arrays(pa.array([700], pa.int32()), value)})
    after = masked(rows)
    assert "***" in after[699]["v"]
    assert after.file.size < 3 * rows.file.size


def test_the_runs_of_a_masked_column_are_numbered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    numbered = 0
    decoded = compute.run_end_decode

    def counted(runs: pa.RunEndEncodedArray) -> pa.Array:
        nonlocal numbered
        numbered += len(runs.values)
        return decoded(runs)

    monkeypatch.setattr(compute, "run_end_decode", counted)
    count = 50_000
    ends = pa.array(range(3, 3 * count + 1, 3), pa.int32())
    values = [SECRET if number % 9 == 0 else f"text {number}" for number in range(count)]
    column = pa.RunEndEncodedArray.from_arrays(ends, pa.array(values)).slice(1, 3 * count - 2)
    rows = table({"v": column})
    after = masked(rows)
    assert [row["v"] for row in after] == [TEXTS.text(row["v"]) for row in rows]
    assert numbered <= count + 3 * count // CHUNK_ROWS + 1, f"{count} runs were numbered {numbered} times"


def test_a_dense_union_beside_a_secret_takes_no_more_room() -> None:
    count = 5 * CHUNK_ROWS
    places = pa.array([row // 2 for row in range(count)], pa.int32())
    items = [pa.array([f"text {number}" for number in range(count // 2)]), pa.array(range(count // 2))]
    union = pa.UnionArray.from_dense(pa.array([row % 2 for row in range(count)], pa.int8()), places, items)
    nested = pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), union)
    rows = table({"u": union, "l": nested, "t": [SECRET] + ["x"] * (count - 1)})
    after = masked(rows)
    assert after.schema == rows.schema, "what holds no secret keeps its type"
    # of a batch, the first slice has all values
    assert after.file.size < 2 * rows.file.size
    for place in (0, 1, CHUNK_ROWS, count - 1):
        assert after[place] == {**rows[place], "t": "x" if place else "***"}


def test_extensions_in_runs_stay_what_they_are_beside_a_secret() -> None:
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16), None], pa.binary(16)))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), uuids)
    rows = table({"u": runs, "t": ["x", SECRET, "y"]})
    assert [row["u"] for row in masked(rows)] == [row["u"] for row in rows]


def test_a_large_binary_value_is_looked_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_search, "_BINARY_BYTES", 48)
    monkeypatch.setattr(table_search, "values_of", None)
    clean = table({"v": [bytes(1000)]})
    assert masked(clean) is clean
    for before in range(40, 60):
        after = masked(table({"v": [bytes(before) + SECRET.encode()]}))
        assert "***" in after[0]["v"], f"after {before} bytes"


def test_a_value_too_large_for_a_row_fails_nothing_if_there_is_no_secret_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noetl_rows, "ROW_BYTES", 1000)
    rows = table({"v": [b"q" * 10_000]})
    assert masked(rows) is rows
    after = masked(table({"v": [b"q" * 10_000], "t": [SECRET]}))
    assert after.reader().read_all().column("v").to_pylist() == [b"q" * 10_000]


def test_an_entry_of_a_dictionary_in_a_list_that_no_row_has_is_not_stored() -> None:
    entries = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), pa.array(["a", SECRET]))
    views = pa.ListViewArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([1, 1], pa.int32()), entries)
    rows = table({"v": views})
    assert is_stored(rows)
    after = masked(rows)
    assert not is_stored(after)
    assert list(after) == [{"v": ["a"]}, {"v": ["a"]}]


def test_the_other_rows_of_a_masked_column_stay_what_they_are() -> None:
    columns = {
        "json": ['{"id":2,"k":"x"}', f'{{"id":1,"k":"{SECRET}"}}'],
        "decimal": ["12.50", "918273645546372819"],
        "struct": [{"n": 1.5}, {"n": 918273645546372819.0}],
        "bytes": [b"x", SECRET.encode()],
        "text": ["1", SECRET],
    }
    fields = [pa.field(name, pa.array(values).type) for name, values in columns.items()]
    fields[:2] = [pa.field(name, pa.string(), metadata={"noetl.form": name}) for name in ("json", "decimal")]
    rows = table(pa.table(list(map(pa.array, columns.values())), schema=pa.schema(fields)))
    texts = SecretTexts([SECRET, 918273645546372819, 918273645546372819.0])
    after = masked_tables(rows, texts, IN_MEMORY)
    assert after[0] == rows[0]
    assert after[1] == texts.tree(rows[1])
    assert after.schema.field("json").metadata == {b"noetl.form": b"json"}
