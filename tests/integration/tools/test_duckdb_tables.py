"""Tables out of DuckDB and into it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from tests.opened_files import OpenedBy

from noetl_serverless.tables.forms import field_of, form_of
from noetl_serverless.tables.invalid import RowTooLarge
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tables.value import read_value
from noetl_serverless.tables.values import plain_value
from noetl_serverless.tools.duckdb_casts import cast_of, in_arrow
from noetl_serverless.tools.port import ToolOutcome

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]

EXPRESSIONS = """
true | 1::tinyint | 1::utinyint | 2::smallint | 2::usmallint | 3::int | 3::uinteger | 4::bigint
18446744073709551615::ubigint | 170141183460469231731687303715884105727::hugeint | 5::hugeint | (-5)::hugeint
9223372036854775808::hugeint | 340282366920938463463374607431768211455::uhugeint | 7::uhugeint
1.5::float | 0.1::float | 0.1::double | 'nan'::double | 'inf'::double | '-inf'::float
1.10::decimal(9,2) | 1::decimal(4,0) | 12345678901234567890.5::decimal(38,5) | 'abc' | '' | 'a'::blob | '0101'::bit
'00000000-0000-0000-0000-000000000001'::uuid | date '2024-02-29' | date '0044-03-15 (BC)' | date '10000-01-01'
date '0001-01-01' | date '9999-12-31' | 'infinity'::date | '-infinity'::date | time '01:02:03.5' | time '24:00:00'
time '01:02:03' | timetz '01:02:03.5+02' | timestamp '2024-01-02 03:04:05.25' | timestamp_s '2024-01-02 03:04:05'
timestamp_ms '2024-01-02 03:04:05.250' | timestamp_ns '2024-01-02 03:04:05.123456789'
timestamptz '2024-01-02 03:04:05.25+02' | 'infinity'::timestamp | '-infinity'::timestamp | 'infinity'::timestamptz
timestamp '10000-01-01' | timestamp '10000-01-01 01:02:03.25' | timestamp '0044-03-15 (BC) 01:02:03'
timestamptz '10000-01-01 00:00:00+00' | interval '1 month 2 days 3 hours' | interval '-1.5 seconds'
map {'a':1,'b':2} | map {1:'x'} | map {'a':[date '2024-01-01']} | map {interval '1 day': 1} | map {date '2024-01-01': 1}
{'x':1.5,'y':uuid '00000000-0000-0000-0000-000000000001'}
{'h': 5::hugeint, 'i': interval '1 day', 't': timetz '01:02:03+02', 'n': timestamp_ns '2024-01-02'}
{'u': 5::uhugeint} | {'i': [interval '1 day', null], 'd': date '10000-01-01', 't': time '24:00:00'}
[1,2,null] | [interval '1 day'] | [1.5::decimal(4,2)] | [1,2,3]::int[3] | [[1],[2]] | [null] | [] | ['nan'::double]
union_value(num:=2) | union_value(str:='x')::union(num int, str varchar) | {'u': union_value(num:=2)}
'{"a": 1}'::json | null | null::int | null::date[] | 'a'::enum('a', 'b')
 [timestamp_ns '2024-01-02 03:04:05.123456789']
row(1, 2) | [date '10000-01-01'] | [timestamp 'infinity'] | [true::bit] | time_ns '01:02:03.123456789'
'12345678901234567890123'::bignum | '5'::bignum | [uuid '00000000-0000-0000-0000-000000000001'] | 'x'::variant
"""


INFINITE = {
    **{f"'{text}'::{kind}": f"'{text}'" for text in ("infinity", "-infinity") for kind in ("date", "timestamp")},
    "'infinity'::timestamptz": "'infinity'",
    "[timestamp 'infinity']": "['infinity']",
}


def expressions() -> list[str]:
    return [part.strip() for line in EXPRESSIONS.strip().splitlines() for part in line.split(" | ")]


def selected(found: list[str]) -> str:
    return "SELECT " + ", ".join(f"{expression} AS c{index}" for index, expression in enumerate(found))


@pytest.mark.parametrize("is_table", [False, True])
async def test_every_type_has_the_json_value_that_duckdb_gives_to_python(run: Run, is_table: bool) -> None:
    # no table holds an integer of 39 digits or the end of a day
    without = ("170141183460469231731687303715884105727", "24:00:00") if is_table else ("\0",)
    found = [expression for expression in expressions() if not any(text in expression for text in without)]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        kinds = connection.sql(selected(found)).types
        (values,) = connection.execute(selected(found)).fetchall()
    expected = {expression: repr(plain_value(value)) for expression, value in zip(found, values, strict=True)}
    # one column that Arrow lacks and that is not cast changes how all are read
    all_cast = [expression for expression, kind in zip(found, kinds, strict=True) if cast_of(kind) is not None]
    all_in_arrow = [expression for expression, kind in zip(found, kinds, strict=True) if in_arrow(kind)]
    assert len(found) - 14 < len(all_in_arrow) < len(all_cast) < len(found)
    for some in (found, all_cast, all_in_arrow):
        outcome = await run("duckdb", {"query": selected(some)}, inline_bytes=1 if is_table else 1 << 20)
        assert outcome.error is None, outcome.error
        assert isinstance(outcome.data["rows"], Table if is_table else list)
        given = dict(zip(some, map(repr, outcome.data["rows"][0].values()), strict=True))
        # Python has no infinite dates and instants
        infinite = {} if some is found else {text: value for text, value in INFINITE.items() if text in some}
        assert given == {**{expression: expected[expression] for expression in some}, **infinite}


async def test_many_rows_are_a_table(run: Run) -> None:
    query = "SELECT range AS n, 'row ' || range AS name, 1 AS n FROM range(20000)"
    outcome = await run("duckdb", {"query": query})
    table = outcome.data.pop("rows")
    assert outcome.data == {
        "status": "ok",
        "row_count": 20_000,
        "columns": ["n", "name", "n_2"],
        "statement_count": 1,
    }
    assert table.schema.types == [pa.int64(), pa.string(), pa.int32()]
    assert (len(table), table[19_999]) == (20_000, {"n": 19_999, "name": "row 19999", "n_2": 1})
    # what is read back from the file is the result as the step gave it
    assert {**read_value(table.file), "rows": None} == {**outcome.data, "rows": None}


ODD = {
    "TIMETZ '12:00:00.5+02'": (pa.string(), None, "12:00:00.500000+02:00"),
    "'0101'::BIT": (pa.string(), None, "0101"),
    "'12345678901234567890123'::BIGNUM": (pa.string(), None, "12345678901234567890123"),
    "5::UHUGEINT": (pa.string(), "json", 5),
    "340282366920938463463374607431768211455::UHUGEINT": (pa.string(), "json", str(2**128 - 1)),
    "{'a \"b{}': [5::UHUGEINT], 'd': DATE '2026-01-01'}": (pa.string(), "json", {'a "b{}': [5], "d": "2026-01-01"}),
    "MAP {'k': [TIMETZ '24:00:00+02', NULL]}": (pa.string(), "json", {"k": ["24:00:00+02", None]}),
    "[1, 2]::UHUGEINT[2]": (pa.string(), "json", [1, 2]),
    "NULL::UHUGEINT": (pa.string(), "json", None),
    # a key in JSON is a text, whatever it was
    "MAP {[1, 2]: TIMETZ '10:00:00+01'}": (pa.string(), "json", {"[1, 2]": "10:00:00+01:00"}),
    "MAP {{'a': 1}: 1::UHUGEINT}": (pa.string(), "json", {"{'a': 1}": 1}),
    "MAP {MAP {1: 2}: [1::UHUGEINT]}": (pa.string(), "json", {"{'1': 2}": [1]}),
    "MAP {DATE '2026-01-01': MAP {[1]: '01'::BIT}}": (pa.string(), "json", {"2026-01-01": {"[1]": "01"}}),
    "MAP {5::UHUGEINT: 1}": (pa.string(), "json", {"5": 1}),
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_column_of_a_type_that_tables_lack_leaves_the_others_their_types(run: Run, odd: str) -> None:
    kind, form, value = ODD[odd]
    query = (
        f"SELECT i AS id, DATE '2026-01-01' AS day, 1.5::DECIMAL(9,2) AS amount, {odd} AS odd, 'b'::BLOB AS id,"
        " '-infinity'::TIMESTAMPTZ AS moment FROM range(9000) t(i) ORDER BY i DESC"
    )
    outcome = await run("duckdb", {"query": query})
    assert outcome.error is None, outcome
    table = outcome.data["rows"]
    instant = pa.timestamp("us", "UTC")
    assert table.schema.types == [pa.int64(), pa.date32(), pa.decimal128(9, 2), kind, pa.binary(), instant]
    assert form_of(table.schema.field("odd")) == form
    first = {"id": 8999, "day": "2026-01-01", "amount": 1.5, "odd": value, "id_2": "Yg==", "moment": "-infinity"}
    assert (len(table), table[0], table[8999]) == (9_000, first, {**first, "id": 0})


PYTHONS = {
    "'\\xAA\\x00'::BLOB::VARIANT": "qgA=",
    "TIMESTAMP '2026-01-01 10:00:00'::VARIANT": "2026-01-01T10:00:00",
    "(INTERVAL 40 DAY)::VARIANT": "40 days, 0:00:00",
    "'12:00:00+02'::TIMETZ::VARIANT": "12:00:00+02:00",
    "{'a': [1.5, 'nan'::DOUBLE], 'n': 2}::VARIANT": {"a": [1.5, None], "n": 2},
    "{'v': 'a'::BLOB::VARIANT}": {"v": "YQ=="},
    "MAP {[1::UHUGEINT]: 1}": {"key": [[1]], "value": [1]},
    "MAP {{'a': 1::UHUGEINT}: 1}": {"key": [{"a": 1}], "value": [1]},
    "MAP {MAP {'x': 1::UHUGEINT}: 1}": {"key": [{"x": 1}], "value": [1]},
    "[MAP {[TIMETZ '12:00:00+02']: 'b'}]": [{"key": [["12:00:00+02:00"]], "value": ["b"]}],
}


@pytest.mark.parametrize("returned", [False, True])
@pytest.mark.parametrize("odd", PYTHONS)
async def test_what_no_cast_keeps_has_the_value_that_duckdb_gives_to_python(run: Run, odd: str, returned: bool) -> None:
    query = f"SELECT i AS id, {odd} AS odd FROM range(9000) t(i)"
    if returned:
        query = f"CREATE TABLE found AS {query} LIMIT 0; INSERT INTO found {query} RETURNING *"
    outcome = await run("duckdb", {"query": query})
    assert outcome.error is None, outcome
    table = outcome.data["rows"]
    assert (table.schema.types, form_of(table.schema.field("odd"))) == ([pa.int64(), pa.string()], "json")
    assert (len(table), table[8999]) == (9_000, {"id": 8999, "odd": PYTHONS[odd]})


# how rows are read: as they are, cast, and as values of Python
READ_AS = {"arrow": "1", "cast": "1::UHUGEINT", "python": "1::VARIANT"}


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("value", ["1", "$one"])
@pytest.mark.parametrize("read_as", READ_AS)
async def test_a_query_that_changes_something_runs_once(run: Run, read_as: str, value: str, many: bool) -> None:
    count = 9_000 if many else 2
    beside = f"{READ_AS[read_as]} AS beside, {value}::INTEGER AS one"
    begin = "CREATE SEQUENCE s; CREATE TABLE t (n INTEGER);"
    query = f"{begin} SELECT nextval('s') AS n, {beside} FROM range({count})"
    outcome = await run("duckdb", {"query": query, "params": {"one": 1}})
    assert outcome.error is None, outcome
    assert [row["n"] for row in outcome.data["rows"]] == list(range(1, count + 1)), "the sequence was read twice"
    assert outcome.data["rows"][0] == {"n": 1, "beside": 1, "one": 1}
    insert = (
        f"{begin} WITH new AS (INSERT INTO t SELECT range FROM range({count}) RETURNING n) SELECT n, {beside} FROM new"
    )
    database = {"database": "once.db", "params": {"one": 1}}
    inserted = await run("duckdb", {"query": insert, **database})
    assert (inserted.error, inserted.data["row_count"]) == (None, count)
    stored = await run("duckdb", {"query": "SELECT count(*) AS n FROM t", **database})
    assert stored.data["rows"] == [{"n": count}], "the rows were inserted twice"


@pytest.mark.parametrize("value", ["1", "$one"])
@pytest.mark.parametrize("read_as", READ_AS)
async def test_a_volatile_function_is_called_once(run: Run, read_as: str, value: str) -> None:
    query = f"SELECT random() AS r, {READ_AS[read_as]} AS beside, {value}::INTEGER AS one FROM range(3)"
    outcome = await run("duckdb", {"query": f"SELECT setseed(0.25); {query}", "params": {"one": 1}, "threads": 1})
    assert outcome.error is None, outcome
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SELECT setseed(0.25)").fetchall()
        expected = connection.execute("SELECT random() FROM range(3)").fetchall()
    assert [(row["r"],) for row in outcome.data["rows"]] == expected, "it was called before"


async def test_rows_that_a_change_returns_have_their_types(run: Run) -> None:
    query = (
        "CREATE TABLE t(day DATE, amount DECIMAL(9,2));"
        " INSERT INTO t SELECT DATE '2026-01-01', 1.5 FROM range(9000) RETURNING day, amount, day"
    )
    table = (await run("duckdb", {"query": query})).data["rows"]
    assert table.schema.types == [pa.date32(), pa.decimal128(9, 2), pa.date32()]
    assert table[8999] == {"day": "2026-01-01", "amount": 1.5, "day_2": "2026-01-01"}


async def test_rows_of_other_statements_than_select_are_a_table_as_well(run: Run) -> None:
    sql = "CREATE TABLE t (n int, u uhugeint); INSERT INTO t SELECT range, range FROM range(9000) RETURNING *"
    outcome = await run("duckdb", {"query": sql})
    assert isinstance(outcome.data["rows"], Table)
    assert (outcome.data["row_count"], outcome.data["rows"][8_999]) == (9_000, {"n": 8_999, "u": 8_999})


async def test_rows_have_no_limit_but_a_given_one(run: Run) -> None:
    query = "SELECT range AS n FROM range(200000)"
    assert (await run("duckdb", {"query": query})).data["row_count"] == 200_000
    outcome = await run("duckdb", {"query": query, "max_rows": 150_000})
    assert outcome.error is not None
    assert outcome.error["code"] == "duckdb.too_many_rows"


async def test_reading_the_rows_can_be_interrupted(run: Run) -> None:
    query = "SELECT a.range + b.range AS n FROM range(1000000) a, range(1000000) b"
    outcome = await run("duckdb", {"query": query}, timeout=0.3)
    assert outcome.error is not None
    assert outcome.error["code"] == "duckdb.timeout"


async def test_an_error_in_a_late_row_fails_the_task_and_closes_the_file(run: Run) -> None:
    opened: list[int] = []

    def open_file(size: int) -> int:
        opened.append(memory_file(size))
        return opened[-1]

    query = "SELECT range AS n, CASE WHEN range > 300000 THEN error('boom') END AS e FROM range(1000000)"
    outcome = await run("duckdb", {"query": query}, files=OpenedBy(open_file))
    assert outcome.error is not None
    assert (outcome.error["code"], "boom" in outcome.error["message"]) == ("duckdb.error", True)
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


async def test_a_full_disk_is_an_error(run: Run) -> None:
    def open_file(size: int) -> int:
        return os.open("/dev/full", os.O_RDWR)

    outcome = await run("duckdb", {"query": "SELECT range AS n FROM range(3000000)"}, files=OpenedBy(open_file))
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["retryable"]) == ("duckdb.files", True)


async def test_a_value_that_a_table_cannot_hold_names_the_remedy(run: Run) -> None:
    query = "SELECT 170141183460469231731687303715884105727::hugeint - range AS h FROM range(100000)"
    outcome = await run("duckdb", {"query": query})
    assert outcome.error is not None
    assert "column h: " in outcome.error["message"]
    assert "cast it to VARCHAR" in outcome.error["message"]
    text = await run("duckdb", {"query": query.replace("- range AS", "::varchar AS")})
    assert text.data["rows"][0] == {"h": "170141183460469231731687303715884105727"}


def table_of(found: Any, **value: Any) -> Table:
    file = memory_file(0)
    return Table(MappedFile(file, write_table(file, found, **value).bytes))


async def test_a_table_is_read_where_it_is(run: Run) -> None:
    table = table_of(pa.table({"n": range(50_000), "text": [f"t{n}" for n in range(50_000)]}))
    query = "SELECT sum(a.n) AS s, max(b.text) AS t FROM orders a JOIN orders b USING (n)"
    outcome = await run("duckdb", {"query": query}, {"orders": table})
    assert outcome.data["rows"] == [{"s": sum(range(50_000)), "t": "t9999"}]


@pytest.mark.parametrize("many", [False, True])
async def test_the_result_of_a_step_is_a_table_by_the_name_of_the_input(run: Run, many: bool) -> None:
    loaded = await run("duckdb", {"query": "SELECT range AS n FROM range($m)"}, {"m": 20_000 if many else 3})
    assert isinstance(loaded.data["rows"], Table if many else list)
    for given in (loaded.data, loaded.data["rows"]):
        outcome = await run("duckdb", {"query": "SELECT count(*) AS n, max(n) AS m FROM Orders"}, {"orders": given})
        assert outcome.data["rows"] == [{"n": 20_000, "m": 19_999} if many else {"n": 3, "m": 2}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "has no rows, and so no columns, and is no table: `output: {inline_max_bytes: 0}`"),
        ({"rows": [], "row_count": 0, "columns": ["n"]}, "has no rows, and so no columns, and is no table"),
        ({"data": [], "row_count": 0, "status_code": 200}, "has no rows, and so no columns, and is no table"),
        (None, "is null, and no table: give it a table, or a list of objects"),
        ([1], "is a value of type list, and no table"),
    ],
)
async def test_an_input_that_is_no_table_is_named_with_what_to_do(run: Run, given: Any, said: str) -> None:
    outcome = await run("duckdb", {"query": "SELECT count(*) AS n FROM Orders"}, {"orders": given})
    assert outcome.error is not None
    assert outcome.error["message"].startswith(f"the input 'orders' {said}"), outcome
    # where SQL does not read it as a table, it is in nobody's way
    assert (await run("duckdb", {"query": "SELECT 1 AS n"}, {"orders": given})).error is None


async def test_a_table_without_rows_is_one(run: Run) -> None:
    found = (await run("duckdb", {"query": "SELECT 1 AS n WHERE false"}, inline_bytes=0)).data
    outcome = await run("duckdb", {"query": "SELECT count(n) AS n FROM t"}, {"t": found})
    assert outcome.data["rows"] == [{"n": 0}]


async def test_of_the_functions_that_duckdb_offers_instead_an_error_has_a_few(run: Run) -> None:
    outcome = await run("duckdb", {"query": "SELECT abs('a', 'b')"})
    assert outcome.error is not None
    lines = outcome.error["message"].split("\n")
    assert lines[0].startswith("Binder Error: No function matches the given name and argument types 'abs(")
    assert len([line for line in lines if " -> " in line]) == 5
    assert lines[-1] == "\t... and 8 more"


async def test_numbers_and_documents_that_are_texts_in_a_table_are_that_in_sql(run: Run) -> None:
    schema = pa.schema([field_of("amount", pa.string(), "decimal"), field_of("doc", pa.string(), "json")])
    table = table_of(pa.table([["1.5", "2", "NaN", None], ['{"a": [1]}', "[2]", "null", None]], schema=schema))
    query = "SELECT sum(amount) AS s, count(amount) AS c, max(doc -> '$.a[0]') AS d FROM t"
    outcome = await run("duckdb", {"query": query}, {"t": table})
    assert outcome.error is None, outcome.error
    assert outcome.data["rows"] == [{"s": 3.5, "c": 2, "d": "1"}]


async def test_a_table_is_bound_as_a_list_if_it_is_small(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(pa.table({"n": [1, 2]}))
    outcome = await run("duckdb", {"query": "SELECT len($t) AS n", "params": {"t": table}})
    assert outcome.data["rows"] == [{"n": 2}]
    monkeypatch.setattr("noetl_serverless.tables.listed.MAX_LISTED_ROWS", 1)
    outcome = await run("duckdb", {"query": "SELECT len($t) AS n", "params": {"t": table}})
    assert outcome.error is not None
    assert "cannot be used as a list" in outcome.error["message"]


async def test_memory_stays_bounded_whatever_the_number_of_rows(run: Run) -> None:
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    before = anonymous()
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        query = "SELECT range AS n, range * 1.5 AS f, 'some text of row ' || range AS t FROM range(4000000)"
        outcome = await run("duckdb", {"query": query})
    finally:
        ended.set()
        watching.join()
    assert outcome.data["rows"].file.size > 160 * 1024 * 1024
    assert peak[0] - before < 96 * 1024 * 1024, f"{(peak[0] - before) >> 20} MiB more than before"


def anonymous() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


async def test_cancelling_ends_the_reading_of_rows(run: Run) -> None:
    query = "SELECT a.range + b.range AS n FROM range(1000000) a, range(1000000) b"
    task = asyncio.create_task(run("duckdb", {"query": query}))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 2


async def test_a_row_of_many_values_is_never_converted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 4 << 20)
    outcome = await run("duckdb", {"query": "SELECT list_resize([]::TINYINT[], 1000000) AS l, 'x' AS t"})
    table = outcome.data["rows"]
    assert isinstance(table, Table)
    assert set(table.beginning(1, 100)[0]["l"]) == {None}
    with pytest.raises(RowTooLarge, match="row 0, column 'l': as a value the row takes at least 7 MiB"):
        table[0]
