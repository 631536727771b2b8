"""Tables out of PostgreSQL and into it."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import polars
import pyarrow as pa
import pytest
from orjson import dumps
from tests.opened_files import OpenedBy

from noetl_serverless.limits import RESULT_DEPTH
from noetl_serverless.playbook.values import InvalidValue, stored
from noetl_serverless.tables import listed
from noetl_serverless.tables.forms import field_of
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import InvalidTable, Table
from noetl_serverless.tables.value import read_value
from noetl_serverless.testing.engine import MemoryEngine
from noetl_serverless.tools import postgres, postgres_rows
from noetl_serverless.tools.duckdb import DuckDB
from noetl_serverless.tools.port import Credential, ToolOutcome

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]

VALUES = """
true | 1::int2 | (-5)::int4 | 9223372036854775807 | 26::oid | 0.1::float4 | 0.1::float8 | 1e22::float8 | 'nan'::float8
'infinity'::float8 | '-infinity'::float4 | 1.50::numeric | 3::numeric | 12345678901234567890.5::numeric | 'nan'::numeric
1.50::numeric(9,2) | 3::numeric(9,2) | 7::numeric(5,0) | 12345678901234567890.25::numeric(30,2) | 'nan'::numeric(9,2)
1234::numeric(2,-3) | 0.00012::numeric(2,5) | 1e40::numeric(60,2) | 'abc' | ''::text | 'x'::varchar(3) | 'y'::char(3)
'a\t"b",\\n''ü'::text | 'n'::name | '00000000-0000-0000-0000-000000000001'::uuid | '\\xff00'::bytea | ''::bytea
'{"a": [1, 1.0, 1e400]}'::json | '{"a": [1]}'::jsonb | 'null'::jsonb | '"x"'::jsonb | date '2024-02-29'
date 'infinity' | date '-infinity' | date '0044-03-15 BC' | date '10000-01-01' | date '0001-01-01' | date '9999-12-31'
time '01:02:03.5' | time '01:02:03' | time '00:00:00.000001' | timetz '01:02:03.5+02' | timestamp '2024-01-02 03:04:05'
timestamp '2024-01-02 03:04:05.25' | timestamp 'infinity' | timestamp '-infinity' | timestamp '0044-03-15 01:02:03.5 BC'
timestamp '10000-01-01 01:02:03' | timestamptz '2024-01-02 03:04:05.123456+02' | timestamptz '2024-01-02 03:04:05+02'
timestamptz 'infinity' | timestamptz '0044-03-15 01:02:03+00 BC' | timestamptz '10000-01-01 01:02:03.5+00'
timestamp '294246-12-31 23:59:59.999999' | timestamp '4713-01-01 00:00:00 BC' | date '5874897-12-31'
interval '1 month 2 days 03:04:05.5' | array[1, null] | array[[1, 2], [3, 4]] | array['x', null, 'a"b'] | '{}'::int[]
array[timestamptz '2024-01-01 00:00:00+00'] | array[1.5] | array['{"a": 1}'::jsonb] | array['nan'::float8] | array[true]
array['00000000-0000-0000-0000-000000000001'::uuid] | int4range(1, 3) | inet '10.0.0.1' | cidr '10.0.0.0/8'
point '(1,2)' | '$1.50'::money | '0101'::bit(4) | 'a=>b'::text | macaddr '08:00:2b:01:02:03'
int4multirange(int4range(1, 3)) | row(1, 'a') | '1 2'::int2vector | null::int
null::text | null::date | null::jsonb | null::int[] | null::numeric | null
"""


@pytest.fixture
def sql(run: Run, postgres_url: str, credentials: dict[str, Credential]) -> Run:
    credentials["wh"] = Credential("wh", "postgres", {"url": postgres_url})

    async def sql(command: Any = None, timeout: float | None = None, given: Any = None, **config: Any) -> ToolOutcome:
        context = {name: config.pop(name) for name in ("inline_bytes", "files") if name in config}
        if command is not None:
            config["command"] = command
        outcome = await run("postgres", {"auth": "wh", **config}, given, timeout, **context)
        assert outcome.data is None or "code" not in outcome.data
        return outcome

    return sql


def code(outcome: ToolOutcome) -> str:
    assert outcome.error is not None
    return str(outcome.error["code"])


def rows(outcome: ToolOutcome) -> Any:
    assert outcome.error is None, outcome.error
    return outcome.data["rows"]


def values() -> list[str]:
    return [part.strip() for line in VALUES.strip().splitlines() for part in line.split(" | ")]


@pytest.mark.parametrize("settings", ["", "SET LOCAL TimeZone = 'Asia/Kolkata';", "SET LOCAL DateStyle = 'SQL';"])
async def test_every_type_has_the_same_json_value_in_a_table_as_in_a_list(
    sql: Run, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    query = settings + "SELECT " + ", ".join(f"{value} AS c{index}" for index, value in enumerate(values()))
    table = rows(await sql(query, inline_bytes=1))
    assert isinstance(table, Table)
    monkeypatch.setattr(postgres, "_has_arrow", lambda: False)
    plain = rows(await sql(query))
    assert isinstance(plain, list)
    given, expected = (dict(zip(values(), map(dumps, row.values()), strict=True)) for row in (table[0], plain[0]))
    assert given == expected


async def test_many_rows_are_a_typed_table(sql: Run) -> None:
    outcome = await sql(
        "SELECT n, n::int2 % 100::int2 AS small, (n * 0.5)::numeric(9, 1) AS half, 'row ' || n AS name, true AS flag,"
        " timestamptz '2024-01-01 00:00:00+00' + n * interval '1 s' AS at, 1 AS n FROM generate_series(1, 20000) AS n"
    )
    table = outcome.data.pop("rows")
    assert outcome.data == {
        "status": "ok",
        "row_count": 20_000,
        "columns": ["n", "small", "half", "name", "flag", "at", "n_2"],
        "statement_count": 1,
    }
    types = [
        pa.int32(),
        pa.int16(),
        pa.decimal128(9, 1),
        pa.string(),
        pa.bool_(),
        pa.timestamp("us", "UTC"),
        pa.int32(),
    ]
    assert table.schema.types == types
    expected = {"half": 10_000.0, "name": "row 20000", "flag": True, "at": "2024-01-01T05:33:20+00:00", "n_2": 1}
    assert table[-1] == {"n": 20_000, "small": 0, **expected}
    # what is read back from the file is the result as the step gave it
    assert {**read_value(table.file), "rows": None} == {**outcome.data, "rows": None}


async def test_rows_that_a_statement_returns_are_a_table_once_it_is_committed(sql: Run) -> None:
    await sql("CREATE TABLE t (n int)")
    outcome = await sql("INSERT INTO t SELECT generate_series(1, 20000) RETURNING n")
    assert isinstance(rows(outcome), Table)
    assert rows(await sql("SELECT count(*) AS n FROM t")) == [{"n": 20_000}]


async def test_statements_outside_of_a_transaction_give_tables_too(sql: Run) -> None:
    outcome = await sql("SELECT generate_series(1, 20000) AS n", transaction=False)
    assert (isinstance(rows(outcome), Table), len(rows(outcome))) == (True, 20_000)
    assert rows(await sql("SELECT 1 AS n")) == [{"n": 1}]


async def test_rows_of_each_statement_are_lists(sql: Run) -> None:
    outcome = await sql("SELECT generate_series(1, 20000) AS n; SELECT 1 AS n", each_statement=True)
    assert isinstance(outcome.data["command_0"]["rows"], list)


async def test_values_of_any_length_and_number_arrive_whole(sql: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_rows, "_READ_BYTES", 700)
    monkeypatch.setattr(postgres_rows, "_BATCH_BYTES", 5_000)
    query = (
        "SELECT n, CASE WHEN n % 7 > 0 THEN repeat(chr(97 + n % 26), n * n % 3000) END AS t,"
        " CASE WHEN n = 50 THEN repeat('x', 3000000) END AS long FROM generate_series(1, 500) AS n"
    )
    table = rows(await sql(query))
    assert isinstance(table, Table)
    for n, row in enumerate(table, start=1):
        text = chr(97 + n % 26) * (n * n % 3000) if n % 7 else None
        assert row == {"n": n, "t": text, "long": "x" * 3_000_000 if n == 50 else None}


async def test_limits_hold_where_they_are_given(sql: Run) -> None:
    query = "SELECT generate_series(1, 200000) AS n"
    assert len(rows(await sql(query))) == 200_000
    assert code(await sql(query, max_rows=150_000)) == "postgres.too_many_rows"
    assert len(rows(await sql(query, max_rows=200_000))) == 200_000
    assert code(await sql(query, max_bytes=1_000_000)) == "postgres.too_many_rows"
    # after what ended a connection
    assert rows(await sql("SELECT 1 AS n")) == [{"n": 1}]


async def test_a_worker_without_pyarrow_gives_lists_within_their_limits(
    sql: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_has_arrow", lambda: False)
    query = "SELECT generate_series(1, $n) AS n".replace("$n", "%(n)s")
    found = rows(await sql(query, params={"n": 50_000}))
    assert (type(found), len(found)) == (list, 50_000)
    assert code(await sql(query, params={"n": 100_001})) == "postgres.too_many_rows"
    assert len(rows(await sql(query, params={"n": 100_001}, max_rows=200_000))) == 100_001


async def test_an_error_in_a_late_row_fails_the_task_and_closes_the_file(sql: Run) -> None:
    opened: list[int] = []

    def open_file(size: int) -> int:
        opened.append(memory_file(size))
        return opened[-1]

    query = "SELECT n, 1 / (150000 - n) AS d FROM generate_series(1, 200000) AS n"
    outcome = await sql(query, files=OpenedBy(open_file))
    assert (code(outcome), outcome.extra["pg"]["code"]) == ("postgres.error", "22012")
    assert opened
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("time '24:00'", "column 't' has the time 24:00:00, which a table cannot hold; cast it to text"),
        ("timestamp '294270-01-01'", "column 't' has an instant after the year 294246, which a table cannot hold"),
    ],
)
async def test_a_value_that_a_table_cannot_hold_names_the_remedy(sql: Run, value: str, fault: str) -> None:
    outcome = await sql(f"SELECT n, {value} AS t FROM generate_series(1, 20000) AS n")
    assert outcome.error is not None
    assert fault in outcome.error["message"]


async def test_a_timeout_and_a_cancellation_end_the_reading_of_rows(sql: Run) -> None:
    query = "SELECT generate_series(1, 100000000) AS n, repeat('x', 100) AS t"
    assert code(await sql(query, timeout=0.5)) == "postgres.timeout"
    task = asyncio.create_task(sql(query))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 2


async def test_memory_stays_bounded_whatever_the_number_of_rows(sql: Run) -> None:
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    rows(await sql("SELECT 1", inline_bytes=1))
    before = anonymous()
    watching = threading.Thread(target=watch)
    watching.start()
    try:
        table = rows(
            await sql("SELECT n, n * 1.5::float8 AS f, repeat('x', 200) AS t FROM generate_series(1, 250000) n")
        )
    finally:
        ended.set()
        watching.join()
    assert table.file.size > 50 * 1024 * 1024
    assert peak[0] - before < 80 * 1024 * 1024, f"{(peak[0] - before) >> 20} MiB more than before"


def anonymous() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


# -- into PostgreSQL


def table_of(found: Any, **value: Any) -> Table:
    file = memory_file(0)
    return Table(MappedFile(file, write_table(file, found, **value).bytes))


NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 123456)
COLUMNS: dict[str, tuple[pa.DataType, list[Any], list[str]]] = {
    "i": (pa.int64(), [1, -(2**63), None], ["bigint", "text", "numeric", "jsonb"]),
    "u": (pa.uint64(), [2**64 - 1, 0, None], ["numeric", "text"]),
    "f": (pa.float64(), [0.1, 1e22, float("nan")], ["float8", "float4", "numeric", "text", "jsonb"]),
    "g": (pa.float32(), [0.1, 2.0, float("-inf")], ["float8", "float4", "numeric", "text"]),
    "b": (pa.bool_(), [True, False, None], ["boolean", "text"]),
    "t": (pa.string(), ['a,"b"\t\\N', "", None], ["text", "varchar", "json"]),
    "l": (pa.large_string(), ["line\nbreak\r\n", "\\.", "ü"], ["text"]),
    "d": (pa.decimal128(9, 2), [decimal.Decimal("1.50"), decimal.Decimal("-3.00"), None], ["numeric(9,2)", "float8"]),
    "e": (pa.dictionary(pa.int8(), pa.string()), ["x", "y", None], ["text"]),
    "day": (pa.date32(), [NOON.date(), datetime.date(1, 1, 1), None], ["date", "text", "timestamp"]),
    "far": (pa.int32(), [2932896, -719162, None], ["int"]),
    "at": (pa.timestamp("us"), [NOON, NOON.replace(microsecond=0), None], ["timestamp", "timestamptz", "text", "date"]),
    "ns": (pa.timestamp("ns"), [NOON, NOON.replace(microsecond=0), None], ["timestamp", "text"]),
    "s": (pa.timestamp("s", "UTC"), [NOON.replace(microsecond=0), None, None], ["timestamp", "timestamptz", "text"]),
    "z": (pa.timestamp("us", "Asia/Kolkata"), [NOON, None, None], ["timestamp", "timestamptz", "text"]),
    "h": (pa.time64("us"), [NOON.time(), datetime.time(1, 2), None], ["time", "text"]),
    "y": (pa.binary(), [b"\xff\x00", b"", None], ["text", "bytea"]),
    "n": (pa.null(), [None, None, None], ["int", "text"]),
    "a": (pa.list_(pa.int64()), [[1, None], [], None], ["int[]", "jsonb", "text"]),
    "aa": (pa.list_(pa.list_(pa.string())), [[["a", "b,"], ["c", None]], [], None], ["text[]", "jsonb"]),
    "o": (
        pa.struct([("k", pa.int64()), ("v", pa.date32())]),
        [{"k": 1, "v": NOON.date()}, None, None],
        ["jsonb", "text"],
    ),
}


async def test_a_table_loads_the_values_that_a_list_of_its_rows_does(sql: Run) -> None:
    names = [(name, type_) for name, (_, _, types) in COLUMNS.items() for type_ in types]
    targets = [f"{name}_{index}" for index, (name, _) in enumerate(names)]
    arrays = [pa.array(COLUMNS[name][1], COLUMNS[name][0]) for name, _ in names]
    # a text that is a number or JSON goes where those go
    arrays = [
        pa.array(['"q"', "[1]", None]) if name == "t" and type_ == "json" else array
        for array, (name, type_) in zip(arrays, names, strict=True)
    ]
    table = table_of(pa.table(arrays, targets))
    columns = ", ".join(f"{target} {type_}" for target, (_, type_) in zip(targets, names, strict=True))
    await sql(f"CREATE TABLE by_table ({columns}); CREATE TABLE by_list ({columns})")
    for name, given in (("by_table", table), ("by_list", list(table))):
        outcome = await sql(table=name, rows=given)
        assert outcome.error is None, outcome.error
        assert outcome.data == {
            "status": "ok",
            "rows": [],
            "row_count": 3,
            "columns": targets,
            "statement_count": 1,
        }
    quoted = ", ".join(f"{target}::text" for target in targets)
    found = [rows(await sql(f"SELECT {quoted} FROM {name}")) for name in ("by_table", "by_list")]
    different = {
        key: ([row[key] for row in found[0]], [row[key] for row in found[1]], names[index])
        for index, key in enumerate(found[0][0])
        if [row[key] for row in found[0]] != [row[key] for row in found[1]]
    }
    assert not different


async def test_what_comes_out_of_postgres_goes_into_it_unchanged(sql: Run) -> None:
    typed = (
        "n int, v numeric, m numeric(20, 3), j jsonb, d date, ts timestamp, tz timestamptz, tm time, f real, a int[],"
        " u uuid, t text, iv interval, b boolean"
    )
    await sql(
        f"CREATE TABLE source ({typed}); CREATE TABLE target ({typed}); INSERT INTO source SELECT n, n / 7.0, n / 3.0,"
        " jsonb_build_object('n', n, 'l', array[n]), date 'epoch' + n, timestamp 'epoch' + n * interval '1.5 s',"
        " CASE WHEN n % 100 = 0 THEN 'infinity' ELSE timestamptz 'epoch' + n * interval '1.000001 s' END,"
        " (n % 86400) * interval '1 s', n / 3.0, array[n, null], md5(n::text)::uuid, nullif(repeat('a,\"', n % 3), ''),"
        " n * interval '1 h', n % 2 = 0 FROM generate_series(1, 20000) AS n"
    )
    table = rows(await sql("SELECT * FROM source"))
    assert isinstance(table, Table)
    assert (await sql(table="target", rows=table)).data["row_count"] == 20_000
    assert rows(await sql("SELECT count(*) AS n FROM (TABLE source EXCEPT TABLE target) AS d")) == [{"n": 0}]


@pytest.mark.parametrize("count", [3, 5_000])
async def test_infinity_stays_what_it_is_on_its_way_through_duckdb(sql: Run, run: Run, count: int) -> None:
    typed = "n int, day date, at timestamp, tz timestamptz"
    await sql(
        f"CREATE TABLE source ({typed}); CREATE TABLE target ({typed}); INSERT INTO source SELECT n,"
        " CASE n % 3 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE date '2026-01-01' END,"
        " CASE n % 3 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE timestamp '2026-01-01 12:00:00.5' END,"
        " CASE n % 3 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' ELSE timestamptz '2026-01-01 12:00:00.5+00' END"
        f" FROM generate_series(1, {count}) AS n"
    )
    found = rows(await sql("SELECT * FROM source ORDER BY n"))
    read = await run("duckdb", {"query": "SELECT * FROM t ORDER BY n"}, {"t": found})
    assert isinstance(rows(read), list if count == 3 else Table)
    assert [row["tz"] for row in rows(read)[:3]] == ["-infinity", "2026-01-01T12:00:00.500000+00:00", "infinity"] or (
        count == 3 and [row["tz"] for row in rows(read)[::2]] == ["-infinity", "infinity"]
    )
    assert (await sql(table="target", rows=rows(read))).data["row_count"] == count
    assert rows(await sql("SELECT count(*) AS n FROM (TABLE source EXCEPT TABLE target) AS d")) == [{"n": 0}]


@pytest.mark.parametrize("form", ["list", "table", "polars"])
async def test_bytes_come_back_as_they_were(sql: Run, form: str) -> None:
    typed = "n int, b bytea, bs bytea[]"
    await sql(
        f"CREATE TABLE source ({typed}); CREATE TABLE target ({typed}); INSERT INTO source"
        r" VALUES (1, '\x00ff', array['\x00ff'::bytea, null]), (2, '', '{}'), (3, null, null)"
    )
    found = rows(await sql("SELECT * FROM source ORDER BY n", inline_bytes=1 << 20 if form == "list" else 0))
    if form == "polars":
        found = table_of(pa.table(polars.DataFrame(pa.Table.from_batches(found.batches()))))
    assert isinstance(found, list if form == "list" else Table)
    assert (await sql(table="target", rows=found)).error is None
    query = "SELECT n, encode(b, 'hex') AS b, (SELECT encode(bs[1], 'hex')) AS first, array_length(bs, 1) AS n_bs"
    expected = rows(await sql(f"{query} FROM source ORDER BY n"))
    assert expected[0] == {"n": 1, "b": "00ff", "first": "00ff", "n_bs": 2}
    assert rows(await sql(f"{query} FROM target ORDER BY n")) == expected


async def test_a_text_in_a_table_is_base64_or_hex_for_a_column_of_bytes(sql: Run) -> None:
    await sql("CREATE DOMAIN raw AS bytea; CREATE TABLE t (b raw)")
    table = table_of(pa.table({"b": pa.array(["AP8=", r"\x00ff", None]).dictionary_encode()}))
    assert (await sql(table="t", rows=table)).error is None
    assert rows(await sql("SELECT encode(b, 'hex') AS b FROM t")) == [{"b": "00ff"}, {"b": "00ff"}, {"b": None}]
    texts = ["AP8="] * 20_000 + ["plain text"]
    batches = pa.table({"a": texts, "b": texts}).to_batches(max_chunksize=3_000)
    await sql("CREATE TABLE two (a text, b bytea)")
    outcome = await sql(table="two", rows=table_of(pa.Table.from_batches(batches)))
    assert (code(outcome), outcome.error["message"]) == (  # type: ignore[index]
        "postgres.sql",
        r"row 20000 (counted from 0), column 'b': the column is bytea, and takes base64, or hex after \x: this text is "
        "neither",
    )
    assert rows(await sql("SELECT count(*) AS n FROM two")) == [{"n": 0}]


async def test_columns_and_mode_are_those_of_lists(sql: Run) -> None:
    table = table_of(pa.table({"a": [1, 2], "b": ["x", "y"]}))
    await sql("CREATE TABLE t (a int, b text, c int DEFAULT 7); INSERT INTO t VALUES (9, 'z', 9)")
    outcome = await sql(table="t", rows=table, columns=["b"], mode="replace")
    assert (outcome.data["row_count"], outcome.data["columns"]) == (2, ["b"])
    assert rows(await sql("SELECT * FROM t")) == [{"a": None, "b": "x", "c": 7}, {"a": None, "b": "y", "c": 7}]
    empty = table_of(pa.table({"a": pa.array([], pa.int64())}))
    assert (await sql(table="t", rows=empty, mode="replace")).data["row_count"] == 0
    assert rows(await sql("SELECT * FROM t")) == []
    single = table_of(pa.table({"a": [None, 3, None]}))
    assert (await sql(table="t", rows=single)).data["row_count"] == 3
    assert rows(await sql("SELECT count(*) AS n, sum(a) AS s FROM t")) == [{"n": 3, "s": 3}]


@pytest.mark.parametrize("given", ["table", "rows"])
async def test_columns_that_are_nowhere_in_the_rows_are_refused_before_anything_is_deleted(
    sql: Run, given: str
) -> None:
    found = [{"id": 1, "name": "x"}, {"id": 2, "more": 1}]
    data = table_of(pa.Table.from_pylist(found[:1])) if given == "table" else found
    await sql("CREATE TABLE t (id int, name text, nam text, more int); INSERT INTO t VALUES (9)")
    outcome = await sql(table="t", rows=data, columns=["id", "nam"], mode="replace")
    assert outcome.error is not None and outcome.error["code"] == "postgres.sql", outcome
    what = "the table has no column" if given == "table" else "no row has the key"
    assert outcome.error["message"] == f"'columns': {what} 'nam'; did you mean 'name'?"
    assert rows(await sql("SELECT id FROM t")) == [{"id": 9}]
    if given == "rows":
        assert (await sql(table="t", rows=data, columns=["id", "more"])).data["row_count"] == 2


async def test_a_limit_of_zero_keeps_the_types_of_any_number_of_rows(sql: Run) -> None:
    for count in (0, 10):
        query = f"SELECT n::int2 AS n, date '2024-01-01' AS d FROM generate_series(1, {count}) AS n"
        found = (await sql(query, inline_bytes=0)).data
        assert isinstance(found["rows"], Table) and found["row_count"] == count
        assert found["rows"].schema.types == [pa.int16(), pa.date32()]
    assert rows(await sql("CREATE TABLE t (n int)", inline_bytes=0)) == []
    failed = await sql("SELECT 1 / (n - n) FROM generate_series(1, 2) AS n", inline_bytes=0)
    assert failed.error is not None and "division by zero" in failed.error["message"]
    assert rows(await sql("SELECT 1 AS n")) == [{"n": 1}]


async def test_a_value_that_does_not_fit_loads_nothing(sql: Run) -> None:
    await sql("CREATE TABLE t (a int)")
    outcome = await sql(table="t", rows=table_of(pa.table({"a": ["1", "x"]})))
    assert outcome.error is not None
    assert 'invalid input syntax for type integer: "x"' in outcome.error["message"]
    assert rows(await sql("SELECT count(*) AS n FROM t")) == [{"n": 0}]


@pytest.mark.parametrize("is_table", [False, True])
@pytest.mark.parametrize(
    ("type_", "values", "message"),
    [
        ("varchar(5)", ["a", "b", "too long"], "value too long for type character varying(5)"),
        ("int", ["1", "2", "n0"], 'invalid input syntax for type integer: "n0"'),
        ("smallint", ["1", "2", "40000"], 'value "40000" is out of range for type smallint'),
    ],
)
async def test_an_error_says_in_which_line_and_column_of_the_rows_it_is(
    sql: Run, is_table: bool, type_: str, values: list[str], message: str
) -> None:
    await sql(f"CREATE TABLE t (a text, b {type_})")
    found = [{"a": "x", "b": value} for value in values]
    outcome = await sql(table="t", rows=table_of(pa.Table.from_pylist(found)) if is_table else found)
    assert outcome.error is not None
    assert outcome.error["message"].startswith(f"{message}. COPY t, line 3, column b (22"), outcome


async def test_a_table_that_is_a_parameter_is_a_list_if_it_is_small(sql: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(pa.table([["1.5", "2"]], schema=pa.schema([field_of("v", pa.string(), "decimal")])))
    query = "SELECT %(t)s::jsonb AS t"
    assert rows(await sql(query, params={"t": table})) == [{"t": [{"v": 1.5}, {"v": 2}]}]
    monkeypatch.setattr(listed, "MAX_LISTED_ROWS", 1)
    outcome = await sql(query, given={"t": table})
    assert outcome.error is not None
    assert "a table of 2 rows" in outcome.error["message"]
    # one that no statement reads is in nobody's way
    assert rows(await sql("SELECT 1 AS n", given={"t": table})) == [{"n": 1}]


async def test_many_rows_without_columns_are_refused(sql: Run) -> None:
    outcome = await sql("SELECT FROM generate_series(1, 100000)")
    assert outcome.error is not None and outcome.error["code"] == "postgres.sql", outcome
    assert "the rows have no columns" in outcome.error["message"]


@pytest.mark.parametrize("few", [True, False])
async def test_arrays_that_went_through_polars_go_back_into_arrays(sql: Run, few: bool) -> None:
    typed = "n int, a int[], t text[], f float8[], aa int[], j jsonb"
    await sql(
        f"CREATE TABLE source ({typed}); CREATE TABLE target ({typed}); INSERT INTO source SELECT n, array[n, null],"
        " array['x', 'y,\"z', null], array[n / 7.0], CASE WHEN n % 2 = 0 THEN array[[1, n], [3, 4]] END,"
        " jsonb_build_object('n', n) FROM generate_series(1, 20000) AS n"
    )
    table = rows(await sql("SELECT * FROM source"))
    # without what says of the texts that they are JSON
    bare = table_of(pa.table(polars.DataFrame(pa.Table.from_batches(table.batches()))))
    assert (await sql(table="target", rows=list(bare) if few else bare)).data["row_count"] == 20_000
    assert rows(await sql("SELECT count(*) AS n FROM (TABLE source EXCEPT TABLE target) AS d")) == [{"n": 0}]


@pytest.mark.parametrize("depth", [120, 300, 2_000])
async def test_a_document_that_is_too_deep_is_refused_in_a_list_and_in_a_table(sql: Run, depth: int) -> None:
    command = f"SELECT 1 AS n, (repeat('[', {depth}) || repeat(']', {depth}))::jsonb AS j"
    with pytest.raises(InvalidValue, match="nested deeper than 112 levels"):
        stored((await sql(command)).data, levels=RESULT_DEPTH)
    with pytest.raises(InvalidTable, match=r"row 0, column 'j': the document is nested deeper than 109 levels"):
        rows(await sql(command, inline_bytes=1))[0]


async def test_the_upsert_of_the_page_inserts_and_updates(sql: Run, postgres_url: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "playbooks" / "README.md").read_text()
    found = re.search(r"^An upsert of a table.*\n\n((?:    .*\n)+)", page, re.MULTILINE)
    assert found is not None, "playbooks/README.md shows no upsert"
    head = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: upsert, path: t/upsert}\n"

    async def credential(name: str) -> Credential:
        return Credential(name, "postgres", {"url": postgres_url})

    tools: dict[str, Any] = {"duckdb": DuckDB(), "postgres": postgres.Postgres()}
    engine = MemoryEngine(tools.__getitem__, tmp_path, python=cast(Any, None), credential=credential, now=1.8e9)
    engine.catalog.register(head + dedent(found[1]))
    await sql("CREATE TABLE customers (id bigint PRIMARY KEY, name text)")
    await sql("INSERT INTO customers VALUES (7, 'old'), (-1, 'kept')")
    try:
        id = await engine.start("t/upsert", {})
        await engine.run_until_idle()
    finally:
        for tool in tools.values():
            await tool.close()
    state = (await engine.event_store.load([id]))[id].state
    assert (state.status, state.error) == ("completed", None)
    names = rows(await sql("SELECT name FROM customers WHERE id IN (-1, 7, 19999) ORDER BY id"))
    assert [row["name"] for row in names] == ["kept", "new 7", "new 19999"]
    assert rows(await sql("SELECT count(*) AS n FROM pg_class WHERE relname LIKE 'staged%'")) == [{"n": 0}]
